"""Batches of images of different sizes."""

from collections.abc import Callable
from typing import Any

from mmwood.functional.batching import group_by_shape

__all__ = ["step_by_shape"]


def step_by_shape(step: Callable[[dict], list], data: dict) -> list:
    """What a model's step gives for images of any sizes, in their order.

    Args:
        step: Takes ``data`` of images of one size.
        data: ``inputs``, a list of (3, h, w) tensors, and ``data_samples``.
    """
    results: dict[int, Any] = {}
    for indices in group_by_shape(data["inputs"]):
        batch = {key: [data[key][i] for i in indices] for key in data}
        results |= zip(indices, step(batch))
    return [results[index] for index in range(len(results))]
