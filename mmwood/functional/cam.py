"""Class activation maps and the seeds that come from them.

CAM: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016.
The multi-scale form and the constants are those of IRN (Ahn et al., Weakly
Supervised Learning of Instance Segmentation with Inter-pixel Relations, CVPR 2019).
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmwood.utils.check import check_shapes

Array = TypeVar("Array", Tensor, np.ndarray)
#: In which maps are stored.
MapDtype = Literal["float16", "float32"]

#: Added to each map's maximum before dividing by it, as in IRN's program.
EPSILON = 1e-5


def class_activation_maps(features: Tensor, weight: Tensor) -> Tensor:
    r"""Class activation maps of a classifier that pools its features by the mean.

    .. math:: CAM_c = \max(0, \sum_d W_{cd} f_d)

    Returns:
        One non-negative map per class, not normalised.

    Shape:
        - features: (B, D, h, w); weight: (C, D); output: (B, C, h, w)

    Example:
        >>> class_activation_maps(torch.rand(2, 8, 5, 4), torch.rand(3, 8)).shape
        torch.Size([2, 3, 5, 4])
    """
    check_shapes(features=(features, "B D h w"), weight=(weight, "C D"))
    return F.relu(F.conv2d(features, weight[:, :, None, None]))


def own_class_maps(features: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Normalised maps of each image's own classes, for losses that look at them.

    Each class activation map is divided by its maximum over space plus 1e-5.

    Args:
        features: As in :func:`class_activation_maps`.
        weight: As there.
        labels: Image-level labels; what is not 0 is a class of the image.

    Returns:
        Maps in [0, 1) without gradient, of at least single precision. Those of classes
        that an image has no label of are zero.

    Shape:
        - features: (B, D, h, w); weight: (C, D); labels: (B, C); output: (B, C, h, w)
    """
    check_shapes(
        features=(features, "B D h w"), weight=(weight, "C D"), labels=(labels, "B C")
    )
    maps = class_activation_maps(features.detach(), weight.detach())
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    maps = maps / (maps.amax(dim=(2, 3), keepdim=True) + EPSILON)
    return maps * (labels != 0)[:, :, None, None]


def strided_size(size: tuple[int, int], stride: int = 4) -> tuple[int, int]:
    """Size of the grid that keeps every ``stride``-th pixel: ((H-1)//s+1, (W-1)//s+1).

    Example:
        >>> strided_size((375, 500))
        (94, 125)
    """
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def merge_scales(
    cams: Sequence[Tensor], size: tuple[int, int], round_up_to: int | None = None
) -> Tensor:
    """One normalised map per class from the maps of several scales and flips.

    Every map is resized bilinearly (``align_corners=False``) to ``size``; the maps
    are summed over the scales, and each class's sum is divided by its own maximum
    plus 1e-5. Maps of flipped images must have been flipped back.

    Args:
        cams: Non-negative maps of one image, one tensor per scale and flip.
        size: (H, W) of the result, in pixels.
        round_up_to: Resize to ``size`` rounded up to a multiple of this and crop, as
            IRN's program does with 16, its network's stride. The maps then lie
            where the strided network saw them instead of being squeezed by up to
            15 pixels. None resizes to ``size`` itself.

    Returns:
        Maps in [0, 1), of the dtype of ``cams``. A map that is zero everywhere stays
        zero.

    Shape:
        - cams: each (C, h_i, w_i); output: (C, H, W)

    Raises:
        ValueError: There is no map.
    """
    if not cams:
        raise ValueError("merge_scales needs at least one map")
    shapes = {f"cams[{n}]": (cam, f"C h{n} w{n}") for n, cam in enumerate(cams)}
    classes = check_shapes(**shapes)["C"]
    height, width = size
    step = round_up_to or 1
    padded = [-(-side // step) * step for side in size]
    total = cams[0].new_zeros((classes, height, width))
    for cam in cams:
        # Classes go into the batch dimension, which may be empty.
        resized = F.interpolate(
            cam[:, None], size=padded, mode="bilinear", align_corners=False
        )
        total += resized[:, 0, :height, :width]
    return total / (total.amax(dim=(1, 2), keepdim=True) + EPSILON)


def seed_from_cam(
    cam: Tensor, classes: Tensor, threshold: float, ignore_band: float = 0.0
) -> Tensor:
    """The label map in which every pixel has the class of its largest map.

    A pixel is background (0) unless a map exceeds ``threshold`` there: the argmax
    over [threshold, CAM_c for c in the image's classes], background first.

    Args:
        cam: Normalised maps of the image's classes; an array serves too.
        classes: Which class each map belongs to, counted from 0 without background,
            as in ``gt_label``.
        threshold: Score of the background, in the maps' unit.
        ignore_band: A pixel whose largest score is less than this far from the
            background's becomes 255.

    Returns:
        uint8 label map: 0 is background, c + 1 is class c, 255 is ignored.

    Shape:
        - cam: (n, H, W); classes: (n,); output: (H, W)

    Raises:
        ValueError: As for :func:`label_values`.

    Example:
        >>> cam = torch.tensor([[[0.9, 0.1]], [[0.2, 0.12]]])
        >>> seed_from_cam(cam, torch.tensor([4, 7]), threshold=0.15)
        tensor([[5, 0]], dtype=torch.uint8)
    """
    cam = torch.as_tensor(cam)
    classes = torch.as_tensor(classes, dtype=torch.long, device=cam.device)
    check_shapes(cam=(cam, "n H W"), classes=(classes, "n"))
    if not len(classes):
        return torch.zeros(cam.shape[1:], dtype=torch.uint8, device=cam.device)
    score, index = cam.max(dim=0)
    label = torch.where(score > threshold, label_values(classes)[index], 0)
    if ignore_band:
        label[(score - threshold).abs() < ignore_band] = 255
    return label.to(torch.uint8)


def label_values(classes: Array) -> Array:
    """The values of classes in a uint8 label map: c + 1.

    Raises:
        ValueError: A value would not fit beside 0, background, and 255, ignored.
    """
    if len(classes) and not (classes.min() >= 0 and classes.max() <= 253):
        raise ValueError(
            "class c is written as the uint8 label c + 1, and 255 is for ignored or "
            f"unknown pixels: classes must be in 0..253, got {classes.tolist()}"
        )
    return classes + 1
