"""Counts of pixels by true and given label, and the mIoU of one image."""

import math

import numpy as np

#: Label of pixels without truth, or without label.
_VOID = 255


def confusion(label: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """How many pixels have each true and each given label.

    Both maps are (H, W) uint8; ``classes`` are without background. Pixels without truth
    are left out; those without label are in the last column.

    Returns:
        The counts. Shape: (classes + 1, classes + 2) int64.

    Raises:
        ValueError: The shapes differ, or a map holds a label outside the classes.
    """
    if label.shape != truth.shape:
        raise ValueError(f"(H, W) = {label.shape}, but the mask's {truth.shape}")
    valid = truth != _VOID
    label, truth = label[valid].astype(np.int64), truth[valid].astype(np.int64)
    for what, values in (("label map", label[label != _VOID]), ("mask", truth)):
        if values.size and values.max() > classes:
            raise ValueError(
                f"the {what} holds {values.max()}; with {classes} classes it may hold "
                f"0..{classes} and {_VOID}"
            )
    label[label == _VOID] = classes + 1
    shape = (classes + 1, classes + 2)
    counts = np.bincount(truth * shape[1] + label, minlength=shape[0] * shape[1])
    return counts.reshape(shape)


def image_miou(label: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """MIoU of one image, in percent, over the classes in its truth or its label.

    Background is a class; what :func:`confusion` leaves out is in no count.

    Returns:
        The mIoU, NaN if no pixel has a truth.

    Raises:
        ValueError: As of :func:`confusion`.
    """
    counts = confusion(label, truth, classes)
    both = np.diagonal(counts)
    either = counts.sum(axis=1) + counts.sum(axis=0)[:-1] - both
    present = either > 0
    if not present.any():
        return math.nan
    return 100 * float((both[present] / either[present]).mean())
