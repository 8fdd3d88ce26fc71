"""Maps of large images, computed tile by tile and stitched row by row.

Tiles overlap. Of each, the outer part, which saw the cut edge, counts nothing; then its
weight rises linearly to 1, and the weights of all tiles sum to 1 at every pixel.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmwood.utils.check import at_least

#: Tiles begin at multiples of it, so that a network of this stride, or of a divisor,
#: puts its grid where it would lie on the whole image.
ALIGNMENT = 32


def check_tiles(tile: int, overlap: int, field: str = "") -> None:
    """Refuse tiles that cannot cover an image; ``field`` stands before their names.

    Raises:
        ValueError: ``tile`` is below 64, or ``overlap`` below 0 or above half of it.
    """
    at_least(f"{field}tile", tile, 2 * ALIGNMENT, integer=True)
    at_least(f"{field}overlap", overlap, 0, below=tile // 2 + 1, integer=True)


def tile_spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Begin and end of the tiles along one axis, from 0 to ``length``.

    They are at most ``tile`` long, and neighbours share at least ``overlap``. One tile
    covers an axis that is not longer.

    Raises:
        ValueError: As :func:`check_tiles`.

    Example:
        >>> tile_spans(200, tile=96, overlap=32)
        [(0, 96), (64, 160), (128, 200)]
    """
    check_tiles(tile, overlap)
    if length <= tile:
        return [(0, length)]
    step = (tile - overlap) // ALIGNMENT * ALIGNMENT
    last = -(-(length - tile) // ALIGNMENT) * ALIGNMENT
    return [(start, start + tile) for start in range(0, last, step)] + [(last, length)]


def tile_weights(spans: list[tuple[int, int]], overlap: int) -> list[Tensor]:
    """The weight of each pixel of each tile along one axis; they sum to 1.

    With the least overlap o, the outer o // 4 pixels of a tile weigh nothing, but at
    the ends of the image: what a network of a receptive field of at most
    2 (o // 4) + 1 gives is the same as without tiles.

    Returns:
        For each tile, shape (end - begin,), float32.
    """
    length = spans[-1][1]
    margin = overlap // 4
    # Without an overlap a step; the division is by 1 then.
    rise = max(overlap - 2 * margin, 1)
    total = torch.zeros(length, dtype=torch.float64)
    raw = []
    for begin, end in spans:
        inside = torch.arange(end - begin, dtype=torch.float64) + 0.5 - margin
        ones = torch.ones_like(inside)
        left = ones if begin == 0 else (inside / rise).clamp(0, 1)
        right = ones if end == length else (inside / rise).clamp(0, 1).flip(0)
        raw.append(torch.minimum(left, right))
        total[begin:end] += raw[-1]
    return [
        (weight / total[begin:end]).float()
        for (begin, end), weight in zip(spans, raw, strict=True)
    ]


class TiledMap:
    """A map that is computed tile by tile as its rows are asked for, top to bottom.

    It holds the rows of one row of tiles, C x tile x W numbers, whatever the height.

    Args:
        size: (H, W) of the map.
        compute: Gives the map of one tile, (C, rows, columns) floats, from the tile's
            rows and columns, two slices.
        tile: The longest side of a tile.
        overlap: How much neighbours share at least.

    Raises:
        ValueError: As :func:`check_tiles`.

    Example:
        >>> whole = torch.rand(3, 200, 150)
        >>> rows = TiledMap((200, 150), lambda y, x: whole[:, y, x], 96, 32).rows(0, 9)
        >>> torch.allclose(rows, whole[:, :9])
        True
    """

    def __init__(
        self,
        size: tuple[int, int],
        compute: Callable[[slice, slice], Tensor],
        tile: int,
        overlap: int,
    ) -> None:
        self.size = size
        self._compute = compute
        spans = [tile_spans(length, tile, overlap) for length in size]
        weights = [tile_weights(axis, overlap) for axis in spans]
        self._tile_rows = list(zip(spans[0], weights[0], strict=True))
        self._columns = list(zip(spans[1], weights[1], strict=True))
        self._band: Tensor | None = None
        self._first = 0
        self._added = 0

    def rows(self, begin: int, end: int) -> Tensor:
        """Some rows, (C, end - begin, W); those before ``begin`` may be forgotten.

        They are a view of the band, which the next call may move.

        Raises:
            ValueError: They are no rows of the map, or forgotten.
        """
        if not self._first <= begin < end <= self.size[0]:
            raise ValueError(
                f"rows {begin} to {end} of a map of {self.size[0]} are not to be had; "
                f"it begins at row {self._first} now"
            )
        while self._finished < end:
            self._add_tiles(begin, end - begin)
        assert self._band is not None
        return self._band[:, begin - self._first : end - self._first]

    @property
    def _finished(self) -> int:
        """The first row that tiles to come add to."""
        if self._added == len(self._tile_rows):
            return self.size[0]
        return self._tile_rows[self._added][0][0] if self._added else 0

    def _add_tiles(self, begin: int, step: int) -> None:
        """Add the next row of tiles to a band that keeps rows from ``begin`` on."""
        (top, bottom), down = self._tile_rows[self._added]
        for number, ((left, right), across) in enumerate(self._columns):
            values = self._compute(slice(top, bottom), slice(left, right))
            if len(self._tile_rows) == len(self._columns) == 1:
                # Untouched, and without a copy.
                self._band = values
                continue
            if not number:
                self._move(min(begin, top), bottom, step, values)
            assert self._band is not None
            weight = down[:, None] * across
            place = slice(top - self._first, bottom - self._first)
            self._band[:, place, left:right] += values * weight.to(values)
        self._added += 1

    def _move(self, begin: int, end: int, step: int, like: Tensor) -> None:
        """Let the band be of the rows from ``begin`` to ``end``, the new ones zero.

        It stays where it is in memory: two of them would be much.
        """
        last = self._tile_rows[self._added - 1][0][1] if self._added else begin
        kept, shift = last - begin, begin - self._first
        if self._band is None or self._band.shape[1] < end - begin:
            # With room for steps as long as this one, and what resizing adds to it.
            rows = end - begin + (0 if self._added else step + 2)
            band = like.new_zeros(len(like), rows, self.size[1])
            if self._band is not None:
                band[:, :kept] = self._band[:, shift : shift + kept]
            self._band = band
        elif shift:
            moved = self._band[:, shift : shift + kept]
            self._band[:, :kept] = moved if shift >= kept else moved.clone()
        self._band[:, kept : end - begin] = 0
        self._first = begin


def resized_rows(
    source: TiledMap, size: tuple[int, int], begin: int, end: int, align_corners: bool
) -> Tensor:
    """Some rows of a map after bilinear resizing, as ``F.interpolate`` makes them.

    Args:
        source: The map. What it holds must not be forgotten: ask from top to bottom.
        size: (H, W) after resizing.
        begin: The first row of the resized map.
        end: The row behind the last.
        align_corners: As in ``F.interpolate``.

    Returns:
        Shape (C, end - begin, W).

    Raises:
        ValueError: As :meth:`TiledMap.rows`.
    """
    if source.size == size:
        return source.rows(begin, end)
    height = source.size[0]
    where = torch.arange(begin, end, dtype=torch.float64)
    if align_corners:
        where *= (height - 1) / max(size[0] - 1, 1)
    else:
        where = ((where + 0.5) * height / size[0] - 0.5).clamp(min=0)
    above = where.long().clamp(max=height - 1)
    below = (above + 1).clamp(max=height - 1)
    first = int(above[0])
    band = source.rows(first, int(below[-1]) + 1)
    above, below, share = (part.to(band.device) for part in (above, below, where))
    share = (share - above).to(band.dtype)[:, None]
    mixed = torch.lerp(band[:, above - first], band[:, below - first], share)
    return F.interpolate(
        mixed[None],
        (end - begin, size[1]),
        mode="bilinear",
        align_corners=align_corners,
    )[0]
