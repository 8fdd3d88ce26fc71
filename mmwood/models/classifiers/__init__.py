from .cam_classifier import CAMClassifier
from .multi_scale_cam import MultiScaleCAM

__all__ = ["CAMClassifier", "MultiScaleCAM"]
