from .candidates import CandidateDataset, write_candidate_list
from .image_level import ImageLevelDataset
from .ood import OoDDataset, OoDMixDataset
from .samplers import OoDRatioSampler
from .transforms import LoadImage, LoadSemanticMask, RandomSoften

__all__ = [
    "CandidateDataset",
    "ImageLevelDataset",
    "LoadImage",
    "LoadSemanticMask",
    "OoDDataset",
    "OoDMixDataset",
    "OoDRatioSampler",
    "RandomSoften",
    "write_candidate_list",
]
