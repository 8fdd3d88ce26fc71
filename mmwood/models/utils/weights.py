"""Weights that ask for no gradient for a while."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["weights_fixed"]


@contextmanager
def weights_fixed(model: nn.Module, but: Collection[Tensor] = ()) -> Iterator[None]:
    """Within, no parameter requires a gradient; afterwards those do that did.

    For gradients of something else, as :func:`mmwood.functional.gradients.gradients`
    takes them: the weights' own would cost time and memory, and may end in ``.grad``.

    Args:
        model: The model.
        but: Parameters that stay as they are.
    """
    kept = set(but)
    fixed = [p for p in model.parameters() if p.requires_grad and p not in kept]
    for parameter in fixed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in fixed:
            parameter.requires_grad_(True)
