from .axes import keep_channels_first
from .weights import weights_fixed

__all__ = ["keep_channels_first", "weights_fixed"]
