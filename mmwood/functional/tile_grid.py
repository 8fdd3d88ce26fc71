"""Tiles of one size that cover an image, and which of them a pixel is nearest to."""

from itertools import pairwise

from mmwood.utils.check import at_least


def equal_spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Begin and end of tiles of one length along one axis, which together cover it.

    Neighbours share ``overlap``. The last tile ends where the axis does, and shares
    more with the one before if need be. Unlike those of
    :func:`mmwood.functional.tiles.tile_spans`, they begin anywhere.

    Raises:
        ValueError: ``overlap`` is not in [0, ``tile``), or the axis is shorter than a
            tile.

    Example:
        >>> equal_spans(10, tile=4, overlap=0)
        [(0, 4), (4, 8), (6, 10)]
    """
    at_least("tile", tile, 1, integer=True)
    at_least("overlap", overlap, 0, below=tile, integer=True)
    at_least("length", length, tile, integer=True)
    starts = [*range(0, length - tile, tile - overlap), length - tile]
    return [(start, start + tile) for start in starts]


def nearest_spans(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pixels of each tile that no other tile's centre is nearer to.

    Of two centres that are equally near, the first counts. In a grid of tiles, the
    nearest centre is that of the nearest row and the nearest column.

    Returns:
        For each tile, begin and end; each pixel is in one.

    Example:
        >>> nearest_spans([(0, 4), (4, 8), (6, 10)])
        [(0, 4), (4, 7), (7, 10)]
    """
    # A pixel p is 2p + 1 half pixels from the begin, the centre of a tile begin + end.
    borders = [
        (sum(span) + sum(following) + 2) // 4 for span, following in pairwise(spans)
    ]
    return list(zip([spans[0][0], *borders], [*borders, spans[-1][1]]))
