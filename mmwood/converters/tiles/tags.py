"""Tags of tiles: from regions that touch them, a table of tiles, and whole images."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmwood.converters.regions import BACKGROUND_NAME, find_annotated
from mmwood.converters.source import VOID_NAME, Region, RegionSource, TagSource
from mmwood.converters.tags import ImageFinder, resolve_classes
from mmwood.converters.tiles.grid import IMAGES, BigImage
from mmwood.fileio.lists import (
    NAMED_FAULTS,
    TaggedImage,
    bullets,
    refuse_shared_files,
    without_suffix,
)
from mmwood.utils.check import at_least


@dataclass
class TileTags:
    """What is known of tiles.

    Attributes:
        items: A tile each; one that is not among them is unknown.
        classes: Names of the classes in the order of their labels.
        notes: What a person should know.
    """

    items: list[TaggedImage]
    classes: list[str]
    notes: list[str] = field(default_factory=list)


def tiles_of_table(source: TagSource, images: Sequence[BigImage]) -> list[TaggedImage]:
    """Tags of tiles that a table names, as their files are called.

    The suffix and the folder ``images/`` may be left out.

    Raises:
        ValueError: It names what is no tile (names all), or one twice.
    """
    known = {tile.name for image in images for tile in image.tiles}
    items: list[TaggedImage] = []
    faults: list[str] = []
    for item in source.items:
        name = item.image.replace("\\", "/").removeprefix(f"{IMAGES}/")
        name = without_suffix(name) if name not in known else name
        if name in known:
            items.append(replace(item, image=name))
            continue
        few = len(faults) < NAMED_FAULTS
        close = get_close_matches(name, known, 1) if few else []
        hint = f": does it mean {close[0]}?" if close else ""
        faults.append(f"{item.source}: {item.image}{hint}")
    if faults:
        raise ValueError(
            f"--tile-tags: {len(faults)} of {len(source.items)} rows name no tile of "
            "these images at this --size and --overlap:" + bullets(faults)
        )
    refuse_shared_files(items)
    return items


def tiles_of_regions(
    source: RegionSource,
    folder: Path,
    images: Sequence[BigImage],
    min_pixels: int = 1,
    classes: Sequence[str] | None = None,
) -> list[TaggedImage]:
    """Tags of the tiles of annotated images: the classes whose regions touch them.

    A region counts where another one covers it. Regions of ``background`` count
    nothing. A tile without a class that is touched by
    regions of ``void``, or by fewer pixels of a class than count, is unknown.

    Args:
        source: What a reader gave; gets notes.
        folder: The images.
        images: The same, as :func:`find_big_images` gives them.
        min_pixels: How many pixels of a tile the regions of a class must cover.
        classes: All classes, or None for all labels.

    Raises:
        ValueError: As :func:`mmwood.converters.regions.find_annotated`; or regions
            cannot be drawn, names all.
    """
    at_least("--min-pixels", min_pixels, 1, integer=True)
    labels = {region.label for image in source.images for region in image.regions}
    no_class = {VOID_NAME, BACKGROUND_NAME} - {*(classes or ())}
    by_name = {image.name: image for image in images}
    items, faults, pixelless = [], [], []
    names = classes or sorted(labels - no_class)
    for found in find_annotated(source, folder, names, {*names, *no_class}):
        if (image := by_name.get(found.item.image)) is None:
            faults.append(f"{found.item.source}: {found.item.image} is not cut")
            continue
        touch = _Touch(image, min_pixels)
        for region in found.image.regions:
            if region.label == BACKGROUND_NAME and region.label in no_class:
                continue
            try:
                if not touch.add(region):
                    pixelless.append(region.source)
            except ValueError as error:
                faults.append(f"{region.source}: {error}")
        for tile in image.tiles:
            place = tile.top, tile.left
            shown = touch.enough[place] - no_class
            if shown or place not in touch.touched:
                items.append(TaggedImage(tile.name, shown, found.item.source))
    if faults:
        raise ValueError(
            f"{len(faults)} regions cannot be drawn; nothing was written:"
            + bullets(faults)
        )
    if pixelless:
        count = len(pixelless)
        source.notes.append(f"{count} regions cover no pixel:" + bullets(pixelless))
    return items


class _Touch:
    """Which tiles of an image regions touch, tile by tile.

    Attributes:
        touched: First row and column of tiles that a region has a pixel of.
        enough: The labels of which they have enough pixels.
    """

    def __init__(self, image: BigImage, min_pixels: int) -> None:
        self._image = image
        self._min_pixels = min_pixels
        #: Pixels by tile and label, until they are enough.
        self._seen: dict[tuple[tuple[int, int], str], np.ndarray] = {}
        self.touched: set[tuple[int, int]] = set()
        self.enough: defaultdict[tuple[int, int], set[str]] = defaultdict(set)

    def add(self, region: Region) -> bool:
        """Add a region; whether it covers a pixel.

        Raises:
            ValueError: It cannot be decoded.
        """
        left, top, mask = region.decode()
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return False
        mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = top + int(rows[0]), left + int(columns[0])
        for down in _overlaps(self._image.rows, top, mask.shape[0]):
            for across in _overlaps(self._image.columns, left, mask.shape[1]):
                part = mask[down.of_region, across.of_region]
                if part.any():
                    place = down.begin, across.begin
                    self._count(
                        place, region.label, (down.of_tile, across.of_tile), part
                    )
        return True

    def _count(
        self,
        place: tuple[int, int],
        label: str,
        box: tuple[slice, slice],
        part: np.ndarray,
    ) -> None:
        self.touched.add(place)
        if label in self.enough[place]:
            return
        side = self._image.tile
        seen = self._seen.pop((place, label), None)
        seen = np.zeros((side, side), dtype=bool) if seen is None else seen
        seen[box] |= part
        if seen.sum() >= self._min_pixels:
            self.enough[place].add(label)
        else:
            self._seen[place, label] = seen


class _Overlap(NamedTuple):
    """What a region shares with a tile along one axis."""

    begin: int
    of_tile: slice
    of_region: slice


def _overlaps(
    spans: Sequence[tuple[int, int]], start: int, length: int
) -> Iterator[_Overlap]:
    for begin, end in spans:
        first, last = max(begin, start), min(end, start + length)
        if first < last:
            of_tile = slice(first - begin, last - begin)
            yield _Overlap(begin, of_tile, slice(first - start, last - start))


def tiles_of_images(
    source: TagSource, folder: Path, images: Sequence[BigImage], inherit: bool = False
) -> tuple[list[TaggedImage], dict[str, TaggedImage]]:
    """Tags of tiles from those of whole images.

    All tiles of an image without a tag show no class. Those of a tagged one are
    unknown, but with ``inherit``: what it shows need not be in each of them.

    Returns:
        The tiles that are known, and the images by their paths.

    Raises:
        FileNotFoundError: Images are not in the folder; names all.
        ValueError: One is listed twice.
    """
    by_name = {image.name: image for image in images}
    finder = ImageFinder(folder)
    listed: dict[str, TaggedImage] = {}
    items, missing = [], []
    for item in source.items:
        name = finder.inside(item.image)
        if name not in by_name:
            missing.append(f"{item.source}: {item.image}{finder.hint(item.image)}")
            continue
        if name in listed:
            raise ValueError(
                f"{item.source}: image {name!r} is also at {listed[name].source}"
            )
        listed[name] = replace(item, image=name)
        if inherit or not item.tags:
            tags = item.tags or set()
            items += [
                TaggedImage(tile.name, {*tags}, item.source)
                for tile in by_name[name].tiles
            ]
    if missing:
        raise FileNotFoundError(
            f"--image-tags: {len(missing)} of {len(source.items)} images are not in "
            f"{folder}:" + bullets(missing)
        )
    return items, listed


def resolve_tile_tags(
    folder: Path,
    images: Sequence[BigImage],
    regions: RegionSource | None = None,
    min_pixels: int = 1,
    tile_tags: TagSource | None = None,
    image_tags: TagSource | None = None,
    inherit: bool = False,
    classes: Sequence[str] | None = None,
) -> TileTags:
    """What the sources together say of tiles.

    What is said of a tile itself goes before what is said of its image.

    Args:
        folder: The images.
        images: The same, as :func:`find_big_images` gives them.
        regions: See :func:`tiles_of_regions`.
        min_pixels: See there.
        tile_tags: See :func:`tiles_of_table`.
        image_tags: See :func:`tiles_of_images`.
        inherit: See there.
        classes: Names of the classes in the order of their labels. None is the
            alphabet.

    Raises:
        FileNotFoundError, ValueError: As these; a tag is no class; or a tile shows a
            class that its image does not (names all).
    """
    own: list[TaggedImage] = []
    if regions is not None:
        own += tiles_of_regions(regions, folder, images, min_pixels, classes)
    if tile_tags is not None:
        own += tiles_of_table(tile_tags, images)
    known: dict[str, TaggedImage] = {}
    listed: dict[str, TaggedImage] = {}
    if image_tags is not None:
        items, listed = tiles_of_images(image_tags, folder, images, inherit)
        known = {item.image: item for item in items}
    names = resolve_classes([*own, *listed.values()], classes)
    image_of = {tile.name: image.name for image in images for tile in image.tiles}
    faults = []
    for item in own:
        whole = listed.get(image_of[item.image])
        if whole and (more := (item.tags or set()) - (whole.tags or set())):
            faults.append(
                f"{item.source}: tile {item.image} shows {sorted(more)}, its image at "
                f"{whole.source} does not"
            )
        known[item.image] = item
    if faults:
        raise ValueError(
            f"--image-tags: {len(faults)} tiles contradict them:" + bullets(faults)
        )
    notes = [
        note
        for source in (regions, tile_tags, image_tags)
        if source is not None
        for note in source.notes
    ]
    if not any(item.tags for item in known.values()):
        notes.append("no tile has a tag: a pipeline needs some")
    order = [known[name] for name in image_of if name in known]
    return TileTags(order, names, notes)
