from .seg_tta import SegTTAModel

__all__ = ["SegTTAModel"]
