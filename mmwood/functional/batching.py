"""Batches from tensors of different sizes."""

from collections.abc import Sequence

from torch import Tensor


def group_by_shape(tensors: Sequence[Tensor]) -> list[list[int]]:
    """The indices of tensors that can be stacked, group by group.

    Padding would change scores and maps, so images of one size go together instead.

    Returns:
        Groups in the order of their first tensors; together all indices.

    Example:
        >>> group_by_shape([torch.zeros(2), torch.zeros(3), torch.zeros(2)])
        [[0, 2], [1]]
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault(tuple(tensor.shape), []).append(index)
    return list(groups.values())
