"""How big images are cut: squares that may overlap, the last ones shifted inward."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mmwood.fileio.image_rows import ImageRows
from mmwood.fileio.images import UNREADABLE, list_folder, unreadable
from mmwood.fileio.lists import bullets, check_id, refuse_shared_files, without_suffix
from mmwood.functional.tile_grid import equal_spans
from mmwood.utils.check import at_least

#: Where the tiles are in their folder.
IMAGES = "images"


class Tile(NamedTuple):
    """A square of an image.

    Attributes:
        name: What its files are called, without a suffix.
        top: Its first row.
        left: Its first column.
    """

    name: str
    top: int
    left: int


@dataclass(frozen=True)
class BigImage:
    """An image, and how it is cut.

    Attributes:
        name: Its path from the folder of the images.
        size: Its height and width.
        tile: The side of its tiles, in pixels.
        overlap: How much neighbours share.
        suffix: That of its tiles.
    """

    name: str
    size: tuple[int, int]
    tile: int
    overlap: int
    suffix: str = ".png"

    @property
    def rows(self) -> list[tuple[int, int]]:
        """Begin and end of the rows of tiles."""
        return equal_spans(self.size[0], self.tile, self.overlap)

    @property
    def columns(self) -> list[tuple[int, int]]:
        """Begin and end of the columns of tiles."""
        return equal_spans(self.size[1], self.tile, self.overlap)

    def at(self, top: int, left: int) -> Tile:
        """The tile of a first pixel."""
        name = f"{without_suffix(self.name)}_y{top:05d}_x{left:05d}"
        return Tile(name, top, left)

    @property
    def tiles(self) -> Iterator[Tile]:
        """All tiles, row by row."""
        for top, _ in self.rows:
            for left, _ in self.columns:
                yield self.at(top, left)


def find_big_images(folder: Path, tile: int, overlap: int) -> list[BigImage]:
    """The images of a folder, with the grid of their tiles; headers alone are read.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: ``overlap`` is not below ``tile``; there is no image; some cannot
            be read or are smaller than a tile (names all); or tiles of two would share
            files.
    """
    at_least("--size", tile, 1, integer=True)
    at_least("--overlap", overlap, 0, below=tile, integer=True)
    items = list_folder(folder, "IMAGES")
    refuse_shared_files(items, lambda item: without_suffix(item.image))
    found, faults = [], []
    for item in items:
        name = check_id(item.image, item.source)
        try:
            rows = ImageRows(item.source)
        except UNREADABLE as error:
            faults.append(unreadable(item.source, error))
            continue
        width, height = rows.size
        if min(width, height) < tile:
            faults.append(
                f"{item.source} has (W, H) = {rows.size}, a tile has "
                f"{(tile, tile)}: name a smaller --size"
            )
        found.append(BigImage(name, (height, width), tile, overlap, rows.suffix))
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(items)} images cannot be cut; remove or mend them:"
            + bullets(faults)
        )
    return found
