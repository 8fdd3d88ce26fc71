"""Image tags from PASCAL VOC's lists and annotations."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mmwood.fileio.files import read_xml
from mmwood.fileio.lists import TaggedImage, read_lines


def tags_from_lists(
    list_path: str | os.PathLike, classes: Sequence[str], use_difficult: bool
) -> Callable[[TaggedImage], set[str]]:
    """Tags from the lists ``CLASS_SPLIT.txt`` beside PASCAL VOC's ``SPLIT.txt``.

    Their lines are ``id 1`` (shows the class), ``id -1`` (does not) or ``id 0``
    (shows only objects marked difficult).

    Raises:
        FileNotFoundError: A class has no list.
        ValueError: A line is not of that form, or an image is missing from a list.
    """
    shown: dict[str, dict[str, bool]] = {}
    folder, split = Path(list_path).parent, Path(list_path).stem
    paths = {name: folder / f"{name}_{split}.txt" for name in classes}
    values = {"1": True, "0": use_difficult, "-1": False}
    for name, path in paths.items():
        if not path.is_file():
            raise FileNotFoundError(
                f"class {name!r} of the data set's classes has no list {path}"
            )
        shown[name] = {}
        for number, line in read_lines(path):
            # An id may hold spaces.
            image, _, value = line.replace("\t", " ").rpartition(" ")
            if not image.strip() or value not in values:
                raise ValueError(
                    f"{path}:{number}: expected an image id and 1, 0 or -1, "
                    f"got {line!r}"
                )
            shown[name][image.strip()] = values[value]

    def tags(item: TaggedImage) -> set[str]:
        for name in classes:
            if item.image not in shown[name]:
                raise ValueError(
                    f"{item.source}: image {item.image!r} is not in {paths[name]}"
                )
        return {name for name in classes if shown[name][item.image]}

    return tags


def tags_from_xml(path: str | os.PathLike, use_difficult: bool) -> set[str]:
    """Tags from the objects of a PASCAL VOC annotation.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not XML, or no annotation of VOC.
    """
    try:
        root = read_xml(path, "annotation")
    except ValueError as error:
        raise ValueError(f"{path} is not a VOC annotation: {error}") from error
    if root.tag != "annotation":
        raise ValueError(
            f"{path} is not a VOC annotation: expected <annotation>, got <{root.tag}>"
        )
    names = {
        (item.findtext("name") or "").strip()
        for item in root.iter("object")
        if use_difficult or item.findtext("difficult", "0").strip() != "1"
    }
    if "" in names:
        raise ValueError(f"{path}: an <object> has no <name>")
    return names
