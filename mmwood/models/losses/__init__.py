"""Losses."""

from .fine_grained_background_loss import FineGrainedBackgroundLoss
from .map_consistency_loss import MapConsistencyLoss
from .patch_token_contrast_loss import PatchTokenContrastLoss
from .size_balanced_ce_loss import SizeBalancedCELoss
from .token_contrast_loss import TokenContrastLoss

__all__ = [
    "FineGrainedBackgroundLoss",
    "MapConsistencyLoss",
    "PatchTokenContrastLoss",
    "SizeBalancedCELoss",
    "TokenContrastLoss",
]
