from .image_level import ImageLevelDataset
from .transforms import LoadImage, LoadSemanticMask

__all__ = ["ImageLevelDataset", "LoadImage", "LoadSemanticMask"]
