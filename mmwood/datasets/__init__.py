from .candidates import CandidateDataset, write_candidate_list
from .image_level import ImageLevelDataset
from .ood import OoDDataset, OoDMixDataset
from .samplers import OoDRatioSampler
from .transforms import (
    AffinityLabel,
    LoadImage,
    LoadScoreMaps,
    LoadSemanticMask,
    RandomSoften,
)

__all__ = [
    "AffinityLabel",
    "CandidateDataset",
    "ImageLevelDataset",
    "LoadImage",
    "LoadScoreMaps",
    "LoadSemanticMask",
    "OoDDataset",
    "OoDMixDataset",
    "OoDRatioSampler",
    "RandomSoften",
    "write_candidate_list",
]
