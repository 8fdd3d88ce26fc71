"""Transforms, which register themselves."""

from .affinity_label import AffinityLabel
from .flipping import RandomFlip
from .loading import LoadImage, LoadScoreMaps, LoadSemanticMask
from .rescaling import Rescale
from .softening import RandomSoften
from .uniform_label import UniformLabel

__all__ = [
    "AffinityLabel",
    "LoadImage",
    "LoadScoreMaps",
    "LoadSemanticMask",
    "RandomFlip",
    "RandomSoften",
    "Rescale",
    "UniformLabel",
]
