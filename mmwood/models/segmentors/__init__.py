"""Segmentors, and what merges their predictions in tests."""

from .multi_scale import MultiScaleEncoderDecoder
from .seg_tta import SegTTAModel

__all__ = ["MultiScaleEncoderDecoder", "SegTTAModel"]
