"""Data sets, samplers and transforms, which register themselves."""

from .candidates import CandidateDataset
from .image_level import ImageLevelDataset
from .ood import OoDDataset
from .ood_background import OoDBackgroundDataset
from .ood_mix import OoDMixDataset
from .samplers import OoDFractionSampler, OoDRatioSampler
from .transforms import (
    AffinityLabel,
    LoadImage,
    LoadScoreMaps,
    LoadSemanticMask,
    RandomFlip,
    RandomSoften,
    UniformLabel,
)

__all__ = [
    "AffinityLabel",
    "CandidateDataset",
    "ImageLevelDataset",
    "LoadImage",
    "LoadScoreMaps",
    "LoadSemanticMask",
    "OoDBackgroundDataset",
    "OoDDataset",
    "OoDFractionSampler",
    "OoDMixDataset",
    "OoDRatioSampler",
    "RandomFlip",
    "RandomSoften",
    "UniformLabel",
]
