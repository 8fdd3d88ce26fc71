"""Losses."""

from .fine_grained_background_loss import FineGrainedBackgroundLoss
from .size_balanced_ce_loss import SizeBalancedCELoss

__all__ = ["FineGrainedBackgroundLoss", "SizeBalancedCELoss"]
