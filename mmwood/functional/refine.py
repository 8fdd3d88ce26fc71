"""Label maps that follow the edges of their image: dense CRF and PAMR.

Dense CRF: Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with
Gaussian Edge Potentials, NIPS 2011, by the package pydensecrf2. PAMR: Araslanov and
Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020. The training
labels of IRN: Ahn et al., Weakly Supervised Learning of Instance Segmentation with
Inter-pixel Relations, CVPR 2019. Those of PSA, which SEAM takes over: Ahn and Kwak,
Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
Supervised Semantic Segmentation, CVPR 2018.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "affinity_label",
    "dense_crf",
    "pamr",
    "power_affinity_label",
    "refine_label",
    "refine_scores",
    "refine_settings",
]

#: Least probability that the CRF sees: the logarithm of 0 is not finite.
LEAST_PROBABILITY = 1e-5
#: PAMR's contrast: differences are divided by this share of the standard deviation.
PAMR_CONTRAST = 0.1
#: Added to it, as in PAMR's program.
PAMR_EPSILON = 1e-8
VOID = 255


def dense_crf(
    image: np.ndarray,
    probs_or_labels: np.ndarray,
    n_labels: int | None = None,
    gt_prob: float = 0.7,
    iterations: int = 10,
    gaussian_sxy: float = 3,
    gaussian_compat: float = 3,
    bilateral_sxy: float = 50,
    bilateral_srgb: float = 5,
    bilateral_compat: float = 10,
) -> np.ndarray:
    r"""Marginals of a fully connected CRF, by mean-field iterations.

    .. math:: E(x) = \sum_i -\log P_i(x_i) + \sum_{i<j} [x_i \ne x_j] (
        w_g e^{-|p_i-p_j|^2 / 2 s_g^2}
        + w_b e^{-|p_i-p_j|^2 / 2 s_b^2 - |I_i-I_j|^2 / 2 s_{rgb}^2})

    with positions p in pixels and colours I, each kernel normalised. The defaults are
    those of IRN's training labels; DeepLab's post-processing is ``gaussian_sxy=1,
    bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4``.

    Args:
        image: RGB image.
        probs_or_labels: The probabilities P, clipped from below at 1e-5; or a label
            map, whose pixels have their label with probability ``gt_prob`` and share
            the rest among the other labels.
        n_labels: Number n of labels. A label map needs it.
        gt_prob: See above; probabilities do not need it.
        iterations: Number of mean-field iterations.
        gaussian_sxy: s_g, in pixels.
        gaussian_compat: w_g.
        bilateral_sxy: s_b, in pixels.
        bilateral_srgb: s_rgb, in grey levels of 256.
        bilateral_compat: w_b.

    Returns:
        Probabilities, float32, that sum to 1 over the labels.

    Shape:
        - image: (H, W, 3) uint8; probs_or_labels: (n, H, W) floats or (H, W) integers;
          output: (n, H, W)

    Raises:
        ImportError: pydensecrf2 is not installed.
        ValueError: An argument has no such shape, type or value.
    """
    image, given = np.asarray(image), np.asarray(probs_or_labels)
    _check_image(image)
    _check_whole("iterations", iterations, 0)
    for name, value in (
        ("gaussian_sxy", gaussian_sxy),
        ("bilateral_sxy", bilateral_sxy),
        ("bilateral_srgb", bilateral_srgb),
    ):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")
    if not 0 < gt_prob < 1:
        raise ValueError(f"gt_prob must be between 0 and 1, got {gt_prob!r}")
    if given.shape[-2:] != image.shape[:2] or given.ndim not in (2, 3):
        raise ValueError(
            "dense_crf needs an image (H, W, 3) and probabilities (n, H, W) or labels "
            f"(H, W), got {image.shape} and {given.shape}"
        )
    if given.ndim == 2:
        _check_labels(given, n_labels)
    else:
        _check_probabilities(given, n_labels)
        n_labels = len(given)
    if n_labels == 1:
        return np.ones((1, *image.shape[:2]), dtype=np.float32)
    densecrf, utils = _import_crf()
    if given.ndim == 2:
        unary = utils.unary_from_labels(given, n_labels, gt_prob, zero_unsure=False)
    else:
        probs = given.astype(np.float32)
        unary = utils.unary_from_softmax(probs, clip=LEAST_PROBABILITY)
    height, width = image.shape[:2]
    crf = densecrf.DenseCRF2D(width, height, n_labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))
    crf.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=bilateral_sxy,
        srgb=bilateral_srgb,
        # Not read-only, as np.asarray's views of Pillow's images are.
        rgbim=np.require(image, requirements="CW"),
        compat=bilateral_compat,
    )
    marginals = np.array(crf.inference(iterations), dtype=np.float32)
    return marginals.reshape(n_labels, height, width)


def pamr(
    image: Tensor,
    masks: Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
) -> Tensor:
    r"""Pixel-adaptive mask refinement: each pixel becomes a mean of similar neighbours.

    .. math:: m_i \leftarrow \sum_{j \in N(i)} m_j \; softmax_j \Big(
        - \frac{1}{D} \sum_d \frac{|I_{di} - I_{dj}|}{10^{-8} + 0.1 \sigma_{di}} \Big)

    N(i) are the 8 neighbours of i at every dilation, σ the (sample) standard deviation
    over them and i itself, which counts once at every dilation, as in PAMR's program;
    d are the D channels. Beyond the border the image and the masks go on with their
    outermost pixels. The result does not depend on the unit of the image.

    Held in memory are the softmax's values, one per neighbour and pixel, and a few
    copies of the masks: neighbours are visited one after the other. Gradients flow to
    the masks, not to the image; every neighbour's term is kept for them only if the
    masks require them.

    Args:
        image: The image.
        masks: Scores of n masks at the image's size, in any unit.
        iterations: How often the masks are replaced.
        dilations: Distances of the neighbours, in pixels.

    Returns:
        Masks of the same dtype (float32 if it is an integer type), within the range
        of the given ones. Masks that sum to 1 at every pixel still do.

    Shape:
        - image: (B, D, H, W); masks: (B, n, H, W); output: (B, n, H, W)

    Raises:
        ValueError: An argument has no such shape or value.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])
        >>> masks = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
        >>> pamr(image, masks, iterations=1, dilations=[1]).gt(0.1).tolist()
        [[[[True, True, False, False]]]]
    """
    if (
        image.ndim != 4
        or masks.ndim != 4
        or image.shape[0] != masks.shape[0]
        or image.shape[2:] != masks.shape[2:]
    ):
        raise ValueError(
            "pamr needs image (B, D, H, W) and masks (B, n, H, W), got "
            f"{tuple(image.shape)} and {tuple(masks.shape)}"
        )
    _check_whole("iterations", iterations, 0)
    if not isinstance(dilations, Sequence) or not len(dilations):
        raise ValueError(f"dilations must be a list of distances, got {dilations!r}")
    for dilation in dilations:
        _check_whole("dilations", dilation, 1)
    # The divisor of a flat area is 0 in half precision.
    dtype = torch.promote_types(image.dtype, masks.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    reach = max(dilations)
    offsets = [
        (reach + dilation * y, reach + dilation * x)
        for dilation in dilations
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
        if (y, x) != (0, 0)
    ]
    weights = _pamr_weights(image.to(dtype), offsets, reach)
    refined = masks.to(dtype)
    for _ in range(iterations):
        padded = _replicate(refined, reach)
        refined = torch.zeros_like(refined)
        for number, offset in enumerate(offsets):
            neighbour = _window(padded, offset, refined.shape)
            refined.addcmul_(weights[:, number, None], neighbour)
    return refined.to(masks.dtype) if masks.is_floating_point() else refined


def refine_label(
    image: np.ndarray,
    label: np.ndarray,
    n_labels: int,
    method: str | None = "crf",
    **options,
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
        ImportError: The method needs a package that is not installed.
        ValueError: There is no such method or option, or an argument has no such
            shape, type or value.
    """
    settings = refine_settings(dict(options, method=method))
    image, label = np.asarray(image), np.asarray(label)
    _check_image(image)
    if label.shape != image.shape[:2]:
        raise ValueError(
            "refine_label needs an image (H, W, 3) and a label map (H, W), got "
            f"{image.shape} and {label.shape}"
        )
    _check_labels(label, n_labels)
    if settings["method"] is None:
        return label.astype(np.uint8)
    if settings.pop("method") == "crf":
        refined = dense_crf(image, label, n_labels=n_labels, **settings)
        return refined.argmax(axis=0).astype(np.uint8)
    masks = np.float32(label == np.arange(n_labels)[:, None, None])
    return _pamr_label(image, masks, **settings)


def refine_scores(
    image: np.ndarray, scores: np.ndarray, method: str | None = "crf", **options
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
        ImportError: The method needs a package that is not installed.
        ValueError: There is no such method or option, or an argument has no such
            shape, type or value.
    """
    settings = refine_settings(dict(options, method=method))
    image, scores = np.asarray(image), np.asarray(scores, dtype=np.float32)
    _check_image(image)
    if scores.ndim != 3 or scores.shape[1:] != image.shape[:2]:
        raise ValueError(
            "refine_scores needs an image (H, W, 3) and scores (n, H, W), got "
            f"{image.shape} and {scores.shape}"
        )
    _check_probabilities(scores, None)
    if settings["method"] is None:
        return scores.argmax(axis=0).astype(np.uint8)
    if settings.pop("method") == "crf":
        return dense_crf(image, scores, **settings).argmax(axis=0).astype(np.uint8)
    return _pamr_label(image, scores, **settings)


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
    functions = {"crf": dense_crf, "pamr": pamr, None: None}
    if method not in functions:
        raise ValueError(
            f"refine: method must be 'crf', 'pamr' or None, got {method!r}"
        )
    defaults = {}
    if method is not None:
        data = ("image", "masks", "probs_or_labels", "n_labels")
        defaults = {
            name: parameter.default
            for name, parameter in signature(functions[method]).parameters.items()
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
        ImportError: The refinement needs a package that is not installed.
        ValueError: The arguments do not fit each other, or one has no such value.
    """
    if not 0 <= background <= foreground < 1:
        raise ValueError(
            "foreground and background must satisfy 0 <= background <= foreground < 1, "
            f"got foreground={foreground!r} and background={background!r}"
        )
    image, cam, classes = _check_maps("affinity_label", image, cam, classes)
    if not len(classes):
        return np.zeros(image.shape[:2], dtype=np.uint8)
    settings = refine_settings(refine)
    score, index = cam.max(axis=0), cam.argmax(axis=0) + 1

    def refined(threshold: float) -> np.ndarray:
        label = np.where(score > np.float32(threshold), index, 0)
        return refine_label(image, label, len(classes) + 1, **settings)

    sure = refined(foreground)
    possible = sure if background == foreground else refined(background)
    label = np.append(0, classes + 1)[sure]
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
        image: RGB image.
        cam: Normalised maps of the image's classes, between 0 and 1.
        classes: Which class each map belongs to, counted from 0 without background.
        low: The lower α. PSA and SEAM: 4.
        high: The higher one. PSA: 32, SEAM: 24.
        refine: As in :func:`refine_settings`. PSA's and SEAM's CRF: ``bilateral_sxy=80,
            bilateral_srgb=13``.

    Returns:
        uint8 label map: 0 is background, c + 1 is class c, 255 is unknown.

    Shape:
        - image: (H, W, 3) uint8; cam: (n, H, W); classes: (n,); output: (H, W)

    Raises:
        ImportError: The refinement needs a package that is not installed.
        ValueError: The arguments do not fit each other, or one has no such value.
    """
    if not 0 < low <= high:
        raise ValueError(
            f"low and high must satisfy 0 < low <= high, got low={low!r} and "
            f"high={high!r}"
        )
    image, cam, classes = _check_maps("power_affinity_label", image, cam, classes)
    if not len(classes):
        return np.zeros(image.shape[:2], dtype=np.uint8)
    settings = refine_settings(refine)
    # Half-precision maps may exceed 1 by a rounding.
    rest = (1 - cam.max(axis=0, keepdims=True)).clip(0)

    def refined(alpha: float) -> np.ndarray:
        return refine_scores(image, np.concatenate([rest**alpha, cam]), **settings)

    sure = refined(low)
    label = np.append(VOID, classes + 1)[sure]
    label[(sure if high == low else refined(high)) == 0] = 0
    return label.astype(np.uint8)


def _pamr_label(image: np.ndarray, masks: np.ndarray, **settings) -> np.ndarray:
    pixels = torch.tensor(image.transpose(2, 0, 1)[None], dtype=torch.float32) / 255
    refined = pamr(pixels, torch.from_numpy(masks)[None], **settings)[0]
    # torch.argmax does not say which of equals it takes.
    return refined.numpy().argmax(axis=0).astype(np.uint8)


@torch.no_grad()
def _pamr_weights(
    image: Tensor, offsets: Sequence[tuple[int, int]], reach: int
) -> Tensor:
    """What each neighbour counts for a pixel. Shape: (B, N, H, W)."""
    padded = _replicate(image, reach)
    neighbours = [_window(padded, offset, image.shape) for offset in offsets]
    # The pixel itself counts once for every eight neighbours.
    dilations = len(offsets) // 8
    count = 9 * dilations
    mean = (sum(neighbours) + dilations * image) / count
    variance = dilations * (image - mean).square()
    for neighbour in neighbours:
        variance += (neighbour - mean).square()
    scale = PAMR_EPSILON + PAMR_CONTRAST * (variance / (count - 1)).sqrt()
    weights = image.new_empty((image.shape[0], len(offsets), *image.shape[2:]))
    for number, neighbour in enumerate(neighbours):
        weights[:, number] = -((image - neighbour).abs() / scale).mean(dim=1)
    # A softmax in place.
    weights -= weights.amax(dim=1, keepdim=True)
    weights.exp_()
    weights /= weights.sum(dim=1, keepdim=True)
    return weights


def _replicate(maps: Tensor, reach: int) -> Tensor:
    """Maps with ``reach`` more pixels on every side, equal to the outermost ones."""
    # torch's own replication knows fewer dtypes and devices.
    for dim in (2, 3):
        size = maps.shape[dim]
        index = torch.arange(-reach, size + reach, device=maps.device)
        maps = maps.index_select(dim, index.clamp(0, size - 1))
    return maps


def _window(padded: Tensor, corner: tuple[int, int], shape: Sequence[int]) -> Tensor:
    """A view of the last two axes from a corner."""
    (y, x), (height, width) = corner, shape[-2:]
    return padded[..., y : y + height, x : x + width]


def _import_crf() -> tuple:
    try:
        from pydensecrf import densecrf, utils
    except ImportError as error:
        raise ImportError(
            'the dense CRF is not installed: run `pip install "mmwood[crf]"` (the '
            "package is named pydensecrf2 there, and a C++ compiler builds it), or "
            "refine with PAMR, which needs no compiler: refine=dict(method='pamr')"
        ) from error
    return densecrf, utils


def _check_image(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}"
        )


def _check_maps(
    name: str, image: np.ndarray, cam: np.ndarray, classes: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of a function of that name as arrays, if they fit."""
    image = np.asarray(image)
    cam = np.asarray(cam, dtype=np.float32)
    classes = np.asarray(classes, dtype=np.int64)
    _check_image(image)
    if cam.shape != (len(classes), *image.shape[:2]):
        raise ValueError(
            f"{name} needs an image (H, W, 3), maps (n, H, W) and n classes, "
            f"got {image.shape}, {cam.shape} and {len(classes)} classes"
        )
    if len(classes) and (classes.min() < 0 or classes.max() > VOID - 2):
        raise ValueError(
            f"{name} writes class c as the uint8 label c + 1 and keeps 255 for "
            f"unknown pixels: classes must be in 0..253, got {classes.tolist()}"
        )
    return image, cam, classes


def _check_labels(label: np.ndarray, n_labels: int | None) -> None:
    _check_whole("n_labels", n_labels, 1)
    if not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {label.dtype}")
    if label.size and not (label.min() >= 0 and label.max() < n_labels):
        raise ValueError(
            f"labels must be in 0..{n_labels - 1} (n_labels={n_labels}), got "
            f"{label.min()}..{label.max()}"
        )


def _check_probabilities(probs: np.ndarray, n_labels: int | None) -> None:
    if not len(probs) or n_labels not in (None, len(probs)):
        raise ValueError(
            f"probabilities of n_labels={n_labels} labels must be (n_labels, H, W), "
            f"got {probs.shape}"
        )
    # NaN fails too; a softmax may exceed 1 by a rounding.
    if probs.size and not (probs.min() >= 0 and probs.max() <= 1 + 1e-3):
        raise ValueError(
            f"probabilities must be in [0, 1], got {probs.min()}..{probs.max()}"
        )


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"{name} must be a whole number of at least {least}, got {value!r}"
        )
