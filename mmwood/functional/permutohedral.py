"""Gaussian filters over many dimensions on the permutohedral lattice.

Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice,
Eurographics 2010.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwood.utils.check import check_shapes

TOO_FAR = (
    "the points are too many standard deviations apart for a lattice: use a wider "
    "Gaussian"
)


class PermutohedralFilter:
    r"""A Gaussian filter over points of d dimensions, symmetrically normalised.

    .. math:: y_i = \sum_j \frac{k_{ij}}{\sqrt{K_i K_j}} x_j, \quad
        k_{ij} \approx e^{-|f_i - f_j|^2 / 2}, \quad K_i = \sum_j k_{ij}

    The features f lie in simplices of the lattice, whose d + 1 corners share a point's
    values by its barycentric coordinates (splat). Along each of the d + 1 directions of
    the lattice a corner then adds half of either neighbour's values (blur), and a point
    gathers from its corners again (slice). Corners around which there is no point are
    left out, as in the paper: what would pass through them is lost. k is thus an
    approximation, of a few percent of its largest value, and symmetric but for the
    order of the directions.

    A filter is built once and applied often; building it takes as long as some ten
    applications. Each step is a weighted sum of rows, an ``embedding_bag``, so that one
    device always gives the same bits. No gradients.

    Args:
        features: The points f, in standard deviations of the Gaussian.

    Shape:
        - features: (N, d); values: (N, C); output: (N, C), all float32

    Raises:
        ValueError: The features have another shape, or are so far apart that 32-bit
            floats do not place them or 62 bits do not number the lattice's points.

    Example:
        >>> smooth = PermutohedralFilter(torch.tensor([[0.0], [0.5], [9.0]]))
        >>> smooth(torch.tensor([[1.0], [0.0], [1.0]])).gt(0.3)[:, 0].tolist()
        [True, True, True]
    """

    @torch.no_grad()
    def __init__(self, features: Tensor) -> None:
        check_shapes(features=(features, "N d"))
        count, dims = features.shape
        if not count or not dims:
            raise ValueError(f"features must not be empty, got {count} x {dims}")
        keys, weights, steps = _corners(features.T.float())
        index_type = torch.int32 if keys.numel() < 2**31 else torch.int64
        # Of one corner the points stay in their order.
        keys, order = torch.sort(keys.flatten(), stable=True)
        first = torch.ones_like(keys, dtype=torch.bool)
        torch.ne(keys[1:], keys[:-1], out=first[1:])
        corner = first.cumsum(0, dtype=index_type) - 1
        corner = torch.empty_like(corner).scatter_(0, order, corner)
        self._corners = corner.view(dims + 1, count).T.contiguous()
        # A last bag without points: the corner that stands for those that are not.
        starts = first.nonzero()[:, 0]
        keys = keys[starts]
        self._starts = F.pad(starts, (0, 1), value=order.numel()).to(index_type)
        self._points = (order % count).to(index_type)
        self._neighbours = [_neighbours(keys, step, index_type) for step in steps]
        self._blur = weights.new_tensor([0.5, 1, 0.5]).repeat(len(keys) + 1, 1)
        self._splat = weights.flatten().index_select(0, order)
        self._slice = weights.T.contiguous()
        root = self(weights.new_ones(count, 1)).rsqrt_()
        self._slice *= root
        self._splat *= root[:, 0].index_select(0, self._points)

    @torch.no_grad()
    def __call__(self, values: Tensor) -> Tensor:
        """Filter C values of every point. Shape: (N, C)."""
        values = _sums(self._points, values, self._splat, self._starts)
        for neighbours in self._neighbours:
            values = _sums(neighbours, values, self._blur)
        return _sums(self._corners, values, self._slice)


def _sums(
    rows: Tensor, values: Tensor, weights: Tensor, starts: Tensor | None = None
) -> Tensor:
    """Weighted sums of rows of values."""
    return F.embedding_bag(rows, values, starts, mode="sum", per_sample_weights=weights)


def _corners(features: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """The corners of the simplex around each point: their numbers and weights.

    The third is what the number of a corner and that of its neighbour differ by, in
    each of the d + 1 directions.

    Shape:
        - features: (d, N); numbers and weights: (d + 1, N)
    """
    size = len(features) + 1
    zero, rest, rank = _simplices(features)
    rest = torch.empty_like(rest).scatter_(0, rank, rest).flip(0)
    weights = rest - rest.roll(1, dims=0)
    weights[0] = rest[0] + (1 - rest[-1])
    # A number has d digits, the coordinates but the last, which the others give. There
    # is room for the corners, which are up to d away, and their neighbours, another d.
    zero = zero[:-1].long()
    low = zero.amin(dim=1) - 2 * size
    spans = (zero.amax(dim=1) - low + 2 * size + 1).tolist()
    digits = [math.prod(spans[:axis]) for axis in range(size)]
    if digits[-1] >= 2**62:
        raise ValueError(TOO_FAR)
    digits[-1] = 0
    values = zero.new_tensor(digits)[:, None]
    # From a corner to the next, all coordinates grow by 1, but the smallest that has
    # not had its turn falls by d.
    numbers = torch.empty_like(rank)
    numbers[0] = ((zero - low[:, None]) * values[:-1]).sum(dim=0)
    by_rank = torch.empty_like(rank).scatter_(0, rank, values.expand_as(rank))
    for corner in range(1, size):
        falls = by_rank[size - corner]
        numbers[corner] = numbers[corner - 1] + sum(digits) - size * falls
    return numbers, weights, [size * digit - sum(digits) for digit in digits]


def _simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point: its corner of remainder 0, and what is left.

    The third is the order of what is left, from 0, the largest, to d; of equals, the
    first axis is before the second. All are (d + 1, N).
    """
    size = len(features) + 1
    elevated = _elevate(features)
    if not elevated.abs().amax() < 2**22:
        raise ValueError(TOO_FAR)
    zero = torch.round(elevated * (1 / size))
    excess = zero.sum(dim=0)
    zero *= size
    rest = elevated - zero
    rank = torch.zeros_like(rest)
    for first in range(size):
        for second in range(first + 1, size):
            smaller = (rest[first] < rest[second]).to(rank.dtype)
            rank[first] += smaller
            rank[second] += 1 - smaller
    # Points of the lattice sum to 0, but the nearest multiples of d + 1 may not.
    rank += excess
    wrap = size * ((rank < 0).to(rank.dtype) - (rank >= size).to(rank.dtype))
    zero += wrap
    return zero, (elevated - zero) * (1 / size), (rank + wrap).long()


def _elevate(features: Tensor) -> Tensor:
    """Features on the plane of d + 1 coordinates that sum to 0, as the lattice is.

    Its blur has a variance of 2 (d + 1)^2 / 3 there, to which they are scaled.
    """
    dims, count = features.shape
    deviation = (dims + 1) * math.sqrt(2 / 3)
    elevated = features.new_empty(dims + 1, count)
    total = features.new_zeros(count)
    for axis in range(dims, 0, -1):
        scaled = features[axis - 1] * (deviation / math.sqrt(axis * (axis + 1)))
        elevated[axis] = total - axis * scaled
        total = total + scaled
    elevated[0] = total
    return elevated


def _neighbours(numbers: Tensor, step: int, dtype: torch.dtype) -> Tensor:
    """Each corner between its neighbours of one direction. Shape: (M + 1, 3).

    Rows are counted; the number of corners stands for one that is not there.
    """
    count = len(numbers)
    wanted = numbers + step
    found = torch.searchsorted(numbers, wanted).clamp_(max=count - 1)
    found.masked_fill_(numbers.index_select(0, found) != wanted, count)
    rows = torch.full((count + 1, 3), count, dtype=dtype, device=numbers.device)
    own = torch.arange(count, dtype=dtype, device=numbers.device)
    rows[:-1, 1] = own
    rows[:-1, 2] = found
    rows[:, 0].scatter_(0, found, own)
    rows[-1] = count
    return rows
