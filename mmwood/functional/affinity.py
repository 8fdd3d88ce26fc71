"""From an edge map to affinities of pixel pairs, and the random walk over them.

Ahn et al., Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations (IRN), CVPR 2019.
"""

import math
import warnings
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mmwood.utils.check import at_least, check_shapes

#: Weight of what the random walk leaves out (see :func:`random_walk`).
TRUNCATION = 1e-9

Offset = tuple[int, int]


class PixelPairs(NamedTuple):
    """All P pairs of pixels of an h × w grid that are less than a radius apart.

    Every unordered pair occurs once. Pixels are numbered row by row.

    Attributes:
        source: The pair's upper (or, in one row, left) pixel. Shape: (P,) int64.
        target: Its other pixel. Shape: (P,) int64.
        offset: target minus source, (rows, columns). Shape: (P, 2) int16.
        counts: How many pairs each of :func:`search_paths` has, in its order.
    """

    source: Tensor
    target: Tensor
    offset: Tensor
    counts: tuple[int, ...]


@lru_cache
def search_paths(radius: int) -> tuple[tuple[Offset, tuple[Offset, ...]], ...]:
    """The offsets shorter than a radius R, and the pixels on the straight way to each.

    Offsets (dy, dx) are (0, x) for 1 <= x < R, and (y, x) for 1 <= y < R and
    x² + y² < R²: one of every two opposite ones. The path to an offset holds every
    pixel (y, x) of the bounding box of its ends, these included, that is nearer than
    1 to the line through them: (dy·x - dx·y)² < dy² + dx².

    Returns:
        Pairs of an offset and its path. Coordinates count from the source pixel.

    Raises:
        ValueError: The radius is not an integer of at least 2.

    Example:
        >>> search_paths(2)
        (((0, 1), ((0, 0), (0, 1))), ((1, -1), ((0, -1), (0, 0), (1, -1), (1, 0))), ...
    """
    at_least("radius", radius, 2, integer=True)
    reach = range(1 - radius, radius)
    offsets = [(0, x) for x in range(1, radius)]
    offsets += [
        (y, x) for y in range(1, radius) for x in reach if x * x + y * y < radius**2
    ]
    paths = []
    for dy, dx in offsets:
        path = tuple(
            (y, x)
            for y in range(dy + 1)
            for x in range(min(0, dx), max(0, dx) + 1)
            if (dy * x - dx * y) ** 2 < dy * dy + dx * dx
        )
        paths.append(((dy, dx), path))
    return tuple(paths)


@lru_cache(maxsize=4)
def pixel_pairs(height: int, width: int, radius: int) -> PixelPairs:
    """The pixel pairs of a grid, ordered by offset, then by source.

    A pair with an end outside the grid does not exist: a radius larger than the grid
    is allowed and gives the pairs that there are.

    Returns:
        Index tensors on the CPU. They are cached: do not change them.
    """
    pixels = torch.arange(height * width).view(height, width)
    sources, targets = [], []
    offsets = [offset for offset, _ in search_paths(radius)]
    for dy, dx in offsets:
        rows, columns = _source_region(height, width, dy, dx)
        sources.append(pixels[rows, columns].flatten())
        targets.append(sources[-1] + dy * width + dx)
    counts = tuple(map(len, sources))
    offset = torch.tensor(offsets, dtype=torch.int16)
    offset = offset.repeat_interleave(torch.tensor(counts), dim=0)
    return PixelPairs(torch.cat(sources), torch.cat(targets), offset, counts)


def edge_to_affinity(edge: Tensor, radius: int) -> Tensor:
    r"""Affinity of every pair of pixels: 1 - the strongest edge on the way.

    .. math:: a_{ij} = 1 - \max_{k \in path(i, j)} edge_k

    The gradient flows to the strongest pixel of each path (one of them, if several
    are equal). What is kept for it is one index a pair, not the paths' values.

    Returns:
        Affinities in [0, 1], in the order of :func:`pixel_pairs`.

    Shape:
        - edge: (B, h, w); output: (B, P)
    """
    check_shapes(edge=(edge, "B h w"))
    batch, height, width = edge.shape
    values, strongest = [], []
    with torch.no_grad():
        pixels = torch.arange(height * width, device=edge.device).view(height, width)
        for (dy, dx), path in search_paths(radius):
            rows, columns = _source_region(height, width, dy, dx)
            source = pixels[rows, columns]
            if not source.numel():
                continue
            # One step after the other: torch.max over a stack of them is slow.
            steps = iter(path)
            y, x = next(steps)
            value = edge[:, _moved(rows, y), _moved(columns, x)]
            place = (source + y * width + x).expand_as(value)
            for y, x in steps:
                other = edge[:, _moved(rows, y), _moved(columns, x)]
                if edge.requires_grad:
                    place = torch.where(other > value, source + y * width + x, place)
                value = torch.maximum(value, other)
            values.append(value.flatten(1))
            if edge.requires_grad:
                strongest.append(place.flatten(1))
    if not values:
        return edge.new_zeros(batch, 0)
    if edge.requires_grad:
        return 1 - edge.flatten(1).gather(1, torch.cat(strongest, dim=1))
    return 1 - torch.cat(values, dim=1)


def edge_to_transition(edge: Tensor, radius: int = 5, beta: float = 10) -> Tensor:
    r"""The random walk's transition matrix, sparse.

    .. math:: T_{ij} = A_{ij} / \sum_k A_{kj}, \quad A_{ij} = a_{ij}^\beta

    with the affinities a of :func:`edge_to_affinity` and A_ii = 1. Columns sum to 1.

    Args:
        edge: Edge probabilities.
        radius: Pixels at least this far apart have no affinity.
        beta: Power of the affinities.

    Returns:
        A sparse CSR tensor of the dtype of ``edge`` (float32 or float64).

    Shape:
        - edge: (h, w); output: (h·w, h·w), about π·radius² values a row

    Raises:
        ValueError: The dtype is another, or ``beta`` is negative.
    """
    check_shapes(edge=(edge, "h w"))
    # A is symmetric: what is stored as its rows serves as its columns.
    crow, column, affinity, row_sum = _symmetric_affinity(edge[None], radius, beta)
    size = (edge.numel(), edge.numel())
    return _csr(crow, column, affinity.div_(row_sum[column]), size)


def random_walk(
    cam: Tensor, edge: Tensor, radius: int = 5, beta: float = 10, steps: int = 256
) -> Tensor:
    r"""Spread score maps over the image by a random walk that edges stop.

    .. math:: y = x^T T^{steps}, \quad x = CAM \odot (1 - edge)

    with T of :func:`edge_to_transition`: every pixel becomes a weighted mean of x.

    T is never multiplied with itself, and x not ``steps`` times with it. T is similar
    to a symmetric matrix with eigenvalues in [-1, 1], on which a power is a mean of
    Chebyshev polynomials, :math:`t^s = \sum_k P(|S_s| = k)\, T_k(t)`, with S_s the
    place of a fair walk on the integers after s steps. It is seldom much farther than
    :math:`\sqrt{s}`, so for 256 steps 96 sparse products do (Sachdeva and Vishnoi,
    Faster Algorithms via Approximation Theory, 2014, theorem 3.3). What is left out
    weighs 1e-9: with d the column sums of A, it is less than
    :math:`10^{-9} \sqrt{\sum_i d_i x_i^2 / d_j}` at pixel j.

    Inside all is float64, which costs a walk that waits for memory access next to
    nothing; in float32 the products alone would leave an error of 1e-4.

    Args:
        cam: Maps of one image, or of several that have the same size and number.
        edge: Edge probabilities on the same grid, of a floating-point dtype.
        radius: As in :func:`edge_to_transition`.
        beta: As there.
        steps: Length of the walk; IRN's 2^8.

    Returns:
        The maps after the walk, within the range of x, of the dtype of ``edge``.

    Shape:
        - cam: (C, h, w) or (B, C, h, w); edge: (h, w) or (B, h, w); output as cam

    Raises:
        ValueError: The shapes do not fit, ``beta`` or ``steps`` is negative.

    Example:
        >>> cam = torch.zeros(1, 1, 5)
        >>> cam[..., 0] = 1
        >>> edge = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]])
        >>> random_walk(cam, edge)
        tensor([[[0.5000, 0.5000, 0.0000, 0.0000, 0.0000]]])
    """
    batch_axis = "B " if edge.ndim == 3 else ""
    check_shapes(cam=(cam, f"{batch_axis}C h w"), edge=(edge, f"{batch_axis}h w"))
    at_least("steps", steps, 0, integer=True)
    shape, dtype, device = cam.shape, edge.dtype, edge.device
    if device.type not in ("cpu", "cuda"):
        # Apple's GPUs have neither float64 nor sparse products.
        cam, edge = cam.cpu(), edge.cpu()
    cam, edge = cam.double(), edge.double()
    if edge.ndim == 2:
        cam, edge = cam[None], edge[None]
    # y = xᵀT is y = Tᵀx, and the rows of Tᵀ are those of A, divided by their sum.
    crow, column, values, _ = _symmetric_affinity(edge, radius, beta, divide=True)
    x = cam * (1 - edge[:, None])
    # One column a class; the pixels of all images below each other.
    x = x.transpose(1, 0).flatten(1).T.contiguous()
    if not x.numel():
        return torch.zeros(shape, dtype=dtype, device=device)
    transposed = _csr(crow, column, values, (edge.numel(), edge.numel()))
    low, high = x.amin(dim=0), x.amax(dim=0)
    weights = _chebyshev_weights(steps)
    before, now = x, x
    result = weights[0] * x
    for degree, weight in enumerate(weights[1:], start=1):
        if degree == 1:
            now = transposed @ x
        else:
            before, now = now, torch.addmm(before, transposed, now, beta=-1, alpha=2)
        if weight:
            result.add_(now, alpha=weight)
    # Rounding must not carry a mean out of the range of its values.
    result = torch.minimum(torch.maximum(result, low), high)
    batch, classes, height, width = cam.shape
    result = result.T.reshape(classes, batch, height, width).transpose(0, 1)
    return result.reshape(shape).to(device, dtype)


def _source_region(height: int, width: int, dy: int, dx: int) -> tuple[slice, slice]:
    """Where a pixel can lie so that its partner at (dy, dx), dy >= 0, is inside."""
    left, right = max(0, -dx), width - max(0, dx)
    return slice(0, max(0, height - dy)), slice(min(left, width), max(left, right))


def _moved(region: slice, distance: int) -> slice:
    return slice(region.start + distance, region.stop + distance)


def _symmetric_affinity(
    edge: Tensor, radius: int, beta: float, divide: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A as CSR arrays: row starts, columns, values; and its row sums.

    Images of a batch make blocks on the diagonal. ``divide`` divides by the row sums.
    """
    if edge.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"edge must be float32 or float64, not {edge.dtype}")
    at_least("beta", beta, 0)
    batch, height, width = edge.shape
    pixels = height * width
    pairs = pixel_pairs(height, width, radius)
    affinity = edge_to_affinity(edge.detach(), radius).pow_(beta)
    # One column an offset, sorted, so that the columns of a row of A are: from the
    # opposites of the last offset up to them, and the pixel itself between.
    offsets = torch.tensor([offset for offset, _ in search_paths(radius)])
    order = torch.argsort(offsets[:, 0] * (2 * radius) + offsets[:, 1])
    rank = torch.argsort(order).tolist()
    own = len(offsets)
    table = edge.new_full((batch, pixels, 2 * own + 1), -1)
    table[:, :, own] = 1
    start = 0
    for place, count in zip(rank, pairs.counts):
        part = slice(start, start + count)
        start += count
        source, target = (end[part].to(edge.device) for end in pairs[:2])
        table[:, source, own + 1 + place] = affinity[:, part]
        table[:, target, own - 1 - place] = affinity[:, part]
    del affinity
    there = table >= 0
    steps = offsets[order, 0] * width + offsets[order, 1]
    steps = torch.cat([-steps.flip(0), torch.zeros(1, dtype=steps.dtype), steps])
    # 32 bits address 2 billion pixels, in half the memory.
    first = torch.arange(batch * pixels, dtype=torch.int32, device=edge.device)
    columns = first.view(batch, pixels, 1) + steps.to(edge.device, torch.int32)
    counts = there.sum(dim=2, dtype=torch.int32).flatten()
    crow = torch.zeros(batch * pixels + 1, dtype=torch.int32, device=edge.device)
    torch.cumsum(counts, dim=0, out=crow[1:])
    # masked_select needs a fraction of what indexing with a mask does.
    columns = columns.masked_select(there)
    row_sum = torch.where(there, table, 0).sum(dim=2, keepdim=True)
    if divide:
        table /= row_sum
    return crow, columns, table.masked_select(there), row_sum.flatten()


def _csr(crow: Tensor, column: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        # torch calls all of its CSR support beta.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            crow, column, values, size, check_invariants=False
        )


def _chebyshev_weights(steps: int) -> list[float]:
    """P(|S| = k) of a fair walk of that many steps, k from 0, without its tail."""
    weights = [0.0] * (steps + 1)
    for k in range(steps % 2, steps + 1, 2):
        log = math.lgamma(steps + 1) - steps * math.log(2)
        log -= math.lgamma((steps - k) / 2 + 1) + math.lgamma((steps + k) / 2 + 1)
        weights[k] = math.exp(log) * (2 if k else 1)
    tail = 0.0
    while len(weights) > 1 and tail + weights[-1] < TRUNCATION:
        tail += weights.pop()
    # They sum to 1, so a constant stays what it is.
    total = math.fsum(weights)
    return [weight / total for weight in weights]
