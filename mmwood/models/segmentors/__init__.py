"""What merges segmentors' predictions in tests."""

from .seg_tta import SegTTAModel

__all__ = ["SegTTAModel"]
