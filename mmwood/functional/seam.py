"""What SEAM adds to a classifier: pixel correlation, and losses that compare two views.

Wang et al., Self-supervised Equivariant Attention Mechanism for Weakly Supervised
Semantic Segmentation, CVPR 2020. Maps with a background have it as first channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwood.utils.check import check_shapes

#: Against division by zero, as in SEAM's program.
EPSILON = 1e-5


def normalized_maps(maps: Tensor) -> Tensor:
    r"""Every map of every image stretched to the range from 0 to 1.

    .. math:: \max(0, a - \min a - \epsilon) / (\max a - \min a + \epsilon),
        \quad a = \max(0, \text{map})

    Shape:
        - maps: (B, C, h, w); output: the same
    """
    maps = maps.relu()
    low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    return F.relu(maps - low - EPSILON) / (high - low + EPSILON)


def with_background(maps: Tensor) -> Tensor:
    """The maps behind a background map, which is 1 - the largest of them.

    Shape:
        - maps: (B, C, h, w), between 0 and 1; output: (B, C + 1, h, w)
    """
    return torch.cat([1 - maps.amax(dim=1, keepdim=True), maps], dim=1)


def strongest_only(maps: Tensor) -> Tensor:
    """Keep, in every pixel, the classes of the largest value only, and background.

    Shape:
        - maps: (B, C + 1, h, w), background first; output: the same
    """
    classes = maps[:, 1:]
    kept = torch.where(classes == classes.amax(dim=1, keepdim=True), classes, 0)
    return torch.cat([maps[:, :1], kept], dim=1)


def pixel_correlation(maps: Tensor, features: Tensor) -> Tensor:
    r"""Maps in which each pixel has the mean of the pixels that look like it (PCM).

    .. math:: y_i = \sum_j \frac{\max(0, \cos(f_i, f_j))}
                               {\sum_k \max(0, \cos(f_k, f_i))} x_j

    Memory: (B, h·w, h·w).

    Args:
        maps: x, of any number of channels.
        features: f.

    Shape:
        - maps: (B, C, h, w); features: (B, D, h, w); output: (B, C, h, w)
    """
    check_shapes(maps=(maps, "B C h w"), features=(features, "B D h w"))
    # Squares of half-precision features overflow.
    flat = features.flatten(2).to(torch.promote_types(features.dtype, torch.float32))
    flat = (flat / (flat.norm(dim=1, keepdim=True) + EPSILON)).to(features.dtype)
    affinity = (flat.mT @ flat).relu()
    affinity = affinity / (affinity.sum(dim=1, keepdim=True) + EPSILON)
    return (maps.flatten(2).to(affinity.dtype) @ affinity).unflatten(2, maps.shape[2:])


def cross_regularization_loss(
    maps: Tensor, target: Tensor, fraction: float = 0.2
) -> Tensor:
    """Equivariant cross regularisation: the mean of the largest differences.

    Of each image, the ``fraction`` of all its values (classes and pixels) in which the
    two differ most counts.

    Args:
        maps: Refined maps of one view, background first.
        target: The other view's maps, not refined, without gradient.
        fraction: Part of the values that counts.

    Shape:
        - maps, target: (B, C + 1, h, w); output: ()
    """
    differences = (target - maps).abs().flatten(1)
    count = max(int(differences.shape[1] * fraction), 1)
    return differences.topk(count, dim=1).values.mean()


def min_pooling_loss(maps: Tensor, fraction: float = 0.25) -> Tensor:
    """The mean of the lowest part of each image's largest map: it should be zero.

    Args:
        maps: Maps of the image's own classes; those of other classes are zero.
        fraction: Part of the pixels that counts.

    Shape:
        - maps: (B, C, h, w); output: ()
    """
    largest = maps.amax(dim=1).flatten(1)
    count = max(int(largest.shape[1] * fraction), 1)
    return largest.topk(count, dim=1, largest=False).values.relu().mean()
