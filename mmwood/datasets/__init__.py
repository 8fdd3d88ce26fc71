from .image_level import ImageLevelDataset
from .transforms import *  # noqa: F403

__all__ = ["ImageLevelDataset"]
