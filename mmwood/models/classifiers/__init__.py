from .adv_cam import AdvCAM
from .cam_classifier import CAMClassifier
from .multi_scale_cam import MultiScaleCAM

__all__ = ["AdvCAM", "CAMClassifier", "MultiScaleCAM"]
