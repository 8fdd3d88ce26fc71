"""Batches of images of different sizes."""

from collections.abc import Callable
from typing import Any

from mmwood.functional.batching import group_by_shape


def step_by_shape(
    step: Callable[[dict], list], data: dict, pixels: int | None = None
) -> list:
    """What a model's step gives for images of any sizes, in their order.

    Args:
        step: Takes ``data`` of images of one size.
        data: ``inputs``, a list of tensors (N, h, w), and what else belongs to each.
        pixels: How many pixels go together at most; one image always does. None: all.
    """
    results: dict[int, Any] = {}
    for indices in group_by_shape(data["inputs"]):
        count = len(indices)
        if pixels is not None:
            count = max(pixels // data["inputs"][indices[0]][0].numel(), 1)
        for start in range(0, len(indices), count):
            part = indices[start : start + count]
            batch = {key: [values[i] for i in part] for key, values in data.items()}
            results |= zip(part, step(batch))
    return [results[index] for index in range(len(results))]
