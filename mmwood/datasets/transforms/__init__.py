from .loading import LoadImage, LoadSemanticMask
from .softening import RandomSoften

__all__ = ["LoadImage", "LoadSemanticMask", "RandomSoften"]
