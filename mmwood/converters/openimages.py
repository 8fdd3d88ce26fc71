"""Open Images as a pool of OoD candidates: what shows no foreground class.

The pool is Open Images minus every image whose labels contain a class that maps to one
of the foreground classes, its descendants in the hierarchy included (Lee et al., CVPR
2022). The tables for VOC and COCO beside this file name classes by their labels in Open
Images V6, whose annotations Google LLC licenses under CC BY 4.0.
"""

import csv
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from prettytable import PrettyTable
from tqdm import tqdm

from mmwood.fileio.files import atomic_write, read_json, write_json
from mmwood.fileio.tables import csv_reader

__all__ = [
    "TABLES",
    "Foreground",
    "read_descriptions",
    "read_foreground",
    "read_hierarchy",
    "summary_tables",
    "write_candidates",
]

#: The mappings that come with the project.
TABLES = {
    name: Path(__file__).with_name(f"openimages_{name}.csv") for name in ("voc", "coco")
}
LABEL_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
DOWNLOAD_COLUMNS = (
    "ImageID",
    "Subset",
    "OriginalURL",
    "Thumbnail300KURL",
    "Rotation",
)
#: What a row says of an image and a label, as bits.
POSITIVE, NEGATIVE, MACHINE = 1, 2, 4
#: The code of labels that no foreground class has.
BACKGROUND = -1
#: Rows that are written to the database at once, and its memory in KiB.
BATCH, CACHE = 20_000, 16 * 1024

_ID = re.compile(r"[\w.-]+", re.ASCII)


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

    classes: list[str]
    labels: dict[str, list[str]]
    names: dict[str, str]
    renamed: list[str]


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
        hierarchy, parts: See :func:`read_hierarchy`.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A row of the mapping is wrong: its label or name is not among the
            descriptions, its name belongs to several labels, or the hierarchy lacks
            its label; the message names the line. Or another file is wrong.
    """
    names = read_descriptions(descriptions)
    children = read_hierarchy(hierarchy, parts)
    labels_of: dict[str, list[str]] = {}
    for label, name in names.items():
        labels_of.setdefault(name, []).append(label)
    foreground = Foreground(classes=[], labels={}, names=names, renamed=[])
    seen = set()
    for where, row in _mapping_rows(TABLES.get(str(mapping), mapping)):
        label = row["label"]
        if not label:
            found = labels_of.get(row["name"], [])
            if not found:
                raise ValueError(
                    f"{where}: {descriptions} has no class named {row['name']!r}"
                )
            if len(found) > 1:
                raise ValueError(
                    f"{where}: {descriptions} has several classes named "
                    f"{row['name']!r}: say in the column label which of {found}"
                )
            label = found[0]
        elif label not in names:
            raise ValueError(
                f"{where}: {descriptions} does not have the label {label} "
                f"({row['name']}): use the description of all classes, not only of "
                "those with boxes"
            )
        elif row["name"] not in ("", names[label]):
            foreground.renamed.append(
                f"{label} is {row['name']!r} in the mapping and {names[label]!r} in "
                "the descriptions"
            )
        if row["class"] not in foreground.classes:
            foreground.classes.append(row["class"])
        if (row["class"], label) in seen:
            raise ValueError(f"{where}: {row['class']!r} has {label} twice")
        seen.add((row["class"], label))
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
            if row["class"] not in classes:
                classes.append(row["class"])
    return foreground


def write_candidates(
    foreground: Foreground,
    labels: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    images: str | os.PathLike | None = None,
    confidence: float = 0.5,
    image_ids: Sequence[str | os.PathLike] = (),
    download: str | os.PathLike | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """Write a list of the images that show no foreground class, and a summary.

    An image shows a label if a person said so (confidence 1), or if a machine did,
    with at least ``confidence``, and no person denied this label (confidence 0). Where
    people disagree the label counts. Images without any label are no candidates:
    nothing is known of them.

    Rows may come in any order. They are sorted on disk beside ``out``, so that memory
    does not grow with them; official files, where the rows of an image follow each
    other, need the least space.

    Args:
        foreground: See :func:`read_foreground`.
        labels: CSV files with the columns ``ImageID, Source, LabelName, Confidence``,
            human-verified or of the source ``machine``.
        out: The list, a .txt for ``tools/mine_ood.py --candidates``: one path a line,
            relative to the list, sorted. The summary has the same name with ``.json``.
        images: Folder that holds or will hold the images, as ``ImageID.jpg``. None:
            the list's own.
        confidence: Least confidence of a machine's label.
        image_ids: CSV files with the columns of ``DOWNLOAD_COLUMNS`` among others.
        download: CSV file to write: ``DOWNLOAD_COLUMNS`` of the candidates that are
            in ``image_ids`` and not yet in ``images``, in the order of the former.
        progress: Wraps the iteration over ``labels`` and ``image_ids``.

    Returns:
        The summary: numbers of images, candidates and removed ones, and how many
        images each foreground class and each label removed.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A row is wrong or has a label that Open Images lacks, and the
            message names file and line; or no image is left. Nothing is written then.
    """
    out = Path(out)
    if out.suffix.lower() != ".txt":
        raise ValueError(f"out must be a .txt file, got {out}")
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if bool(image_ids) != (download is not None):
        raise ValueError("image_ids and download need each other: give both or neither")
    images = Path(out.parent if images is None else images)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Mining puts the list's folder before each line.
    prefix = Path(os.path.relpath(images.resolve(), out.parent.resolve()))
    prefix = "" if prefix == Path() else f"{prefix.as_posix()}/"
    with _database(out.parent) as db:
        lines = {}
        for path in progress(labels):
            lines[str(path)] = _read_labels(db, Path(path), foreground, confidence)
        with (
            atomic_write(out) as list_path,
            nullcontext() if download is None else atomic_write(download) as table_path,
        ):
            with list_path.open("w", encoding="utf-8") as file:
                summary = _choose(db, foreground, file, prefix)
            if not summary["images"]:
                raise ValueError(f"labels: {', '.join(lines)} hold no label")
            if not summary["candidates"]:
                raise ValueError(
                    f"labels: each of the {summary['images']} images shows a "
                    "foreground class, so that no candidate is left"
                )
            if table_path is not None:
                summary["download"] = _write_download(
                    db, progress(image_ids), table_path, images
                )
    summary = dict(
        lines=lines, confidence=confidence, renamed=foreground.renamed, **summary
    )
    write_json(out.with_suffix(".json"), summary)
    return summary


def summary_tables(summary: dict[str, Any]) -> str:
    """The summary as tables for a terminal."""
    numbers = PrettyTable(["", "number"], align="r")
    numbers.add_rows(
        [
            ["images with labels", summary["images"]],
            ["show a foreground class", summary["removed"]],
            ["candidates", summary["candidates"]],
            ["machine's labels that a person denied", summary["denied"]],
        ]
    )
    if download := summary["download"]:
        numbers.add_rows(
            [
                ["candidates that are there", download["present"]],
                ["candidates to download", download["listed"]],
                ["candidates not in the image ids", download["unknown"]],
            ]
        )
    per_class = PrettyTable(["class", "removed", "by it alone"], align="r")
    per_class.align["class"] = "l"
    for item in summary["per_class"]:
        per_class.add_row([item["name"], item["images"], item["alone"]])
    return f"{numbers}\n{per_class}"


def _mapping_rows(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row of a mapping stands, and its four columns."""
    columns = ("class", "name", "label", "descendants")
    empty = True
    with csv_reader(path, "mapping") as reader:
        header = tuple(next(reader, ()))
        if header[:2] != columns[:2] or not set(header[2:]) <= set(columns[2:]):
            raise ValueError(
                f"{path}:1: expected the columns class,name and after them label or "
                f"descendants or both, got {','.join(header)!r}"
            )
        for fields in reader:
            where = f"{path}:{reader.line_num}"
            if not fields:
                continue
            if len(fields) != len(header):
                raise ValueError(
                    f"{where}: expected {len(header)} fields ({','.join(header)}), got "
                    f"{len(fields)}"
                )
            row = dict(dict.fromkeys(columns, ""), **dict(zip(header, fields)))
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


@contextmanager
def _database(folder: Path) -> Iterator[sqlite3.Connection]:
    """An empty database in a nameless file of the folder, gone when it is closed."""
    with closing(sqlite3.connect("", isolation_level=None)) as db:
        # Else SQLite sorts in /tmp, which may be small, or memory. The setting holds
        # for the process, until it is taken back.
        quoted = str(folder.resolve()).replace("'", "''")
        db.execute(f"PRAGMA temp_store_directory = '{quoted}'")
        try:
            db.execute("PRAGMA journal_mode = OFF")
            db.execute(f"PRAGMA cache_size = -{CACHE}")
            db.execute("CREATE TABLE rows (image TEXT, code INTEGER, bits INTEGER)")
            db.execute(
                "CREATE TABLE candidates (image TEXT PRIMARY KEY, listed INTEGER) "
                "WITHOUT ROWID"
            )
            db.execute("BEGIN")
            yield db
        finally:
            db.execute("PRAGMA temp_store_directory = ''")


def _read_labels(
    db: sqlite3.Connection, path: Path, foreground: Foreground, least: float
) -> int:
    """Put what a file says of foreground labels into ``rows``, and every image.

    The loop is as bare as it can be: reading the file should be what takes the time.

    Returns:
        The number of lines below the header.
    """
    codes = dict.fromkeys(foreground.names, BACKGROUND)
    codes.update((label, code) for code, label in enumerate(foreground.labels))
    batch: list[tuple[str, int, int]] = []
    last = None
    bare = False
    with csv_reader(path, "labels") as reader:
        header = tuple(next(reader, ()))
        if header != LABEL_COLUMNS:
            raise ValueError(
                f"{path}:1: expected the header {','.join(LABEL_COLUMNS)!r}, got "
                f"{','.join(header)!r}"
            )
        for row in reader:
            try:
                image, source, label, confidence = row
            except ValueError:
                if not row:
                    continue
                raise ValueError(
                    f"{path}:{reader.line_num}: expected {len(LABEL_COLUMNS)} fields "
                    f"({','.join(LABEL_COLUMNS)}), got {len(row)}"
                ) from None
            if image != last:
                # A run of equal ids ends. Later runs of the same image add it again;
                # sorting brings them together.
                if bare:
                    batch.append((last, BACKGROUND, 0))
                if len(batch) >= BATCH:
                    _insert(db, batch)
                if not _ID.fullmatch(image):
                    raise ValueError(
                        f"{path}:{reader.line_num}: expected an ImageID such as "
                        f"000026e7ee790996, got {image!r}"
                    )
                last, bare = image, True
            try:
                code = codes[label]
            except KeyError:
                raise ValueError(
                    f"{path}:{reader.line_num}: the descriptions do not have the label "
                    f"{label!r}: do both files belong to the same version of Open "
                    "Images?"
                ) from None
            if code != BACKGROUND:
                try:
                    bits = _bits(source, confidence, least)
                except ValueError as error:
                    raise ValueError(f"{path}:{reader.line_num}: {error}") from error
                if bits:
                    batch.append((image, code, bits))
                    bare = False
        if bare:
            batch.append((last, BACKGROUND, 0))
        _insert(db, batch)
        return reader.line_num - 1


def _insert(db: sqlite3.Connection, batch: list[tuple[str, int, int]]) -> None:
    db.executemany("INSERT INTO rows VALUES (?, ?, ?)", batch)
    batch.clear()


@lru_cache(maxsize=4096)
def _bits(source: str, confidence: str, least: float) -> int:
    """What a row says: POSITIVE, NEGATIVE, MACHINE, or 0 for nothing."""
    machine = source == "machine"
    try:
        value = float(confidence)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 if machine else value in (0, 1)):
        raise ValueError(
            f"the confidence of the source {source!r} must be "
            f"{'from 0 to 1' if machine else '0 or 1'}, got {confidence!r}"
        )
    if machine:
        return MACHINE if value >= least else 0
    return POSITIVE if value else NEGATIVE


def _choose(
    db: sqlite3.Connection, foreground: Foreground, file: TextIO, prefix: str
) -> dict[str, Any]:
    """Write the images without foreground, also to the table, and count."""
    classes_of = list(foreground.labels.values())
    images = candidates = denied = 0
    by_code = [0] * len(classes_of)
    by_class = dict.fromkeys(foreground.classes, 0)
    alone = dict.fromkeys(foreground.classes, 0)
    batch: list[tuple[str]] = []
    rows = db.execute("SELECT image, code, bits FROM rows ORDER BY image")
    groups = groupby(rows, key=itemgetter(0))
    for image, group in tqdm(groups, desc="choose", unit="image", disable=None):
        images += 1
        said: dict[int, int] = {}
        for _, code, bits in group:
            said[code] = said.get(code, 0) | bits
        shown = []
        for code, bits in said.items():
            if bits & POSITIVE or bits == MACHINE:
                shown.append(code)
            elif bits == MACHINE | NEGATIVE:
                denied += 1
        if shown:
            classes = {name for code in shown for name in classes_of[code]}
            for code in shown:
                by_code[code] += 1
            for name in classes:
                by_class[name] += 1
                alone[name] += len(classes) == 1
            continue
        candidates += 1
        file.write(f"{prefix}{image}.jpg\n")
        batch.append((image,))
        if len(batch) >= BATCH:
            _add_candidates(db, batch)
    _add_candidates(db, batch)
    return dict(
        images=images,
        removed=images - candidates,
        candidates=candidates,
        denied=denied,
        per_class=[
            dict(name=name, images=by_class[name], alone=alone[name])
            for name in foreground.classes
        ],
        per_label=[
            dict(label=label, name=foreground.names.get(label, label), images=count)
            for count, label in sorted(
                zip(by_code, foreground.labels), key=lambda item: (-item[0], item[1])
            )
            if count
        ],
        download=None,
    )


def _add_candidates(db: sqlite3.Connection, batch: list[tuple[str]]) -> None:
    db.executemany("INSERT INTO candidates VALUES (?, 0)", batch)
    batch.clear()


def _write_download(
    db: sqlite3.Connection,
    paths: Iterable[str | os.PathLike],
    out: Path,
    images: Path,
) -> dict[str, int]:
    """Write the candidates that are not in ``images``, each once."""
    listed = present = 0
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(DOWNLOAD_COLUMNS)
        for path in paths:
            with csv_reader(path, "image_ids") as reader:
                header = next(reader, [])
                missing = [name for name in DOWNLOAD_COLUMNS if name not in header]
                if missing:
                    raise ValueError(
                        f"{path}:1: expected a header with {','.join(missing)} too, "
                        f"got {','.join(header)!r}"
                    )
                pick = itemgetter(*map(header.index, DOWNLOAD_COLUMNS))
                for row in reader:
                    if not row:
                        continue
                    if len(row) != len(header):
                        raise ValueError(
                            f"{path}:{reader.line_num}: expected {len(header)} fields, "
                            f"got {len(row)}"
                        )
                    fields = pick(row)
                    found = db.execute(
                        "UPDATE candidates SET listed = 1 WHERE image = ? AND NOT "
                        "listed",
                        fields[:1],
                    )
                    if not found.rowcount:
                        continue
                    if _is_there(images / f"{fields[0]}.jpg"):
                        present += 1
                    else:
                        listed += 1
                        writer.writerow(fields)
    (unknown,) = db.execute(
        "SELECT COUNT(*) FROM candidates WHERE NOT listed"
    ).fetchone()
    return dict(listed=listed, present=present, unknown=unknown)


def _is_there(path: Path) -> bool:
    """Whether a file is there; an empty one is what a broken download leaves."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
