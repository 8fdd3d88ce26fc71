"""Context shapes: :mod:`~mmwood.converters.context_shapes.build` says what they are."""

from mmwood.converters.context_shapes.build import generate
from mmwood.converters.context_shapes.sample import (
    CLASSES,
    CONTEXTS,
    NEUTRAL_CONTEXTS,
    Sample,
    draw_sample,
)

__all__ = [
    "CLASSES",
    "CONTEXTS",
    "NEUTRAL_CONTEXTS",
    "Sample",
    "draw_sample",
    "generate",
]
