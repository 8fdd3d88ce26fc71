"""Which axes of a feature map are its rows and columns."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

#: (B, D, h, w) or (B, h, w, D).
Axes = Literal["NCHW", "NHWC"]

#: Rows or columns by which padding and rounding may change a map.
SLACK = 2


def is_channels_last(
    shape: Sequence[int], size: Sequence[int], declared: Axes = "NCHW"
) -> bool:
    """Whether a feature map is (B, h, w, D) instead of (B, D, h, w).

    Rows and columns are those axes that have the proportions of the image: the image's
    height is to its width, up to rounding, as h is to w. Nothing else tells: a number
    of channels may be any.

    Args:
        shape: The feature map's shape.
        size: (H, W) of the image.
        declared: 'NHWC' or 'NCHW': what holds where both orders have the proportions,
            or neither.

    Example:
        >>> is_channels_last((1, 7, 7, 768), (224, 224))
        True
    """
    first = _fits(shape[2:4], size)
    last = _fits(shape[1:3], size)
    return declared == "NHWC" if first == last else last


def channels_first(
    features: Tensor, size: Sequence[int], declared: Axes = "NCHW"
) -> Tensor:
    """A feature map (B, D, h, w), whichever order :func:`is_channels_last` finds.

    Shape:
        - features: (B, D, h, w) or (B, h, w, D); output: (B, D, h, w)
    """
    if is_channels_last(features.shape, size, declared):
        return features.permute(0, 3, 1, 2)
    return features


def _fits(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether one stride, at least 1, leads from the image to the grid on both axes."""
    low = max(1.0, *(side / (cells + SLACK) for side, cells in zip(size, grid)))
    return all(
        cells <= SLACK or low <= side / (cells - SLACK)
        for side, cells in zip(size, grid)
    )
