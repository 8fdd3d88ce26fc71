from .cam_head import CAMHead
from .wood_head import WOoDHead

__all__ = ["CAMHead", "WOoDHead"]
