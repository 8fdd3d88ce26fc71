"""Label maps refined by the dense CRF or PAMR, and training labels made of them.

The training labels of IRN: Ahn et al., Weakly Supervised Learning of Instance
Segmentation with Inter-pixel Relations, CVPR 2019. Those of PSA, which SEAM takes over:
Ahn and Kwak, Learning Pixel-level Semantic Affinity with Image-level Supervision for
Weakly Supervised Semantic Segmentation, CVPR 2018.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, Literal

import numpy as np
import torch

from mmwood.utils.check import one_of

from .cam import label_values
from .crf import check_image, check_labels, check_probabilities, dense_crf
from .pamr import pamr

__all__ = [
    "affinity_label",
    "dense_crf",
    "pamr",
    "power_affinity_label",
    "refine_label",
    "refine_scores",
    "refine_settings",
]

#: What refines: a dense CRF, PAMR, or nothing.
Method = Literal["crf", "pamr"] | None
_FUNCTIONS: dict[Method, Any] = {"crf": dense_crf, "pamr": pamr, None: None}
VOID = 255


def refine_label(
    image: np.ndarray,
    label: np.ndarray,
    n_labels: int,
    method: Method = "crf",
    **options: Any,
) -> np.ndarray:
    """The label map that a dense CRF or PAMR makes of a label map.

    Args:
        image: RGB image.
        label: Labels in 0..n_labels-1.
        n_labels: Number of labels.
        method: 'crf': the label of the largest marginal of :func:`dense_crf`; 'pamr':
            of the largest mask after :func:`pamr` on one mask per label; None: the
            label map itself. Of equals, the lowest label.
        **options: Of the method.

    Shape:
        - image: (H, W, 3) uint8; label: (H, W) uint8; output: (H, W) uint8

    Raises:
        ValueError: There is no such method or option, or an argument has another
            shape, type or range.
    """
    settings = refine_settings(dict(options, method=method))
    image, label = np.asarray(image), np.asarray(label)
    check_image(image, label=(label, "H W"))
    check_labels(label, n_labels)
    if settings["method"] is None:
        return label.astype(np.uint8)
    if settings.pop("method") == "crf":
        refined = dense_crf(image, label, n_labels=n_labels, **settings)
        return refined.argmax(axis=0).astype(np.uint8)
    masks = label == np.arange(n_labels)[:, None, None]
    return _pamr_labels(image, masks[None], **settings)[0]


def refine_scores(
    image: np.ndarray, scores: np.ndarray, method: Method = "crf", **options: Any
) -> np.ndarray:
    """The label map that a dense CRF or PAMR makes of a score for each label.

    Args:
        image: RGB image.
        scores: Scores of n labels between 0 and 1; they need not sum to 1.
        method: 'crf': the label of the largest marginal of :func:`dense_crf`; 'pamr':
            of the largest score after :func:`pamr`; None: of the largest score. Of
            equals, the lowest label.
        **options: Of the method.

    Shape:
        - image: (H, W, 3) uint8; scores: (n, H, W); output: (H, W) uint8

    Raises:
        ValueError: As for :func:`refine_label`.
    """
    settings = refine_settings(dict(options, method=method))
    image, scores = np.asarray(image), np.asarray(scores, dtype=np.float32)
    check_image(image, scores=(scores, "n H W"))
    check_probabilities(scores)
    if settings["method"] is None:
        return scores.argmax(axis=0).astype(np.uint8)
    if settings.pop("method") == "crf":
        return dense_crf(image, scores, **settings).argmax(axis=0).astype(np.uint8)
    return _pamr_labels(image, scores[None], **settings)[0]


def refine_settings(refine: Mapping | None) -> dict:
    """All settings of a refinement, from the ones that are given.

    Args:
        refine: ``method`` ('crf' by default) and options, as of :func:`refine_label`.
            None is ``dict(method=None)``.

    Returns:
        ``method`` and all its options; defaults stand where nothing is given.

    Raises:
        ValueError: There is no such method or option.

    Example:
        >>> refine_settings(dict(method='pamr', iterations=5))
        {'method': 'pamr', 'iterations': 5, 'dilations': (1, 2, 4, 8, 12, 24)}
    """
    options = dict(method=None) if refine is None else dict(refine)
    method = options.pop("method", "crf")
    one_of("refine: method", method, _FUNCTIONS)
    defaults = {}
    if method is not None:
        data = ("image", "masks", "probs_or_labels", "n_labels", "device")
        defaults = {
            name: parameter.default
            for name, parameter in signature(_FUNCTIONS[method]).parameters.items()
            if name not in data
        }
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise ValueError(
            f"refine: method {method!r} has no option {unknown[0]!r}; its options are "
            f"{list(defaults)}"
        )
    return dict(method=method, **{**defaults, **options})


def affinity_label(
    image: np.ndarray,
    cam: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    foreground: float = 0.30,
    background: float = 0.05,
    refine: Mapping | None = None,
) -> np.ndarray:
    """IRN's training label: where class activation maps are sure, and 255 elsewhere.

    Two label maps, each the argmax over [threshold, CAM] (a tie is background), are
    refined within the labels of the image. A pixel has the class that the one of the
    higher threshold, ``foreground``, gives it; it is background where both say so;
    all others are 255.

    Args:
        image: RGB image.
        cam: Normalised maps of the image's classes.
        classes: Which class each map belongs to, counted from 0 without background.
        foreground: The higher threshold. IRN: 0.30.
        background: The lower one. IRN: 0.05; W-OoD's program: 0.15.
        refine: As in :func:`refine_settings`.

    Returns:
        uint8 label map: 0 is background, c + 1 is class c, 255 is unknown.

    Shape:
        - image: (H, W, 3) uint8; cam: (n, H, W); classes: (n,); output: (H, W)

    Raises:
        ValueError: The arguments do not fit each other, a class is above 253, the
            thresholds are not in order; as for :func:`refine_settings`.
    """
    if not 0 <= background <= foreground < 1:
        raise ValueError(
            "foreground and background must satisfy 0 <= background <= foreground < 1, "
            f"got foreground={foreground!r} and background={background!r}"
        )
    image, cam, values = _checked(image, cam, classes)
    if not len(values):
        return np.zeros(image.shape[:2], dtype=np.uint8)
    settings = refine_settings(refine)
    score, index = cam.max(axis=0), cam.argmax(axis=0) + 1

    thresholds = sorted({foreground, background}, reverse=True)
    labels = [np.where(score > np.float32(t), index, 0) for t in thresholds]
    if settings["method"] == "pamr":
        del settings["method"]
        masks = np.stack(labels)[:, None] == np.arange(len(values) + 1)[:, None, None]
        refined = list(_pamr_labels(image, masks, **settings))
    else:
        count = len(values) + 1
        refined = [refine_label(image, label, count, **settings) for label in labels]
    # One map where the thresholds are equal.
    sure, possible = refined[0], refined[-1]
    label = np.append(0, values)[sure]
    label[(sure == 0) & (possible != 0)] = VOID
    return label.astype(np.uint8)


def power_affinity_label(
    image: np.ndarray,
    cam: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    low: float = 4.0,
    high: float = 24.0,
    refine: Mapping | None = None,
) -> np.ndarray:
    r"""PSA's and SEAM's training label: sure under two strengths of the background.

    The scores :math:`[(1 - \max_c CAM_c)^\alpha, CAM]` are refined once with α =
    ``low``, which makes much of an image background, and once with ``high``, which
    makes little. A pixel is background where the second says so, else it has the class
    that the first gives it; where the first says background, it is 255.

    Unrefined, this is :func:`affinity_label` with the thresholds m that solve
    :math:`m = (1 - m)^\alpha`: 0.276 for 4 and 0.094 for 24. What differs is what the
    refinement sees: scores here, labels there.

    Args:
        image: As for :func:`affinity_label`.
        cam: As there, between 0 and 1.
        classes: As there.
        low: The lower α. PSA and SEAM: 4.
        high: The higher one. PSA: 32, SEAM: 24.
        refine: As in :func:`refine_settings`. PSA's and SEAM's CRF: ``bilateral_sxy=80,
            bilateral_srgb=13``.

    Raises:
        ValueError: As for :func:`affinity_label`, with ``low`` and ``high``.
    """
    if not 0 < low <= high:
        raise ValueError(
            f"low and high must satisfy 0 < low <= high, got low={low!r} and "
            f"high={high!r}"
        )
    image, cam, values = _checked(image, cam, classes)
    if not len(values):
        return np.zeros(image.shape[:2], dtype=np.uint8)
    settings = refine_settings(refine)
    # Half-precision maps may exceed 1 by a rounding.
    rest = (1 - cam.max(axis=0, keepdims=True)).clip(0)

    def refined(alpha: float) -> np.ndarray:
        return refine_scores(image, np.concatenate([rest**alpha, cam]), **settings)

    sure = refined(low)
    label = np.append(VOID, values)[sure]
    label[(sure if high == low else refined(high)) == 0] = 0
    return label.astype(np.uint8)


def _pamr_labels(image: np.ndarray, scores: np.ndarray, **settings) -> np.ndarray:
    """Several label maps; what depends on the image alone is computed once.

    Shape:
        - image: (H, W, 3) uint8; scores: (k, n, H, W); output: (k, H, W) uint8
    """
    pixels = torch.tensor(image.transpose(2, 0, 1)[None], dtype=torch.float32) / 255
    together = torch.from_numpy(scores.astype(np.float32)).flatten(0, 1)
    refined = pamr(pixels, together[None], **settings)[0]
    # torch.argmax does not say which of equals it takes.
    return refined.numpy().reshape(scores.shape).argmax(axis=1).astype(np.uint8)


def _checked(
    image: np.ndarray, cam: np.ndarray, classes: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, maps and the classes' values in a label map, if they fit each other."""
    image = np.asarray(image)
    cam = np.asarray(cam, dtype=np.float32)
    classes = np.asarray(classes, dtype=np.int64)
    check_image(image, cam=(cam, "n H W"), classes=(classes, "n"))
    return image, cam, label_values(classes)
