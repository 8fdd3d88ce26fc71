from .axes import keep_channels_first
from .fields import refuse_left_behind
from .weights import weights_fixed

__all__ = ["keep_channels_first", "refuse_left_behind", "weights_fixed"]
