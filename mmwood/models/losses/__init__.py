"""Losses."""

from .fine_grained_background_loss import FineGrainedBackgroundLoss
from .patch_token_contrast_loss import PatchTokenContrastLoss
from .size_balanced_ce_loss import SizeBalancedCELoss
from .token_contrast_loss import TokenContrastLoss

__all__ = [
    "FineGrainedBackgroundLoss",
    "PatchTokenContrastLoss",
    "SizeBalancedCELoss",
    "TokenContrastLoss",
]
