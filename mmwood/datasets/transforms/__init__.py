from .affinity_label import AffinityLabel
from .loading import LoadImage, LoadScoreMaps, LoadSemanticMask
from .softening import RandomSoften

__all__ = [
    "AffinityLabel",
    "LoadImage",
    "LoadScoreMaps",
    "LoadSemanticMask",
    "RandomSoften",
]
