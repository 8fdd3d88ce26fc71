"""Attention affinity: maps spread over the patches that attend to each other.

'mean' is the patch affinity of MCTformer (Xu et al., CVPR 2022), 'sinkhorn' the
class-aware affinity of CLIP-ES (Lin et al., CVPR 2023). Both take the self-attention of
a vision transformer as it is: nothing is trained.
"""

from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from mmwood.utils.check import at_least, check_shapes, one_of

#: How self-attention becomes an affinity of patches.
AffinityMode = Literal["mean", "sinkhorn"]


def mean_attention(
    query: Tensor, key: Tensor, scale: float | None = None, bias: Tensor | None = None
) -> Tensor:
    r"""The attention weights of a layer, averaged over its heads.

    .. math:: \frac{1}{H} \sum_h \operatorname{softmax}(s\, q_h k_h^T + b_h)

    Fused attention does not return them. One head at a time, in single precision or
    better.

    Args:
        query: Queries q.
        key: Keys k.
        scale: s; None is one over the root of d.
        bias: What is added before the softmax; a bool one says which pairs take part.

    Returns:
        Rows that sum to 1.

    Shape:
        - query, key: (B, H, N, d); bias: anything that expands to (B, H, N, N);
          output: (B, N, N)
    """
    sizes = check_shapes(query=(query, "B H N d"), key=(key, "B H N d"))
    batch, heads, tokens, channels = sizes.values()
    scale = channels**-0.5 if scale is None else scale
    dtype = torch.promote_types(query.dtype, torch.float32)
    if bias is not None:
        bias = bias.expand(batch, heads, tokens, tokens)
    total = query.new_zeros((batch, tokens, tokens), dtype=dtype)
    for head in range(heads):
        scores = scale * query[:, head].to(dtype) @ key[:, head].to(dtype).mT
        if bias is not None and bias.dtype == torch.bool:
            scores = scores.masked_fill(~bias[:, head], -torch.inf)
        elif bias is not None:
            scores = scores + bias[:, head]
        total += scores.softmax(dim=-1)
    return total / heads


def row_stochastic(affinity: Tensor) -> Tensor:
    """Each row divided by its sum.

    Shape:
        - affinity: (B, N, N), not negative; output: the same
    """
    return affinity / affinity.sum(dim=-1, keepdim=True).clamp(min=_TINY)


def doubly_stochastic(affinity: Tensor, iterations: int = 3) -> Tensor:
    """Columns, then rows divided by their sums, again and again (Sinkhorn).

    Returns:
        The mean of the result and its transpose: symmetric, with rows and columns
        whose sums approach 1 with the iterations.

    Shape:
        - affinity: (B, N, N), not negative; output: the same
    """
    for _ in range(iterations):
        affinity = row_stochastic(row_stochastic(affinity.mT).mT)
    return (affinity + affinity.mT) / 2


def box_mask(maps: Tensor, threshold: float) -> Tensor:
    """The bounding boxes of the regions where a map is strong.

    Args:
        maps: Maps of classes, not negative.
        threshold: Fraction of a map's maximum above which a cell belongs to a region.
            Regions are connected over sides and corners.

    Returns:
        Which cells lie in the box of a region of their own map.

    Shape:
        - maps: (B, C, h, w); output: (B, C, h, w), bool
    """
    check_shapes(maps=(maps, "B C h w"))
    strong = maps > threshold * maps.amax(dim=(2, 3), keepdim=True)
    regions = strong.flatten(0, 1).cpu().numpy().astype(np.uint8)
    boxes = np.zeros(regions.shape, dtype=bool)
    for region, box in zip(regions, boxes):
        stats = cv2.connectedComponentsWithStats(region, connectivity=8)[2]
        for left, top, width, height, _ in stats[1:]:
            box[top : top + height, left : left + width] = True
    return torch.from_numpy(boxes).view(maps.shape).to(maps.device)


def spread_maps(
    maps: Tensor,
    attention: Tensor,
    mode: AffinityMode = "mean",
    iterations: int = 3,
    box_threshold: float | None = None,
) -> Tensor:
    r"""Maps in which a patch has what the patches have that it attends to.

    With G the rows and columns of patches of the attention,

    - 'mean': :func:`row_stochastic` G, applied once. MCTformer leaves the rows as they
      are, with what patches attend to the class token taken away.
    - 'sinkhorn': :func:`doubly_stochastic` G, applied twice.

    Args:
        maps: Maps of classes, not negative.
        attention: Attention weights, averaged over heads and layers. The last h·w
            tokens are the patches, row by row; those before them, as class tokens, are
            left out.
        mode: See above.
        iterations: Of Sinkhorn.
        box_threshold: Patches outside of :func:`box_mask` of a map give nothing to it;
            None: all give.

    Returns:
        The maps, of at least single precision, of the same unit: rows of the affinity
        sum to 1, with 'sinkhorn' about so.

    Shape:
        - maps: (B, C, h, w); attention: (B, N, N), N ≥ h·w; output: (B, C, h, w)

    Raises:
        ValueError: A shape or value is another.

    Example:
        >>> spread_maps(torch.rand(1, 3, 4, 5), torch.rand(1, 21, 21)).shape
        torch.Size([1, 3, 4, 5])
    """
    one_of("mode", mode, get_args(AffinityMode))
    at_least("iterations", iterations, 1, integer=True)
    if box_threshold is not None:
        at_least("box_threshold", box_threshold, 0, below=1)
    check_shapes(maps=(maps, "B C h w"), attention=(attention, "B N N"))
    cells = maps.shape[2] * maps.shape[3]
    if attention.shape[1] < cells:
        raise ValueError(
            f"maps of {cells} cells need attention of as many tokens or more, got "
            f"{tuple(attention.shape)}"
        )
    dtype = torch.promote_types(maps.dtype, torch.float32)
    maps, patches = maps.to(dtype), attention[:, -cells:, -cells:].to(dtype)
    if box_threshold is not None:
        maps = maps * box_mask(maps, box_threshold)
    columns = maps.flatten(2).mT
    if mode == "mean":
        columns = row_stochastic(patches) @ columns
    else:
        affinity = doubly_stochastic(patches, iterations)
        columns = affinity @ (affinity @ columns)
    return columns.mT.reshape(maps.shape)


#: Rows of half-precision weights may sum to zero.
_TINY = 1e-12
