"""Cutting images into tiles, and the record of what each tile is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmwood.converters.tiles.grid import IMAGES, BigImage, Tile
from mmwood.converters.tiles.tags import TileTags
from mmwood.converters.writer import Writer, find_record
from mmwood.fileio.files import (
    compare_description,
    read_json,
    remove_leftovers,
    write_json,
)
from mmwood.fileio.image_rows import ImageRows, encode_values
from mmwood.fileio.images import UNREADABLE, unreadable
from mmwood.fileio.lists import TaggedImage

_FORMAT = "mmwood tiles 1"
_RECORD = "tiles.json"


def cut_images(
    folder: Path,
    images: Sequence[BigImage],
    out: Path,
    tags: TileTags | None = None,
    overwrite: bool = False,
    progress: Callable[[Sequence[BigImage]], Iterable[BigImage]] = iter,
) -> dict[str, int]:
    """Write the tiles of images, their tags, and what each of them is.

    With tags the unknown tiles are not written: a pipeline would take them for images
    that show no class. Without, all tiles are written, and no ``tags.csv``.

    A tile has the values of its image, upright: PNGs of 8 or 16 bits, grey or in
    colour, and TIFFs of other values and bands. See
    :class:`mmwood.fileio.image_rows.ImageRows` for the memory that it takes.

    Args:
        folder: The images, which are only read.
        images: The same, as :func:`find_big_images` gives them.
        out: Folder to write to: a new one, or one with tiles of the same images, size
            and overlap, of which those stay that are the same.
        tags: What is known of the tiles.
        overwrite: As in :class:`mmwood.converters.writer.Writer`.
        progress: Wraps the images while they are cut.

    Returns:
        ``images``; ``tiles``, those that are written; ``tagged``, ``untagged`` and
        ``unknown`` ones; and the writer's counts.

    Raises:
        FileExistsError: See the writer.
        ValueError: ``out`` holds something else, or lies in ``folder``; or an image
            cannot be read.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--out: {out} is in the folder of the images, {folder}, where tiles would "
            "be taken for images: name another folder"
        )
    description: dict[str, Any] = dict(
        format=_FORMAT,
        size=images[0].tile,
        overlap=images[0].overlap,
        images={image.name: list(image.size) for image in images},
    )
    if (found := find_record(out, _RECORD, format=_FORMAT)) is not None:
        compare_description(found, description, out, "name another folder", "--out")
        if more := found["images"].keys() - description["images"].keys():
            raise ValueError(
                f"--out: {out} has tiles of {min(more)}, too, which is gone: name "
                "another folder"
            )
    record = out / _RECORD
    write_json(record, dict(description, complete=False, tiles=[]))
    remove_leftovers(out)
    writer = Writer(overwrite)
    known = None if tags is None else {item.image: item for item in tags.items}
    for image in progress(images):
        _cut(folder, image, out, known, writer)
    entries = [_entry(image, tile, known) for image in images for tile in image.tiles]
    if tags is not None:
        suffixes = {entry["name"]: entry["file"] for entry in entries}
        items = [replace(item, image=suffixes[item.image]) for item in tags.items]
        writer.tags(out / "tags.csv", items, tags.classes)
        writer.lines(out / "classes.txt", tags.classes)
    write_json(record, dict(description, complete=True, tiles=entries))
    labels = [entry["labels"] for entry in entries]
    return dict(
        images=len(images),
        tiles=sum(entry["file"] is not None for entry in entries),
        tagged=sum(map(bool, labels)),
        untagged=labels.count([]),
        unknown=labels.count(None),
        **writer.counts,
    )


def _entry(
    image: BigImage, tile: Tile, known: dict[str, TaggedImage] | None
) -> dict[str, Any]:
    """What stands in the record of a tile."""
    item = None if known is None else known.get(tile.name)
    written = known is None or item is not None
    return dict(
        name=tile.name,
        file=f"{IMAGES}/{tile.name}{image.suffix}" if written else None,
        image=image.name,
        x=tile.left,
        y=tile.top,
        width=image.tile,
        height=image.tile,
        labels=None if item is None else sorted(item.tags or ()),
    )


def _cut(
    folder: Path,
    image: BigImage,
    out: Path,
    known: dict[str, TaggedImage] | None,
    writer: Writer,
) -> None:
    """Write the tiles of an image, and remove those that are unknown by now."""
    path = folder / image.name
    rows = ImageRows(path)
    for top, bottom in image.rows:
        files = {}
        for left, right in image.columns:
            tile = image.at(top, left)
            file = out / IMAGES / f"{tile.name}{image.suffix}"
            wanted = known is None or tile.name in known
            if wanted or file.exists():
                files[file] = slice(left, right), wanted
        if not files:
            continue
        try:
            band = rows.rows(top, bottom)
        except UNREADABLE as error:
            raise ValueError(unreadable(path, error)) from error
        for file, (columns, wanted) in files.items():
            content = encode_values(band[:, columns], image.suffix)
            if wanted:
                writer.content(file, content)
            elif writer.overwrite or file.read_bytes() == content:
                file.unlink()
            else:
                raise FileExistsError(
                    f"{file} is of a tile without tags, and was changed: move it away, "
                    "or remove such files with --overwrite"
                )


def read_tiles(folder: Path) -> dict[str, Any]:
    """What :func:`cut_images` wrote of the tiles in a folder.

    Raises:
        FileNotFoundError: It wrote none.
        ValueError: The file is of something else, or of a cut that did not finish.
    """
    path = folder / _RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {_RECORD}: name a folder that this command cut tiles to"
        )
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ValueError(f"{path} does not describe tiles of mmwood: name their folder")
    if not record.get("complete"):
        raise ValueError(f"{folder} is not complete: cut the images again")
    return record
