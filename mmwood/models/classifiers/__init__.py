"""Classifiers, and what merges their maps in tests."""

from .adv_cam import AdvCAM
from .cam_classifier import CAMClassifier
from .multi_scale_cam import MultiScaleCAM
from .seam import SEAM
from .timm_network import TimmNetwork

__all__ = ["SEAM", "AdvCAM", "CAMClassifier", "MultiScaleCAM", "TimmNetwork"]
