"""Image-level labels (tags) from the formats that people have them in.

Every reader gives a list of :class:`Tagged`, in the order of its source, and says
where each came from, so that an error can name the file and the line.
"""

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = [
    "Tagged",
    "coco_class_names",
    "read_coco",
    "read_csv",
    "read_id_list",
    "tags_from_lists",
    "tags_from_mask",
    "tags_from_xml",
]


@dataclass
class Tagged:
    """One image and its tags.

    Attributes:
        image: What the source calls the image: an id or a file name.
        tags: Names of the classes that it shows, or None when the source only lists
            images.
        source: ``file:line``, to be named in errors.
    """

    image: str
    tags: set[str] | None
    source: str


def read_id_list(path: Path) -> list[Tagged]:
    """Images from a list with one id or file name a line. Blank lines are skipped."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        Tagged(line.strip(), None, f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def tags_from_lists(
    list_path: Path, classes: Sequence[str], use_difficult: bool
) -> Callable[[Tagged], set[str]]:
    """Tags from PASCAL VOC's ``ImageSets/Main``: one ``CLASS_SPLIT.txt`` a class.

    Their lines are ``id 1`` (shows the class), ``id -1`` (does not) or ``id 0``
    (shows only objects marked difficult).

    Args:
        list_path: ``ImageSets/Main/SPLIT.txt``; the class lists lie beside it.
        classes: Names of the classes.
        use_difficult: Whether ``0`` counts as showing the class.

    Raises:
        FileNotFoundError: A class has no list.
        ValueError: A line is not of that form, or an image is missing from a list.
    """
    positive: dict[str, set[str]] = {}
    listed: dict[str, set[str]] = {}
    paths = {
        name: list_path.parent / f"{name}_{list_path.stem}.txt" for name in classes
    }
    for name, path in paths.items():
        if not path.is_file():
            raise FileNotFoundError(
                f"class {name!r} of the data set's classes has no list {path}"
            )
        positive[name], listed[name] = set(), set()
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            fields = line.split()
            if not fields:
                continue
            if len(fields) != 2 or fields[1] not in ("1", "0", "-1"):
                raise ValueError(
                    f"{path}:{number}: expected an image id and 1, 0 or -1, "
                    f"got {line!r}"
                )
            listed[name].add(fields[0])
            if fields[1] == "1" or (fields[1] == "0" and use_difficult):
                positive[name].add(fields[0])

    def tags(item: Tagged) -> set[str]:
        for name in classes:
            if item.image not in listed[name]:
                raise ValueError(
                    f"{item.source}: image {item.image!r} is not in {paths[name]}"
                )
        return {name for name in classes if item.image in positive[name]}

    return tags


def tags_from_xml(path: Path, use_difficult: bool) -> set[str]:
    """Tags from the objects of a PASCAL VOC annotation.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not XML.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not a VOC annotation: {error}") from error
    return {
        (item.findtext("name") or "").strip()
        for item in root.iter("object")
        if use_difficult or item.findtext("difficult", "0").strip() != "1"
    }


def tags_from_mask(path: Path, classes: Sequence[str], ignore_index: int) -> set[str]:
    """Tags from a semantic mask: 0 is background, c + 1 is class c.

    Raises:
        ValueError: The mask holds another value, or is not a single-channel image.
    """
    with Image.open(path) as image:
        mask = np.array(image)
    if mask.ndim != 2:
        raise ValueError(f"{path} is not a mask: its shape is {mask.shape}")
    values = set(np.unique(mask).tolist()) - {0, ignore_index}
    wrong = sorted(value for value in values if value > len(classes))
    if wrong:
        raise ValueError(
            f"mask {path} holds {wrong}; with {len(classes)} classes it may hold "
            f"0..{len(classes)} and {ignore_index}"
        )
    return {classes[value - 1] for value in values}


def read_csv(path: Path) -> list[Tagged]:
    """Images and tags from a CSV file with the columns ``image`` and ``labels``.

    ``labels`` holds class names separated by semicolons and may be empty.

    Raises:
        ValueError: The header lacks a column, or a row has more or fewer fields.
    """
    items = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = {"image", "labels"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(
                f"{path}:1: the header must name the columns image and labels; it "
                f"lacks {sorted(missing)}"
            )
        for row in reader:
            source = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise ValueError(
                    f"{source}: expected {len(reader.fieldnames)} fields as in the "
                    "header (separate the labels of an image by semicolons)"
                )
            tags = {tag.strip() for tag in row["labels"].split(";")}
            items.append(Tagged(row["image"].strip(), tags - {""}, source))
    return items


def _load_coco(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    missing = {"images", "annotations", "categories"} - set(content)
    if missing:
        raise ValueError(f"{path} is not a COCO annotation: it lacks {sorted(missing)}")
    return content


def coco_class_names(path: Path) -> tuple[str, ...]:
    """The category names of a COCO annotation file, in the order of their ids."""
    categories = sorted(_load_coco(path)["categories"], key=lambda item: item["id"])
    return tuple(item["name"] for item in categories)


def read_coco(path: Path) -> list[Tagged]:
    """Images and tags from a COCO annotation file; crowds count as shown.

    Raises:
        ValueError: The file is not such JSON, or an annotation names an image or a
            category that is not there.
    """
    content = _load_coco(path)
    names = {item["id"]: item["name"] for item in content["categories"]}
    items = {
        item["id"]: Tagged(item["file_name"], set(), f"{path}: image id {item['id']}")
        for item in content["images"]
    }
    if len(items) != len(content["images"]):
        raise ValueError(f"{path}: two images have the same id")
    for annotation in content["annotations"]:
        for key, known in (("image_id", items), ("category_id", names)):
            if annotation[key] not in known:
                raise ValueError(
                    f"{path}: annotation id {annotation['id']} has the unknown {key} "
                    f"{annotation[key]}"
                )
        items[annotation["image_id"]].tags.add(names[annotation["category_id"]])
    return list(items.values())
