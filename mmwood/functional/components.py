"""Connected components of label maps, and pixel weights from their sizes.

The weights are those of the size-balanced cross-entropy of Mun et al., "Small
Objects Matter in Weakly-supervised Semantic Segmentation", WACV 2024. Components
are found by OpenCV on the CPU, one class at a time: with 8 neighbours two classes
can cross at a corner, so that one pass over all classes would not separate them.
"""

from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from mmwood.utils.check import at_least, one_of

#: Neighbours of a pixel: over its sides, or over its corners too.
Connectivity = Literal[4, 8]
#: What a component's size is compared with.
Reference = Literal["class", "foreground"]


class Components(NamedTuple):
    """The connected components of one label map.

    The components are numbered from 1 to N, class by class in ascending order of
    the label values; the order within a class is unspecified. Component n has row
    n - 1 of ``class_ids`` and ``areas``.

    Attributes:
        index: (H, W) int32, the number of each pixel's component, 0 on the values
            that were left out.
        class_ids: (N,) int64, the label value of each component.
        areas: (N,) int64, the number of pixels of each component.
    """

    index: np.ndarray  # type: ignore[assignment]  # no method of tuple's
    class_ids: np.ndarray
    areas: np.ndarray


def connected_components(
    label: Tensor | np.ndarray,
    connectivity: Connectivity = 8,
    leave_out: Collection[int] = (),
) -> Components:
    """Split a label map into connected regions of one value each.

    Two pixels belong to one component if a path of neighbours of the same value
    joins them. A value that is left out still separates what lies on its sides.

    Args:
        label: Label map of an integer dtype, any device.
        connectivity: 8 (sides and corners) or 4 (sides only).
        leave_out: Values that form no component, such as background and 255.

    Raises:
        ValueError: ``label`` is no map (H, W) of integers, or ``connectivity`` is
            neither 4 nor 8.

    Example:
        >>> connected_components(np.array([[1, 0, 1], [1, 0, 0]]), leave_out=[0])
        Components(index=array([[1, 0, 2],
               [1, 0, 0]], dtype=int32), class_ids=array([1, 1]), areas=array([2, 1]))
    """
    one_of("connectivity", connectivity, get_args(Connectivity))
    array = as_integer_array(label)
    if array.ndim != 2:
        raise ValueError(f"label must have shape (H, W), but has {array.shape}")
    index = np.zeros(array.shape, dtype=np.int32)
    class_ids: list[int] = []
    for value in label_counts(array)[0]:
        if value in leave_out:
            continue
        number = _add_components(index, array == value, len(class_ids), connectivity)
        class_ids.extend([value] * number)
    # One count over the map is several times cheaper than OpenCV's statistics.
    areas = np.bincount(index.ravel(), minlength=len(class_ids) + 1)[1:]
    return Components(index, np.array(class_ids, dtype=np.int64), areas)


def count_components(
    label: np.ndarray,
    connectivity: Connectivity = 8,
    leave_out: Collection[int] = (),
    strip: int = 512,
) -> dict[int, int]:
    """How many connected regions of each value a label map of any size has.

    As :func:`connected_components`, without its map of numbers: components are found
    strip by strip, and joined over the seams.

    Args:
        label: Label map of an integer dtype. Shape: (H, W).
        connectivity: 8 (sides and corners) or 4 (sides only).
        leave_out: Values that form no component.
        strip: Rows of a strip.

    Returns:
        The number of components of each value that occurs, ascending by value.

    Raises:
        ValueError: As :func:`connected_components`; ``strip`` is below 1.

    Example:
        >>> count_components(np.array([[1, 0, 1], [1, 0, 0]]), leave_out=[0])
        {1: 2}
    """
    at_least("strip", strip, 1, integer=True)
    from scipy.sparse import coo_array, csgraph  # slow to import, and seldom needed

    values, pairs, above = [np.zeros(1, np.int64)], [np.zeros((2, 0), np.int64)], None
    for top in range(0, len(label), strip):
        found = connected_components(label[top : top + strip], connectivity, leave_out)
        # Numbers count on from strip to strip; 0 stays 0.
        known = sum(map(len, values)) - 1
        first, last = (
            np.where(row > 0, row.astype(np.int64) + known, 0)
            for row in found.index[[0, -1]]
        )
        if above is not None:
            rows = label[top - 1], label[top]
            pairs.append(_touching(above, first, *rows, connectivity))
        values.append(found.class_ids)
        above = last
    value, touching = np.concatenate(values), np.concatenate(pairs, axis=1)
    ones = np.ones(touching.shape[1], bool)
    graph = coo_array((ones, tuple(touching)), (len(value), len(value)))
    _, joined = csgraph.connected_components(graph, directed=False)
    # One part of each component; number 0 is none.
    _, parts = np.unique(joined[1:], return_index=True)
    found_values, counts = label_counts(value[1:][parts])
    return dict(zip(found_values.tolist(), counts.tolist()))


def _touching(
    above: np.ndarray,
    below: np.ndarray,
    values_above: np.ndarray,
    values_below: np.ndarray,
    connectivity: Connectivity,
) -> np.ndarray:
    """Numbers of components of one value that touch between two rows, (2, n)."""
    pairs = []
    width = len(above)
    for shift in (0,) if connectivity == 4 else (-1, 0, 1):
        upper = slice(max(shift, 0), width + min(shift, 0))
        lower = slice(max(-shift, 0), width - max(shift, 0))
        same = values_above[upper] == values_below[lower]
        same &= (above[upper] > 0) & (below[lower] > 0)
        pairs.append(np.stack([above[upper][same], below[lower][same]]))
    return np.unique(np.concatenate(pairs, axis=1), axis=1)


def label_counts(label: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of every value in label maps of any shape.

    Returns:
        The values that occur, ascending, and how often each does; both int64.

    Raises:
        ValueError: ``label`` is not of an integer dtype.
    """
    flat = as_integer_array(label).ravel()
    # Counting is about ten times faster than np.unique, which sorts; it needs a
    # table up to the largest value, which labels of segmentation keep small.
    if flat.size == 0 or flat.min() < 0 or flat.max() > np.iinfo(np.uint16).max:
        values, counts = np.unique(flat, return_counts=True)
        return values.astype(np.int64), counts
    counts = np.bincount(flat.astype(np.int64, copy=False))
    values = np.flatnonzero(counts)
    return values, counts[values]


def size_weights(
    label: Tensor | np.ndarray,
    limit: float = 5.0,
    ignore_index: int | None = 255,
    background: int | None = 0,
    *,
    connectivity: Connectivity = 8,
    reference: Reference = "foreground",
) -> Tensor | np.ndarray:
    r"""Pixel weights that grow as a pixel's connected component shrinks.

    With :math:`S_{c,n}` the pixels of component n of class c in one label map,
    every pixel of that component weighs

    .. math:: \min\Bigl(\tau, \frac{S}{S_{c,n}}\Bigr)

    with S all pixels of foreground, or :math:`\sum_k S_{c,k}`, those of its class.
    Background weighs 1; ignored pixels weigh 0 and count in no size. Source: Mun et
    al., WACV 2024.

    Args:
        label: Label maps of an integer dtype, any device. The maps of a batch are
            treated apart.
        limit: The upper limit tau, at least 1; ``float('inf')`` for none. A ratio
            is never below 1, so a lower limit would give every object the same
            weight, below that of background, whatever its size: it is refused. A
            limit of 1 gives uniform weights.
        ignore_index: Value of the pixels to ignore, or None. It goes before
            ``background`` if both are the same value.
        background: Value of the background, or None if every value is an object
            class (labels made with ``reduce_zero_label=True``).
        connectivity: 8 (sides and corners) or 4 (sides only).
        reference: The total S that a component is compared with: ``'foreground'``,
            all pixels that are neither background nor ignored, as in the authors'
            program; or ``'class'``, all pixels of its class, as in their text.

    Returns:
        float32 weights: a tensor on the device of ``label`` if that is a tensor,
        a NumPy array otherwise.

    Raises:
        ValueError: ``label`` has another shape or is not of an integer dtype, or
            ``limit``, ``connectivity`` or ``reference`` has another value.

    Shape:
        - label: (H, W) or (B, H, W); output: the same

    Example:
        >>> size_weights(np.array([[7, 7, 7, 0, 5, 255]]))
        array([[1.3333334, 1.3333334, 1.3333334, 1.       , 4.       , 0.       ]],
              dtype=float32)
    """
    check_size_weight_fields(limit, connectivity, reference)
    array = as_integer_array(label)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"label must have shape (H, W) or (B, H, W), but has {array.shape}"
        )
    left_out = [value for value in (background, ignore_index) if value is not None]
    weights = np.empty(array.shape, dtype=np.float32)
    maps = array[None] if array.ndim == 2 else array
    for single, out in zip(maps, weights.reshape(maps.shape), strict=True):
        components = connected_components(single, connectivity, left_out)
        out[...] = _component_weights(components, limit, reference)[components.index]
    if ignore_index is not None:
        weights[array == ignore_index] = 0
    if isinstance(label, Tensor):
        return torch.from_numpy(weights).to(label.device)
    return weights


def check_size_weight_fields(
    limit: float, connectivity: Connectivity, reference: Reference, owner: str = ""
) -> None:
    """Refuse values that :func:`size_weights` cannot use, when a loss is built.

    ``owner`` stands before the field in errors.

    Raises:
        ValueError: One has another value; names it.
    """
    at_least(f"{owner}limit", limit, 1)
    one_of(f"{owner}reference", reference, get_args(Reference))
    one_of(f"{owner}connectivity", connectivity, get_args(Connectivity))


def as_integer_array(values: Tensor | np.ndarray, name: str = "label") -> np.ndarray:
    """Labels or other integers, from any device, as an array.

    Raises:
        ValueError: They are not of an integer dtype.
    """
    if isinstance(values, Tensor):
        # NumPy lacks some of the other dtypes.
        if values.is_floating_point() or values.is_complex():
            raise ValueError(f"{name} must be of an integer dtype, not {values.dtype}")
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "iub":
        raise ValueError(f"{name} must be of an integer dtype, not {array.dtype}")
    return array


def _add_components(
    index: np.ndarray, mask: np.ndarray, offset: int, connectivity: int
) -> int:
    """Number the components of ``mask`` from ``offset`` + 1 on; return how many."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    # Many classes cost little when each is searched in its bounding box only.
    box = slice(y, y + height), slice(x, x + width)
    count, found = cv2.connectedComponents(
        mask[box].view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S
    )
    np.add(found, offset, out=index[box], where=mask[box])
    return count - 1


def _component_weights(
    components: Components, limit: float, reference: Reference
) -> np.ndarray:
    """Weights by component number, (N + 1,) float32; number 0 weighs 1."""
    areas = components.areas
    if reference == "class":
        _, order = np.unique(components.class_ids, return_inverse=True)
        totals = np.bincount(order, weights=areas)[order]
    else:
        totals = areas.sum()
    ratios = np.minimum(totals / areas, limit)
    return np.concatenate([[1.0], ratios]).astype(np.float32)
