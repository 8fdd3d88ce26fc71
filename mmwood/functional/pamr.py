"""Pixel-adaptive mask refinement (PAMR): masks that follow the edges of their image.

Araslanov and Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmwood.utils.check import at_least, check_shapes

#: Contrast: differences are divided by this fraction of the standard deviation.
CONTRAST = 0.1
#: Added to it, as in PAMR's program.
EPSILON = 1e-8


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
    d are the D channels. Beyond the border the image and the masks continue with their
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
        ValueError: The shapes are not those; ``iterations`` is negative, or a distance
            below 1.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])
        >>> masks = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
        >>> pamr(image, masks, iterations=1, dilations=[1]).gt(0.1).tolist()
        [[[[True, True, False, False]]]]
    """
    check_shapes(image=(image, "B D H W"), masks=(masks, "B n H W"))
    at_least("iterations", iterations, 0, integer=True)
    if not isinstance(dilations, Sequence) or not len(dilations):
        raise ValueError(f"dilations must be a list of distances, got {dilations!r}")
    for dilation in dilations:
        at_least("dilations", dilation, 1, integer=True)
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
    scale = EPSILON + CONTRAST * (variance / (count - 1)).sqrt()
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
    # torch's own replication takes no empty maps, and its backward pass on CUDA is not
    # deterministic.
    for dim in (2, 3):
        size = maps.shape[dim]
        index = torch.arange(-reach, size + reach, device=maps.device)
        maps = maps.index_select(dim, index.clamp(0, size - 1))
    return maps


def _window(padded: Tensor, corner: tuple[int, int], shape: Sequence[int]) -> Tensor:
    """A view of the last two axes from a corner on."""
    (y, x), (height, width) = corner, shape[-2:]
    return padded[..., y : y + height, x : x + width]
