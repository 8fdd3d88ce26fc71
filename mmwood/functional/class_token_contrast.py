"""Class token contrast (CTC): local crops like the image's objects, or unlike them.

Ru et al., Token Contrast for Weakly-Supervised Semantic Segmentation (ToCo), CVPR 2023.
Small crops are taken where maps are not sure of an object. Their class tokens are
drawn to those of the whole image where the crop may show an object, and driven from
them where it shows background, so that maps find what they missed of an object.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwood.utils.check import check_shapes

#: What keeps the sums of the loss from 0, as in the authors' program.
EPSILON = 1e-4


def certainty_regions(
    maps: Tensor,
    size: tuple[int, int],
    foreground: float = 0.7,
    background: float = 0.25,
) -> Tensor:
    """Where maps are sure of background, 0, of an object, 2, or of neither, 1.

    Args:
        maps: Those of :func:`mmwood.functional.patch_token_contrast.auxiliary_maps`.
        size: (H, W) of the whole cells of the maps, in pixels.
        foreground: From it on the largest map is sure of an object. Published: 0.7 on
            VOC, 0.65 on COCO.
        background: Up to it a pixel is background.

    Shape:
        - maps: (B, C, h, w); output: (B, H, W), of the maps' type
    """
    check_shapes(maps=(maps, "B C h w"))
    largest = maps.amax(dim=1, keepdim=True)
    large = F.interpolate(largest, size, mode="bilinear", align_corners=False)[:, 0]
    return (large > background).to(maps) + (large >= foreground).to(maps)


def draw_corners(
    regions: Tensor,
    sizes: Tensor,
    side: int,
    count: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw square crops whose centres are where no object is sure.

    An image that has less than ``count`` such centres gets crops of anywhere in it.
    Crops lie in the image; one that is smaller than a crop begins at its corner, and
    has padding in it.

    Args:
        regions: Those of :func:`certainty_regions`.
        sizes: (H, W) of each image without padding, in pixels.
        side: Of a crop, in pixels.
        count: Crops of an image.
        generator: Of random numbers, on the device of ``regions``.

    Returns:
        The upper left pixel (row, column) of each crop.

    Shape:
        - regions: (B, H, W); sizes: (B, 2); output: (B, count, 2), int64
    """
    check_shapes(regions=(regions, "B H W"), sizes=(sizes, "B 2"))
    found = []
    for region, size in zip(regions, sizes.tolist()):
        rows, columns = (max(1, length - side + 1) for length in size)
        half = side // 2
        centers = region[half : half + rows, half : half + columns]
        places = (centers < 2).nonzero()
        if len(places) < count:
            places = torch.ones(rows, columns, device=region.device).nonzero()
        order = torch.randperm(len(places), device=region.device, generator=generator)
        # A small image has fewer places than crops.
        number = torch.arange(count, device=region.device) % len(places)
        found.append(places[order[number]])
    return torch.stack(found)


def take_crops(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Square crops of images.

    Args:
        images: Images, or maps.
        corners: The upper left pixels, of :func:`draw_corners`.
        side: Of a crop, in pixels. What lies outside an image is 0.

    Shape:
        - images: (B, D, H, W); corners: (B, n, 2); output: (B, n, D, side, side)
    """
    check_shapes(images=(images, "B D H W"), corners=(corners, "B n 2"))
    crops = []
    for image, places in zip(images, corners.tolist()):
        for top, left in places:
            crop = image[:, top : top + side, left : left + side]
            beyond = (0, side - crop.shape[2], 0, side - crop.shape[1])
            crops.append(F.pad(crop, beyond))
    return torch.stack(crops).unflatten(0, corners.shape[:2])


def may_show_objects(
    regions: Tensor, corners: Tensor, side: int, share: float = 0.2
) -> Tensor:
    """Which crops are positives: the mean of their regions exceeds ``share``.

    Shape:
        - regions: (B, H, W); corners: (B, n, 2); output: (B, n), bool
    """
    return take_crops(regions[:, None], corners, side).mean(dim=(2, 3, 4)) > share


def class_token_loss(
    teacher: Tensor, student: Tensor, positive: Tensor, temperature: float = 0.5
) -> Tensor:
    r"""Draw crops that may show an object to the whole image, and others from it.

    With :math:`s_{vj}` the dot product of the teacher's vector of global view v and the
    student's of view j, P the positives of an image and N the others,

    .. math:: \frac{1}{|P|} \Big( \sum_{j \in P} -\log
        \frac{e^{s_{vj}/\tau}}{e^{s_{vj}/\tau} + n_v} - \log \frac{1}{1 + n_v} \Big),
        \quad n_v = \sum_{k \in N} e^{s_{vk}/\tau} + 10^{-4}

    averaged over the global views and the images.

    Args:
        teacher: Vectors of the global views.
        student: Vectors of all views, local ones too.
        positive: Which of these are positives; at least one of each image.
        temperature: τ.

    Shape:
        - teacher: (B, G, D); student: (B, V, D); positive: (B, V), bool; output: ()
    """
    check_shapes(
        teacher=(teacher, "B G D"),
        student=(student, "B V D"),
        positive=(positive, "B V"),
    )
    dots = teacher @ student.transpose(1, 2) / temperature
    positive = positive[:, None].expand_as(dots)
    # Sums of exponentials by their logarithms: a dot product may be large.
    negatives = dots.masked_fill(positive, -torch.inf).logsumexp(dim=2, keepdim=True)
    negatives = torch.logaddexp(negatives, negatives.new_tensor(math.log(EPSILON)))
    each = (torch.logaddexp(dots, negatives) - dots) * positive
    alone = F.softplus(negatives[..., 0])
    return ((each.sum(dim=2) + alone) / positive.sum(dim=2)).mean()
