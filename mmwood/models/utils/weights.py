"""Weights that ask for no gradient for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def weights_fixed(model: nn.Module) -> Iterator[None]:
    """Within, no parameter requires a gradient; afterwards those do that did.

    For gradients of images: the weights' own would cost time and memory.
    """
    fixed = [p for p in model.parameters() if p.requires_grad]
    for parameter in fixed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in fixed:
            parameter.requires_grad_(True)
