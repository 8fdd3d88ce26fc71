"""Context shapes: :mod:`~mmwood.converters.context_shapes.build` says what they are."""

from mmwood.converters.context_shapes.build import generate
from mmwood.converters.context_shapes.sample import draw_sample

__all__ = ["draw_sample", "generate"]
