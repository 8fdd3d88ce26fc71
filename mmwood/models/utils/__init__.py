"""What several models need."""

from .attention import AttentionReader, count_extra_tokens
from .axes import keep_channels_first
from .batches import step_by_shape
from .class_tokens import ClassTokens, Views
from .fields import refuse_left_behind, with_defaults
from .weights import weights_fixed

__all__ = [
    "AttentionReader",
    "ClassTokens",
    "Views",
    "count_extra_tokens",
    "keep_channels_first",
    "refuse_left_behind",
    "step_by_shape",
    "weights_fixed",
    "with_defaults",
]
