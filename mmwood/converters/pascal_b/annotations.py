"""What is read: the table of classes, and the annotations of LVIS and COCO."""

import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmwood.fileio.coco import entry_size, image_name, read_coco
from mmwood.fileio.labels import VOID
from mmwood.fileio.lists import check_id
from mmwood.fileio.tables import read_rows

#: The table of classes that comes with the package.
CLASS_TABLE = Path(__file__).with_name("classes.csv")
#: What is kept of JSON objects; the rest (addresses, boxes, dates) only needs memory.
_KEPT = (
    *("images", "annotations", "categories", "id", "name", "file_name", "coco_url"),
    *("height", "width", "not_exhaustive_category_ids", "image_id", "category_id"),
    *("segmentation", "area", "iscrowd", "size", "counts"),
)


@dataclass(frozen=True)
class ClassTable:
    """Which categories of a source are which class.

    Attributes:
        names: The classes; label c is ``names[c - 1]``.
        labels: Label by category, for the sources ``'lvis'`` and ``'coco'``.
    """

    names: tuple[str, ...]
    labels: dict[str, dict[str, int]]


@dataclass(slots=True)
class Item:
    """One annotation of a class.

    Attributes:
        label: Its class, from 1.
        category: The source's category.
        segmentation: Polygons, or run lengths, as in COCO.
        area: Pixels, as annotated.
        crowd: Whether it is a crowd, which becomes void.
        id: The annotation's, to be named in errors.
    """

    label: int
    category: int
    segmentation: list | dict
    area: float
    crowd: bool
    id: object = None


@dataclass(slots=True)
class Scene:
    """One image and its annotations.

    Attributes:
        name: File name, perhaps in a folder.
        folder: The folder (split) that the image's address names, or ''.
        size: Height and width in pixels.
        source: The file and the entry, to be named in errors.
        items: Annotations of the classes.
        partial: Labels that are not annotated exhaustively.
    """

    name: str
    folder: str
    size: tuple[int, int]
    source: str
    items: list[Item] = field(default_factory=list)
    partial: set[int] = field(default_factory=set)

    @property
    def stem(self) -> str:
        """The image's id in lists, and the name of its maps."""
        return Path(self.name).stem


def read_class_table(path: str | os.PathLike = CLASS_TABLE) -> ClassTable:
    """The classes from a CSV file with the columns ``class, source, category``.

    Classes are numbered from 1 as they first occur; ``source`` is lvis or coco.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a file; the message names the line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"class_table: there is no file {path}")
    names: dict[str, int] = {}
    labels: dict[str, dict[str, int]] = dict(lvis={}, coco={})
    for where, row in read_rows(path, ("class", "source", "category")):
        name, source, category = row
        if not category or source not in labels:
            raise ValueError(
                f"{where}: expected a class, lvis or coco, and a category, got "
                f"{','.join(row)!r}"
            )
        if category in labels[source]:
            raise ValueError(f"{where}: {source} {category!r} has a class already")
        # Pictures for review lie in a folder of their class.
        check_id(name, where, "class")
        labels[source][category] = names.setdefault(name, len(names) + 1)
    if not 0 < len(names) < VOID:
        raise ValueError(f"{path} names {len(names)} classes, expected 1..{VOID - 1}")
    return ClassTable(tuple(names), labels)


def read_files(
    paths: Sequence[str | os.PathLike], labels: Mapping[str, int]
) -> dict[int, Scene]:
    """As :func:`read_annotations`, of several files.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is faulty, or two have an image of one id.
    """
    scenes: dict[int, Scene] = {}
    for path in paths:
        found = read_annotations(path, labels)
        if twice := sorted(set(found) & set(scenes)):
            raise ValueError(
                f"{found[twice[0]].source} has the id {twice[0]} of "
                f"{scenes[twice[0]].source}: expected every image in one file"
            )
        scenes |= found
    return scenes


def read_annotations(
    path: str | os.PathLike, labels: Mapping[str, int]
) -> dict[int, Scene]:
    """The images of a COCO or LVIS file by their id, with the annotations of classes.

    Needs much less memory than ``json.load``: what is not used, and above all the
    polygons' Python numbers, is dropped while the file is parsed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a file, or lacks a category of ``labels``; the
            message names the entry.
    """
    fields = ("height", "width"), ("segmentation", "area")
    coco = read_coco(path, *fields, object_hook=_compact)
    lacking = sorted(set(labels) - set(coco.categories.values()))
    if lacking:
        raise ValueError(
            f"{path}: there are no categories {lacking}, which the table of classes "
            "names"
        )
    by_id = {n: labels[name] for n, name in coco.categories.items() if name in labels}
    scenes = {}
    for place, (number, entry) in enumerate(coco.images.items()):
        source = coco.sources("images", place)
        folder, name = image_name(entry, source)
        partial = by_id.keys() & entry.get("not_exhaustive_category_ids", ())
        scene = Scene(name, folder, entry_size(entry, source), source)
        scene.partial.update(by_id[category] for category in partial)
        scenes[number] = scene
    for place, entry in enumerate(coco.annotations):
        if entry["category_id"] in by_id:
            label = by_id[entry["category_id"]]
            item = _item(entry, label, coco.sources("annotations", place))
            # Without a polygon of three points it has no pixel.
            if item.segmentation:
                scenes[entry["image_id"]].items.append(item)
    return scenes


def _compact(entry: dict) -> dict:
    """A JSON object without what is not used, its polygons as arrays."""
    entry = {key: entry[key] for key in _KEPT if key in entry}
    if isinstance(entry.get("segmentation"), list):
        try:
            entry["segmentation"] = [array("d", p) for p in entry["segmentation"]]
        except TypeError:
            # Which entry is faulty is not known here: _item refuses it.
            entry["segmentation"] = None
    return entry


def _item(entry: dict, label: int, source: str) -> Item:
    segmentation, area = entry["segmentation"], entry["area"]
    if isinstance(segmentation, list):
        if any(len(part) % 2 for part in segmentation):
            raise ValueError(f"{source}: a polygon has an odd number of coordinates")
        # pycocotools takes four numbers for a box; two points enclose nothing.
        segmentation = [part for part in segmentation if len(part) >= 6]
    elif not isinstance(segmentation, dict) or {"size", "counts"} - set(segmentation):
        raise ValueError(f"{source}: segmentation is neither polygons nor run lengths")
    if not isinstance(area, (int, float)):
        raise ValueError(f"{source}: area is {area!r}, no number")
    crowd = bool(entry.get("iscrowd", 0))
    return Item(
        label, entry["category_id"], segmentation, float(area), crowd, entry.get("id")
    )
