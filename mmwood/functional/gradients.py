"""Gradients that do not pass through ``.grad``, also where activations are not kept."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["gradients"]


def gradients(value: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of a scalar to some leaves, as ``torch.autograd.grad`` gives it.

    OpenMMLab's ``with_cp`` and ``activation_checkpointing`` use the reentrant form of
    ``torch.utils.checkpoint``, which refuses ``torch.autograd.grad`` and allows
    ``backward()`` only. Where the graph has such layers this calls it.

    Args:
        value: The scalar.
        tensors: Leaves that require a gradient. Their ``.grad`` stays as it is. With
            such layers that of other leaves does not: let those require no gradient,
            or put theirs back.

    Returns:
        The gradients in the order of ``tensors``; None where ``value`` does not depend
        on one.

    Example:
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> gradients(x.square().sum(), [x])
        [tensor([6.])]
    """
    if not _is_checkpointed(value):
        return list(torch.autograd.grad(value, tensors, allow_unused=True))
    own = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    try:
        value.backward()
        return [tensor.grad for tensor in tensors]
    finally:
        for tensor, gradient in zip(tensors, own):
            tensor.grad = gradient


def _is_checkpointed(value: Tensor) -> bool:
    """Whether the graph of a value has reentrant checkpoints."""
    seen, open_ends = set(), [value.grad_fn]
    while open_ends:
        node = open_ends.pop()
        if node is None or node in seen:
            continue
        if "CheckpointFunction" in node.name():
            return True
        seen.add(node)
        open_ends.extend(following for following, _ in node.next_functions)
    return False
