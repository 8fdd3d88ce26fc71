"""Dense CRF: label maps that follow the edges of their image.

Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials, NIPS 2011, by the package pydensecrf2.
"""

import numpy as np

from mmwood.utils.check import at_least, check_shapes
from mmwood.utils.require import require

__all__ = [
    "DEEPLAB_CRF",
    "check_image",
    "check_labels",
    "check_probabilities",
    "dense_crf",
]

#: Least probability that the CRF sees: the logarithm of 0 is not finite.
LEAST_PROBABILITY = 1e-5
#: DeepLab's post-processing (Chen et al., PAMI 2018), where it is not the default.
DEEPLAB_CRF = dict(
    gaussian_sxy=1, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4
)


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
        ValueError: An argument has another shape, type or range.
    """
    image, given = np.asarray(image), np.asarray(probs_or_labels)
    axes = "H W" if given.ndim == 2 else "n H W"
    check_image(image, probs_or_labels=(given, axes))
    at_least("iterations", iterations, 0, integer=True)
    for name, value in (
        ("gaussian_sxy", gaussian_sxy),
        ("bilateral_sxy", bilateral_sxy),
        ("bilateral_srgb", bilateral_srgb),
    ):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")
    if not 0 < gt_prob < 1:
        raise ValueError(f"gt_prob must be between 0 and 1, got {gt_prob!r}")
    if given.ndim == 2:
        n_labels = check_labels(given, n_labels)
    else:
        n_labels = check_probabilities(given, n_labels)
    if n_labels == 1:
        return np.ones((1, *image.shape[:2]), dtype=np.float32)
    require(
        "pydensecrf",
        "crf",
        "the dense CRF",
        "The package is named pydensecrf2 there, and a C++ compiler builds it. PAMR "
        "needs none: refine=dict(method='pamr')",
    )
    from pydensecrf import densecrf, utils

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
        rgbim=np.require(image, requirements=["C", "W"]),
        compat=bilateral_compat,
    )
    marginals = np.array(crf.inference(iterations), dtype=np.float32)
    return marginals.reshape(n_labels, height, width)


def check_image(image: np.ndarray, **others: tuple[np.ndarray, str]) -> None:
    """Refuse what is no RGB image (H, W, 3) uint8, and others of other axes."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}"
        )
    check_shapes(image=(image, "H W 3"), **others)


def check_labels(label: np.ndarray, n_labels: int | None) -> int:
    """How many labels a label map has, if all are in 0..n_labels-1."""
    if n_labels is None:
        raise ValueError("a label map needs n_labels, the number of its labels")
    at_least("n_labels", n_labels, 1, integer=True)
    if not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {label.dtype}")
    if label.size and not (label.min() >= 0 and label.max() < n_labels):
        raise ValueError(
            f"labels must be in 0..{n_labels - 1} (n_labels={n_labels}), got "
            f"{label.min()}..{label.max()}"
        )
    return n_labels


def check_probabilities(probs: np.ndarray, n_labels: int | None = None) -> int:
    """How many labels probabilities (n, H, W) have, if they are in [0, 1]."""
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
    return len(probs)
