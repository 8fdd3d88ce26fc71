"""Which labels of Open Images show a foreground class."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmwood.fileio.files import read_json
from mmwood.fileio.tables import csv_reader

#: The mappings that come with the project.
TABLES = {name: Path(__file__).with_name(f"{name}.csv") for name in ("voc", "coco")}
_COLUMNS = ("class", "name", "label", "descendants")


@dataclass(slots=True)
class Foreground:
    """Which labels of Open Images belong to the foreground.

    Attributes:
        classes: The foreground classes, in the order of the mapping.
        labels: The classes of each foreground label, descendants included.
        names: The name of every label that Open Images has.
        renamed: Labels that the mapping and the descriptions name differently, as
            texts for people.
    """

    classes: list[str] = field(default_factory=list)
    labels: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    renamed: list[str] = field(default_factory=list)


def read_descriptions(path: str | os.PathLike) -> dict[str, str]:
    """The name of each label, from ``class-descriptions.csv`` of any version.

    Args:
        path: A CSV file with the columns ``LabelName, DisplayName``, with or without
            this header.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is not a label and its name, or repeats a label.
    """
    names: dict[str, str] = {}
    with csv_reader(path, "descriptions") as reader:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if not row or (
                reader.line_num == 1 and row == ["LabelName", "DisplayName"]
            ):
                continue
            if len(row) != 2 or not row[0].startswith("/") or not row[1]:
                raise ValueError(
                    f"{where}: expected a label and its name, as in '/m/0bt9lr,Dog', "
                    f"got {','.join(row)!r}"
                )
            label, name = row
            if label in names:
                raise ValueError(f"{where}: label {label} is described twice")
            names[label] = name
    if not names:
        raise ValueError(f"{path}: describes no label")
    return names


def read_hierarchy(path: str | os.PathLike, parts: bool = True) -> dict[str, set[str]]:
    """The children of each label, from ``bbox_labels_600_hierarchy.json``.

    Args:
        path: A tree of objects with ``LabelName`` and lists ``Subcategory`` and
            ``Part``. A label may stand in several places; it has the children of all.
        parts: Whether parts (a person's face) count as children, as subclasses do.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a tree.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"hierarchy: there is no file {path}")
    todo = [read_json(path)]
    children: dict[str, set[str]] = {}
    while todo:
        node = todo.pop()
        label = node.get("LabelName") if isinstance(node, dict) else None
        if not isinstance(label, str):
            raise ValueError(
                f"{path}: expected an object with a LabelName, got "
                f"{json.dumps(node)[:60]}"
            )
        own = children.setdefault(label, set())
        for key in ("Subcategory", "Part"):
            below = node.get(key, [])
            if not isinstance(below, list):
                raise ValueError(f"{path}: {key} of {label} is not a list")
            todo += below
            if key == "Subcategory" or parts:
                own.update(
                    item["LabelName"]
                    for item in below
                    # Others are refused when their turn comes.
                    if isinstance(item, dict) and isinstance(item.get("LabelName"), str)
                )
    return children


def read_foreground(
    mapping: str | os.PathLike,
    descriptions: str | os.PathLike,
    hierarchy: str | os.PathLike,
    parts: bool = True,
) -> Foreground:
    """Find the labels of foreground classes and of all that is below them.

    Args:
        mapping: ``'voc'``, ``'coco'``, or a CSV file with the columns ``class`` and
            ``name``, one row for each class of Open Images that shows a foreground
            class. Two further columns may follow. ``label`` says which label is
            meant; without one the name decides. ``descendants`` is ``yes``, the
            default, or ``no`` for a label that stands for itself alone.
        descriptions: See :func:`read_descriptions`.
        hierarchy: See :func:`read_hierarchy`.
        parts: Whether parts (a person's face) belong to the class, too.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A row of the mapping is wrong: its label or name is not among the
            descriptions, its name belongs to several labels, or the hierarchy lacks
            its label; the message names the line. Or another file is wrong.
    """
    names = read_descriptions(descriptions)
    children = read_hierarchy(hierarchy, parts)
    labels_of = defaultdict(list)
    for label, name in names.items():
        labels_of[name].append(label)
    foreground = Foreground(names=names)
    seen = set()
    for where, row in _mapping_rows(TABLES.get(str(mapping), mapping)):
        class_name, name, label = row["class"], row["name"], row["label"]
        if not label:
            found = labels_of.get(name, [])
            if not found:
                raise ValueError(f"{where}: {descriptions} has no class named {name!r}")
            if len(found) > 1:
                raise ValueError(
                    f"{where}: {descriptions} has several classes named {name!r}: say "
                    f"in the column label which of {found}"
                )
            label = found[0]
        elif label not in names:
            raise ValueError(
                f"{where}: {descriptions} does not have the label {label} ({name}): "
                "use the description of all classes, not only of those with boxes"
            )
        elif name not in ("", names[label]):
            foreground.renamed.append(
                f"{label} is {name!r} in the mapping and {names[label]!r} in the "
                "descriptions"
            )
        if (class_name, label) in seen:
            raise ValueError(f"{where}: {class_name!r} has {label} twice")
        seen.add((class_name, label))
        if class_name not in foreground.classes:
            foreground.classes.append(class_name)
        below = {label}
        if row["descendants"] == "yes":
            if label not in children:
                raise ValueError(
                    f"{where}: the hierarchy {hierarchy} does not have {label} "
                    f"({names[label]}): write 'no' in the column descendants if none "
                    "are wanted"
                )
            below = _with_descendants(label, children)
        for item in below:
            classes = foreground.labels.setdefault(item, [])
            if class_name not in classes:
                classes.append(class_name)
    return foreground


def _mapping_rows(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row of a mapping stands, and its four columns."""
    empty = True
    with csv_reader(path, "mapping") as reader:
        header = tuple(next(reader, ()))
        if header[:2] != _COLUMNS[:2] or not set(header[2:]) <= set(_COLUMNS[2:]):
            raise ValueError(
                f"{path}:1: expected the columns class,name and after them label or "
                f"descendants or both, got {','.join(header)!r}"
            )
        for fields in filter(None, reader):
            where = f"{path}:{reader.line_num}"
            if len(fields) != len(header):
                raise ValueError(
                    f"{where}: expected {len(header)} fields ({','.join(header)}), got "
                    f"{len(fields)}"
                )
            row = dict.fromkeys(_COLUMNS, "") | dict(zip(header, fields))
            if not row["class"] or not (row["name"] or row["label"]):
                raise ValueError(f"{where}: names no class or none of Open Images")
            row["descendants"] = row["descendants"] or "yes"
            if row["descendants"] not in ("yes", "no"):
                raise ValueError(
                    f"{where}: descendants must be yes or no, got "
                    f"{row['descendants']!r}"
                )
            empty = False
            yield where, row
    if empty:
        raise ValueError(f"{path}: maps no class")


def _with_descendants(label: str, children: dict[str, set[str]]) -> set[str]:
    found, todo = {label}, [label]
    while todo:
        below = children[todo.pop()] - found
        found |= below
        todo += below
    return found
