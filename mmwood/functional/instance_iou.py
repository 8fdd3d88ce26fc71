"""Intersection over union of every object instance of a label map.

Instance-aware IoU of Mun et al., "Small Objects Matter in Weakly-supervised Semantic
Segmentation", WACV 2024. A label map knows no instances: its connected components are
shared among the ground truth's instances by the pixels that they have in common. Only
counts are needed, so everything comes from one count of the pairs of component and
instance.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from torch import Tensor

from mmwood.functional.components import (
    Connectivity,
    as_integer_array,
    connected_components,
    label_counts,
)
from mmwood.utils.check import one_of

#: What label 0 is; see :func:`split_instances`.
Background = Literal["image", "ignore"] | None
_BACKGROUNDS: tuple[Background, ...] = ("image", "ignore", None)
#: What ignored pixels do to components that cross them; see :func:`instance_ious`.
Void = Literal["separates", "connects"]

# What becomes of a pixel that no instance has: no class's, removed, still to be split.
_NONE, _VOID, _REST = 0, -1, -2


class InstanceIoU(NamedTuple):
    """The score of one ground-truth instance.

    Attributes:
        class_id: Its class, counted as in the label maps.
        area: Its ground-truth pixels.
        iou: Its IoU in [0, 1].
    """

    class_id: int
    area: int
    iou: float


class Instances(NamedTuple):
    """The instances of one ground truth, numbered from 1 to N in no special order.

    Attributes:
        index: (H, W) int32, the number of each pixel's instance, 0 for none.
        class_ids: (N,) int64.
        areas: (N,) int64, their pixels.
        void: (H, W) bool, the pixels that are removed from the prediction too.
        background: The number of the instance that is the image's background, or None.
        conflicting: How many of them were removed because class map and instance map
            disagree.
    """

    index: np.ndarray  # type: ignore[assignment]  # no method of tuple's
    class_ids: np.ndarray
    areas: np.ndarray
    void: np.ndarray
    background: int | None
    conflicting: int


def instance_ious(
    pred: Tensor | np.ndarray,
    gt: Tensor | np.ndarray,
    instances: Tensor | np.ndarray | None = None,
    num_classes: int | None = None,
    ignore_index: int = 255,
    background: Background = "image",
    *,
    connectivity: Connectivity = 8,
    void: Void = "connects",
    whole_pixels: bool = False,
) -> list[InstanceIoU]:
    r"""IoU of every ground-truth instance with its share of the prediction.

    The prediction is split into connected components per class. With :math:`O` a
    component and :math:`G_t` an instance of its class, that instance receives of it

    .. math:: P_{t,O} = |O \cap G_t|
        + \Bigl(|O| - \sum_s |O \cap G_s|\Bigr)
          \frac{|O \cap G_t|}{\sum_s |O \cap G_s|}
        = |O| \frac{|O \cap G_t|}{\sum_s |O \cap G_s|}

    so that a component that touches one instance belongs to it whole, and one that
    touches none is in no score. With :math:`I_t = \sum_O |O \cap G_t|`,
    :math:`IoU_t = I_t / (|G_t| + \sum_O P_{t,O} - I_t)`; an instance that nothing
    touches scores 0. The background of the image has the plain IoU: all predicted
    background counts, also what touches none. Source: Mun et al., WACV 2024; where its
    text is silent, the authors' program.

    Ignored pixels are removed from ground truth and prediction: they are in no count.
    The instances are those of :func:`split_instances`, which says what ``instances``
    and ``background`` do.

    Args:
        pred: Predicted label map of an integer dtype, any device. ``ignore_index`` in
            it is no class: what should be there is missed.
        gt: Ground-truth label map.
        instances: Instance map, or None for the connected components of ``gt``.
        num_classes: Labels are 0..num_classes - 1; None allows any. Serves to refuse
            others only.
        ignore_index: Label of void pixels.
        background: ``'image'``, ``'ignore'`` or None.
        connectivity: 8 (sides and corners) or 4 (sides only).
        void: What ignored pixels do to a component of the prediction that crosses
            them. ``'connects'``: they are removed after it is split, so it stays one.
            ``'separates'``: before, so it becomes several. PASCAL VOC's objects have
            a rim of void all around: with ``'separates'`` whatever is predicted beyond
            it touches no instance, and a small object in a large blob scores 1.
        whole_pixels: Cut the second term of :math:`P_{t,O}` to whole pixels, as the
            authors' program does.

    Returns:
        One entry per instance, the classes ascending.

    Raises:
        ValueError: The maps differ in size, are not two-dimensional or not of an
            integer dtype, or hold a label outside the classes; or ``background``,
            ``connectivity`` or ``void`` has another value.

    Shape:
        - pred, gt, instances: (H, W)

    Example:
        >>> gt = np.array([[0, 1, 1, 0, 1]])
        >>> pred = np.array([[0, 1, 1, 1, 1]])
        >>> [(i.class_id, i.area, round(i.iou, 3)) for i in instance_ious(pred, gt)]
        [(0, 2, 0.5), (1, 2, 0.75), (1, 1, 0.75)]
    """
    truth = split_instances(
        gt,
        instances,
        num_classes,
        ignore_index,
        background,
        connectivity=connectivity,
    )
    ious = score_instances(
        pred,
        truth,
        num_classes,
        ignore_index,
        connectivity=connectivity,
        void=void,
        whole_pixels=whole_pixels,
    )
    columns = (truth.class_ids.tolist(), truth.areas.tolist(), ious.tolist())
    return sorted(map(InstanceIoU, *columns), key=lambda item: item.class_id)


def split_instances(
    gt: Tensor | np.ndarray,
    instances: Tensor | np.ndarray | None = None,
    num_classes: int | None = None,
    ignore_index: int = 255,
    background: Background = "image",
    *,
    connectivity: Connectivity = 8,
) -> Instances:
    """Split a ground truth into the instances that are scored.

    Without an instance map they are the connected components of each class. In one,
    such as VOC's SegmentationObject, 0 is no instance, ``ignore_index`` is void, and
    any other value is an instance. Its class is the most frequent one of ``gt`` in its
    pixels, the smallest of equally frequent ones; an instance that is background there
    is none. A class without an instance in this image is split into connected
    components (classes that the annotation does not cover).

    Where the two maps disagree the pixel is void: a label other than that of its
    instance; no instance, although the label's class has instances in this image.

    Args:
        gt: Ground-truth label map of an integer dtype, any device.
        instances: Instance map, or None.
        num_classes: As for :func:`instance_ious`.
        ignore_index: As there.
        background: What label 0 is: ``'image'``, the background of the image is one
            instance, so that false positives are paid for there; ``'ignore'``, the
            background is not scored; None, a class like any other (labels made with
            ``reduce_zero_label=True``).
        connectivity: 8 or 4.

    Raises:
        ValueError: As for :func:`instance_ious`.
    """
    check_instance_fields(background, connectivity)
    label = _as_labels(gt, "gt", num_classes, ignore_index)
    if instances is None:
        left_out = [ignore_index] if background is None else [0, ignore_index]
        index, class_ids, _ = connected_components(label, connectivity, left_out)
        void, conflicting, ground = label == ignore_index, 0, None
        pixels = (label == 0) & ~void
        if background == "image" and pixels.any():
            ground = len(class_ids) + 1
            np.putmask(index, pixels, ground)
            class_ids = np.append(class_ids, 0)
    else:
        ids = as_integer_array(instances, "instances")
        if ids.shape != label.shape:
            raise ValueError(
                f"instances has (H, W) = {ids.shape}, gt has {label.shape}"
            )
        if ids.size and ids.min() < 0:
            raise ValueError(f"instances holds {ids.min()}: expected 0 and above")
        index, class_ids, ground, conflicting = _number(
            label, ids, ignore_index, background
        )
        rest = index == _REST
        if rest.any():
            label = np.where(rest, label, label.dtype.type(ignore_index))
            parts = connected_components(label, connectivity, [ignore_index])
            np.copyto(index, parts.index + len(class_ids), where=rest)
            class_ids = np.append(class_ids, parts.class_ids)
        void = index == _VOID
        index[void] = 0
    areas = np.bincount(index.ravel(), minlength=len(class_ids) + 1)[1:]
    return Instances(index, class_ids, areas, void, ground, conflicting)


def score_instances(
    pred: Tensor | np.ndarray,
    truth: Instances,
    num_classes: int | None = None,
    ignore_index: int = 255,
    *,
    connectivity: Connectivity = 8,
    void: Void = "connects",
    whole_pixels: bool = False,
) -> np.ndarray:
    """IoU of each instance of :func:`split_instances`; see :func:`instance_ious`.

    Returns:
        float64, in the order of ``truth``.

    Raises:
        ValueError: As for :func:`instance_ious`.
    """
    label = _as_labels(pred, "pred", num_classes, ignore_index)
    if label.shape != truth.index.shape:
        raise ValueError(f"pred has (H, W) = {label.shape}, gt has {truth.index.shape}")
    one_of("void", void, get_args(Void))
    if void == "separates":
        label = np.where(truth.void, label.dtype.type(ignore_index), label)
    # What no instance's class is touches no instance.
    left_out = set(label_counts(label)[0]) - set(truth.class_ids) | {ignore_index}
    if truth.background is not None:
        left_out.add(0)
    parts = connected_components(label, connectivity, left_out)
    if void == "connects":
        index = np.where(truth.void, 0, parts.index)
        areas = np.bincount(index.ravel(), minlength=len(parts.areas) + 1)[1:]
        parts = parts._replace(index=index, areas=areas)
    part, instance, overlap = _overlaps(
        parts.index, len(parts.areas), truth.index, len(truth.areas)
    )
    same = parts.class_ids[part] == truth.class_ids[instance]
    part, instance, overlap = part[same], instance[same], overlap[same]
    shared = np.bincount(part, overlap, minlength=len(parts.areas))
    shares = (parts.areas[part] - shared[part]) * overlap / shared[part]
    received = overlap + (np.floor(shares) if whole_pixels else shares)
    hit, received = (
        np.bincount(instance, values, minlength=len(truth.areas))
        for values in (overlap, received)
    )
    if truth.background is not None:
        shown = (label == 0) & ~truth.void
        received[truth.background - 1] = shown.sum()
        hit[truth.background - 1] = (shown & (truth.index == truth.background)).sum()
    return hit / (truth.areas + received - hit)


def check_instance_fields(
    background: Background,
    connectivity: Connectivity,
    void: Void = "connects",
    owner: str = "",
) -> None:
    """Refuse values that :func:`instance_ious` cannot use, when a metric is built.

    ``owner`` stands before the field in errors.

    Raises:
        ValueError: One has another value; names it.
    """
    one_of(f"{owner}background", background, _BACKGROUNDS)
    one_of(f"{owner}connectivity", connectivity, get_args(Connectivity))
    one_of(f"{owner}void", void, get_args(Void))


def _as_labels(
    values: Tensor | np.ndarray, name: str, num_classes: int | None, ignore_index: int
) -> np.ndarray:
    """A checked label map, of uint8 where that is wide enough: it is read often."""
    array = as_integer_array(values, name)
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape (H, W), but has {array.shape}")
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    narrow = min(low, ignore_index) >= 0 and max(high, ignore_index) <= 255
    array = array.astype(np.uint8 if narrow else np.int64, copy=False)
    limit = high + 1 if num_classes is None else num_classes
    if low < 0 or high >= limit:
        wrong = array[((array < 0) | (array >= limit)) & (array != ignore_index)]
        if wrong.size:
            allowed = "0 and above" if num_classes is None else f"0..{num_classes - 1}"
            raise ValueError(
                f"{name} holds {np.unique(wrong)[:5].tolist()}: expected {allowed}, "
                f"and {ignore_index} for void pixels"
            )
    return array


def _number(
    label: np.ndarray, ids: np.ndarray, ignore_index: int, background: Background
) -> tuple[np.ndarray, np.ndarray, int | None, int]:
    """Instance numbers from an instance map, ``_VOID`` and ``_REST`` among them.

    All is decided on the table of how many pixels have which id and which label.

    Returns:
        index (H, W) int32, class_ids (N,), the background's number or None, and how
        many pixels conflict.
    """
    # The labels become 0..L - 1 and the ids 0..K - 1: both may be large.
    labels, label = _compact(label)
    values, row = _compact(ids)
    cell = row * len(labels) + label
    counts = np.bincount(cell.ravel(), minlength=len(values) * len(labels))
    counts = counts.reshape(len(values), len(labels))
    void = np.zeros(counts.shape, dtype=bool)
    void[values == ignore_index] = True
    void[:, labels == ignore_index] = True
    votes = np.where(void, 0, counts)
    winner = votes.argmax(axis=1) if len(labels) else np.zeros(0, dtype=int)
    is_background = labels == 0 if background is not None else labels < 0
    objects = np.flatnonzero((values != 0) & votes.any(axis=1))
    objects = objects[~is_background[winner[objects]]]
    class_ids = labels[winner[objects]]
    # What is left has no instance: the background may, another class may not if it
    # has instances.
    fate = np.full(counts.shape, _REST, dtype=np.int32)
    fate[:, np.isin(labels, class_ids)] = _VOID
    ground = len(class_ids) + 1
    fate[:, is_background] = _NONE if background == "ignore" else ground
    fate[objects] = _VOID
    fate[objects, winner[objects]] = np.arange(1, len(objects) + 1)
    conflicting = int(votes[fate == _VOID].sum())
    has_ground = bool(votes[fate == ground].any())
    if has_ground:
        class_ids = np.append(class_ids, 0)
    fate[void] = _VOID
    number = ground if has_ground else None
    return fate.ravel()[cell], class_ids, number, conflicting


def _compact(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, ascending, and each pixel's place among them."""
    values, place = np.unique(array, return_inverse=True)
    return values.astype(np.int64), place.reshape(array.shape)


def _overlaps(
    first: np.ndarray, first_count: int, second: np.ndarray, second_count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of numbers, from 0 on, with pixels in common, and how many pixels."""
    from scipy.sparse import coo_array  # a fifth of a second for every other start

    ones, shape = np.ones(first.size, np.int64), (first_count + 1, second_count + 1)
    pixels = coo_array((ones, (first.ravel(), second.ravel())), shape)
    counts = pixels.tocsr().tocoo()  # which adds up equal pairs
    both = (counts.row > 0) & (counts.col > 0)
    return counts.row[both] - 1, counts.col[both] - 1, counts.data[both]
