"""Classification heads."""

from .cam_head import CAMHead
from .wood_head import WOoDHead, WOoDMixin

__all__ = ["CAMHead", "WOoDHead", "WOoDMixin"]
