"""Losses."""

from .size_balanced_ce_loss import SizeBalancedCELoss

__all__ = ["SizeBalancedCELoss"]
