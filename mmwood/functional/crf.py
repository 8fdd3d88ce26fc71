"""Dense CRF: label maps that follow the edges of their image.

Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials, NIPS 2011.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmwood.utils.check import at_least, check_shapes

from .permutohedral import PermutohedralFilter

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
    device: str | torch.device = "cpu",
) -> np.ndarray:
    r"""Marginals of a fully connected CRF, by mean-field iterations.

    .. math:: E(x) = \sum_i -\log P_i(x_i) + \sum_{i<j} [x_i \ne x_j] (
        w_g e^{-|p_i-p_j|^2 / 2 s_g^2}
        + w_b e^{-|p_i-p_j|^2 / 2 s_b^2 - |I_i-I_j|^2 / 2 s_{rgb}^2})

    with positions p in pixels and colours I, each kernel normalised symmetrically and
    approximated by a :class:`~mmwood.functional.permutohedral.PermutohedralFilter`. The
    results are those of the authors' program but for rounding. The defaults are those
    of IRN's training labels; DeepLab's post-processing is ``gaussian_sxy=1,
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
        device: Where to compute.

    Returns:
        Probabilities, float32, that sum to 1 over the labels.

    Shape:
        - image: (H, W, 3) uint8; probs_or_labels: (n, H, W) floats or (H, W) integers;
          output: (n, H, W)

    Raises:
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
    height, width = image.shape[:2]
    if n_labels == 1 or not height * width:
        return np.ones((n_labels, height, width), dtype=np.float32)
    if given.ndim == 2:
        log_probs = _log_probs_of_labels(given, n_labels, gt_prob)
    else:
        probs = given.astype(np.float32).clip(LEAST_PROBABILITY, 1)
        log_probs = torch.from_numpy(np.log(probs)).flatten(1).T
    device = torch.device(device)
    kernels = [
        (gaussian_compat, _gaussian(height, width, gaussian_sxy, device)),
        (bilateral_compat, _bilateral(image, bilateral_sxy, bilateral_srgb, device)),
    ]
    marginals = mean_field(log_probs.to(device).contiguous(), kernels, iterations)
    return marginals.T.reshape(n_labels, height, width).cpu().numpy()


@torch.no_grad()
def mean_field(
    log_probs: Tensor,
    kernels: Sequence[tuple[float, PermutohedralFilter]],
    iterations: int = 10,
) -> Tensor:
    r"""Mean-field iterations of a fully connected CRF with Potts potentials.

    .. math:: Q \leftarrow softmax(\log P + \sum_k w_k K_k Q), \quad Q_0 = P

    Args:
        log_probs: log P of n labels, up to a constant of each pixel.
        kernels: Weights w and filters K.
        iterations: Number of iterations.

    Returns:
        Q, on the device of ``log_probs``.

    Shape:
        - log_probs: (N, n) float32; output: (N, n)
    """
    marginals = _softmax(log_probs)
    for _ in range(iterations):
        logits = log_probs.clone()
        for weight, kernel in kernels:
            logits.add_(kernel(marginals), alpha=weight)
        marginals = _softmax(logits)
    return marginals


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


def _softmax(logits: Tensor) -> Tensor:
    # Over a few columns torch needs several times as long as over rows.
    if logits.shape[1] < 16:
        return logits.T.contiguous().softmax(dim=0).T.contiguous()
    return logits.softmax(dim=1)


def _log_probs_of_labels(label: np.ndarray, n_labels: int, gt_prob: float) -> Tensor:
    other = math.log((1 - gt_prob) / (n_labels - 1))
    log_probs = torch.full((label.size, n_labels), other)
    index = torch.from_numpy(label.astype(np.int64).reshape(-1, 1))
    return log_probs.scatter_(1, index, math.log(gt_prob))


# Images of a data set often have one size, and labels are made of two label maps.
@lru_cache(maxsize=1)
def _gaussian(
    height: int, width: int, sxy: float, device: torch.device
) -> PermutohedralFilter:
    return PermutohedralFilter((_positions(height, width) / sxy).to(device))


def _bilateral(
    image: np.ndarray, sxy: float, srgb: float, device: torch.device
) -> PermutohedralFilter:
    colours = torch.from_numpy(image.reshape(-1, 3).astype(np.float32))
    both = torch.cat([_positions(*image.shape[:2]) / sxy, colours / srgb], dim=1)
    return PermutohedralFilter(both.to(device))


def _positions(height: int, width: int) -> Tensor:
    """X and y of every pixel. Shape: (H W, 2)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1).float()
