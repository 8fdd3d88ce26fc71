"""Instances from a displacement field and from class-wise scores, as in IRN.

Every pixel walks along the displacement field to the centroid of its instance; pixels
whose walks end in one region of short displacements form one group. Source: Ahn et
al., Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations,
CVPR 2019, section 4.2 and supplement.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from mmwood.utils.check import check_shapes


class Instance(NamedTuple):
    """One instance that was found in an image.

    Attributes:
        class_id: Its class, as the caller numbers them.
        score: Its confidence.
        mask: Its pixels. Shape: (H, W) bool.
    """

    class_id: int
    score: float
    mask: np.ndarray


def find_centroids(displacement: Tensor, steps: int = 300) -> Tensor:
    r"""Where every pixel ends that follows a displacement field.

    Pixel i starts at its own place :math:`x_i^0` and moves

    .. math:: x_i^{t+1} = \operatorname{clip}(x_i^t + D(x_i^t))

    with D interpolated bilinearly between the four pixels around and the place
    clipped to the grid. The last place is rounded, halves to even.

    Args:
        displacement: Displacement D of every pixel, rows first, then columns, in
            pixels of this grid, on any device. Steps are computed in float64 on the
            CPU; places are kept in float32, or in float64 if the displacement is.
            Where a field lets pixels circle for ever their ends hang on this rounding.
        steps: How often a pixel moves. IRN's authors advise at least 100.

    Returns:
        int64 row and column of each pixel's end, on the device of ``displacement``.

    Shape:
        - displacement: (2, h, w); output: (2, h, w)

    Raises:
        ValueError: ``displacement`` has another shape or is not finite, or ``steps``
            is negative.

    Example:
        >>> find_centroids(torch.tensor([[[0.0, 0, 0]], [[1, 0, -1]]]))[1]
        tensor([[1, 1, 1]])
    """
    _check_displacement(displacement)
    if steps < 0:
        raise ValueError(f"steps must not be negative, but is {steps}")
    if not displacement.isfinite().all():
        raise ValueError("displacement must be finite, but holds NaN or infinity")
    height, width = displacement.shape[1:]
    field = displacement.cpu().double().flatten(1)
    dtype = torch.promote_types(displacement.dtype, torch.float32)
    rows, columns = torch.arange(height), torch.arange(width)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).flatten(1)
    places = places.to(dtype)
    last = torch.tensor([[height - 1], [width - 1]])
    walking = torch.arange(height * width)
    for _ in range(steps):
        place = places[:, walking]
        moved = (place + _interpolate(field, place, width)).to(dtype)
        moved = torch.minimum(moved.clamp(min=0), last)
        places[:, walking] = moved
        # A step depends on the place alone: what stands still does so for ever.
        walking = walking[(moved != place).any(dim=0)]
        if not len(walking):
            break
    ends = places.round().long().view(2, height, width)
    return ends.to(displacement.device)


def _interpolate(field: Tensor, place: Tensor, width: int) -> Tensor:
    """The field (2, h·w) at places (2, N) on the grid, bilinearly: (2, N) float64."""
    low, high = place.floor(), place.ceil()
    y, x = (place - low).double()
    (top, left), (bottom, right) = low.long(), high.long()
    return (
        field[:, bottom * width + right] * y * x
        + field[:, top * width + right] * (1 - y) * x
        + field[:, bottom * width + left] * y * (1 - x)
        + field[:, top * width + left] * (1 - y) * (1 - x)
    )


def group_centroids(
    centroids: Tensor, displacement: Tensor, threshold: float = 2.5
) -> Tensor:
    """The group of every pixel: pixels whose centroids lie close together.

    Centroids are close where one 4-connected region of displacements shorter than
    ``threshold`` holds them. All centroids outside every such region form one group.

    Args:
        centroids: Row and column of each pixel's centroid, of
            :func:`find_centroids`.
        displacement: The field that they come from.
        threshold: Length in pixels.

    Returns:
        int64 numbers 0..m-1 on the device of ``displacement``, each of which occurs.
        Group 0 is the one outside the regions, if there is one; the others follow in
        the order of their regions' first pixels, row by row.

    Shape:
        - centroids: (2, h, w); displacement: (2, h, w); output: (h, w)

    Raises:
        ValueError: The shapes are not those, or a centroid is outside the grid.
    """
    _check_displacement(displacement)
    if centroids.shape != displacement.shape or centroids.is_floating_point():
        raise ValueError(
            "centroids must be integers of the displacement's shape "
            f"{tuple(displacement.shape)}, but are {centroids.dtype} of shape "
            f"{tuple(centroids.shape)}"
        )
    rows, columns = centroids.cpu().numpy()
    short = (displacement.square().sum(dim=0).sqrt() < threshold).cpu().numpy()
    height, width = short.shape
    if ((rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)).any():
        raise ValueError(f"centroids must lie on the grid (h, w) = {(height, width)}")
    _, regions = cv2.connectedComponents(short.view(np.uint8), connectivity=4)
    _, groups = np.unique(regions[rows, columns], return_inverse=True)
    return torch.from_numpy(groups.reshape(height, width)).to(displacement.device)


def detect_instances(
    scores: Tensor, classes: Tensor, background: float, min_fraction: float = 0.01
) -> list[Instance]:
    """Instances from a score map of every class and group.

    A pixel belongs to the class and group of its largest score, if that exceeds
    ``background``; every 4-connected component of such a region is an instance. Its
    score is the largest score in it, or 0 where it is smaller than ``min_fraction``
    of the image: small fragments stay in the list, last in order of confidence.

    Returns:
        The instances, class by class in the order of ``classes``, then group by
        group; none if every pixel is background.

    Shape:
        - scores: (n, m, H, W); classes: (n,)
    """
    scores, classes = torch.as_tensor(scores).detach(), torch.as_tensor(classes)
    check_shapes(scores=(scores, "n m H W"), classes=(classes, "n"))
    if not scores.numel():
        return []
    highest, index = scores.flatten(0, 1).max(dim=0)
    winner = torch.where(highest > background, index, -1).cpu().numpy()
    best = highest.cpu().numpy()
    least = min_fraction * best.size
    instances = []
    # Most pairs of class and group win nowhere.
    for number in np.unique(winner[winner >= 0]):
        region = (winner == number).view(np.uint8)
        count, parts = cv2.connectedComponents(region, connectivity=4)
        class_id = int(classes[number // scores.shape[1]])
        for part in range(1, count):
            mask = parts == part
            score = 0.0 if mask.sum() < least else float(best[mask].max())
            instances.append(Instance(class_id, score, mask))
    return instances


def _check_displacement(displacement: Tensor) -> None:
    fits = displacement.ndim == 3 and displacement.shape[0] == 2
    if not fits or not displacement.numel() or not displacement.is_floating_point():
        raise ValueError(
            "displacement must be a floating-point tensor (2, h, w) with at least one "
            f"pixel, but is {displacement.dtype} of shape {tuple(displacement.shape)}"
        )
