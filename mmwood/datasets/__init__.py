"""Data sets, samplers and transforms, which register themselves."""

from .candidates import CandidateDataset
from .image_level import ImageLevelDataset
from .ood import OoDDataset
from .ood_mix import OoDMixDataset
from .samplers import OoDRatioSampler
from .transforms import (
    AffinityLabel,
    LoadImage,
    LoadScoreMaps,
    LoadSemanticMask,
    RandomFlip,
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
    "RandomFlip",
    "RandomSoften",
]
