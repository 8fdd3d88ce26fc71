"""Patch token contrast (PTC): tokens of one class alike, those of different ones not.

Ru et al., Token Contrast for Weakly-Supervised Semantic Segmentation (ToCo), CVPR 2023.
The last tokens of a vision transformer become ever more alike. Those of an inner block
are not yet so, and maps of a classifier on them say which of the last tokens belong
together.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwood.functional.seam import normalized_maps
from mmwood.utils.check import check_shapes

#: The label of tokens that have no part in the loss.
IGNORED = 255


def auxiliary_maps(scores: Tensor, labels: Tensor) -> Tensor:
    """Maps of each image's own classes, stretched to the range from 0 to 1.

    Args:
        scores: The inner classifier's scores in space, W f.
        labels: Image-level labels; what is not 0 is a class of the image.

    Returns:
        :func:`mmwood.functional.seam.normalized_maps` without gradient; zero for
        classes that an image has no label of.

    Shape:
        - scores: (B, C, h, w); labels: (B, C); output: (B, C, h, w)
    """
    check_shapes(scores=(scores, "B C h w"), labels=(labels, "B C"))
    return normalized_maps(scores.detach()) * (labels != 0)[:, :, None, None]


def token_labels(
    maps: Tensor, foreground: float = 0.7, background: float = 0.25
) -> Tensor:
    """The class of the largest map, background, or neither.

    Args:
        maps: The maps A of :func:`auxiliary_maps`.
        foreground: Above it a token is of class c and has the label c + 1. Published:
            0.7 on VOC, 0.65 on COCO.
        background: Up to it a token is background, 0. Those between have 255.

    Shape:
        - maps: (B, C, h, w); output: (B, h, w), int64
    """
    score, index = maps.max(dim=1)
    known = torch.where(score > foreground, index + 1, IGNORED)
    return torch.where(score <= background, 0, known)


def inside_image(sizes: Tensor, grid: Sequence[int], stride: int) -> Tensor:
    """Which tokens have their centre in the image, not in padding below or right of it.

    Args:
        sizes: (H, W) of each image without padding, in pixels.
        grid: (h, w) of the tokens.
        stride: Pixels from one token to the next.

    Shape:
        - sizes: (B, 2); output: (B, h, w), bool

    Example:
        >>> inside_image(torch.tensor([[230, 250]]), (15, 16), 16)[0, -2:, -1]
        tensor([ True, False])
    """
    rows, columns = (
        (torch.arange(count, device=sizes.device) + 0.5) * stride < side[:, None]
        for count, side in zip(grid, sizes.unbind(dim=1))
    )
    return rows[:, :, None] & columns[:, None]


def pair_cosines(tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    r"""How alike tokens of one label are, and those of different ones.

    .. math:: \frac{1}{n + 1} \sum_{i \ne j} |\cos(t_i, t_j)|

    over the n ordered pairs of tokens of one image that have both a label and, for the
    first result, the same one, for the second another. Background is a label,
    255 is none.

    Shape:
        - tokens: (B, D, h, w); labels: (B, h, w); output: () and ()
    """
    check_shapes(tokens=(tokens, "B D h w"), labels=(labels, "B h w"))
    units = F.normalize(tokens.flatten(2), dim=1)
    cosines = (units.transpose(1, 2) @ units).abs()
    places = labels.flatten(1)
    valid = places != IGNORED
    pairs = valid[:, :, None] & valid[:, None]
    same = places[:, :, None] == places[:, None]
    itself = torch.eye(places.shape[1], dtype=torch.bool, device=places.device)
    alike, other = (
        cosines.masked_fill(~kept, 0).sum() / (kept.sum() + 1)
        for kept in (pairs & same & ~itself, pairs & ~same)
    )
    return alike, other


def contrast_loss(same: Tensor, different: Tensor) -> Tensor:
    r"""Half of 1 - ``same`` and half of ``different``, of :func:`pair_cosines`.

    It lies between 0 and 1. Parallel tokens have no gradient: the loss keeps tokens
    apart, it does not part those that are equal already.

    Shape:
        - same: (); different: (); output: ()
    """
    return (1 - same + different) / 2
