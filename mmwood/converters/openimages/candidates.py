"""Open Images as a pool of OoD candidates: what shows no foreground class.

The pool is Open Images minus every image whose labels contain a class that maps to one
of the foreground classes, its descendants in the hierarchy included (Lee et al., CVPR
2022). The tables for VOC and COCO beside this file name classes by their labels in Open
Images V6, whose annotations Google LLC licenses under CC BY 4.0.
"""

import csv
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from mmwood.converters.command import bar
from mmwood.converters.openimages.foreground import Foreground
from mmwood.fileio.files import atomic_write, write_json
from mmwood.fileio.tables import csv_reader
from mmwood.utils.tables import number_table

LABEL_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
DOWNLOAD_COLUMNS = ("ImageID", "Subset", "OriginalURL", "Thumbnail300KURL", "Rotation")
#: What a row says of an image and a label, as bits.
POSITIVE, NEGATIVE, MACHINE = 1, 2, 4
#: The code of labels that no foreground class has.
BACKGROUND = -1
#: Memory of the database in KiB.
CACHE = 16 * 1024
_ID = re.compile(r"[\w.-]+", re.ASCII)


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
        foreground: What ``read_foreground`` gives.
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
    way = Path(os.path.relpath(images.resolve(), out.parent.resolve()))
    prefix = "" if way == Path() else f"{way.as_posix()}/"
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
    rows = [
        ("images with labels", summary["images"]),
        ("show a foreground class", summary["removed"]),
        ("candidates", summary["candidates"]),
        ("machine's labels that a person denied", summary["denied"]),
    ]
    if download := summary["download"]:
        rows += [
            ("candidates that are there", download["present"]),
            ("candidates to download", download["listed"]),
            ("candidates not in the image ids", download["unknown"]),
        ]
    per_class = [(i["name"], i["images"], i["alone"]) for i in summary["per_class"]]
    classes = number_table(["class", "removed", "by it alone"], per_class)
    return f"{number_table(['', 'number'], rows)}\n{classes}"


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

    Returns:
        The number of lines below the header.
    """
    with csv_reader(path, "labels") as reader:
        said = _said(reader, path, foreground, least)
        db.executemany("INSERT INTO rows VALUES (?, ?, ?)", said)
        return reader.line_num - 1


def _said(
    reader: Any, path: Path, foreground: Foreground, least: float
) -> Iterator[tuple[str, int, int]]:
    """Image, code and bits of each foreground label, or BACKGROUND and 0.

    The loop is as bare as it can be: reading the file should be what takes the time.
    """
    codes = dict.fromkeys(foreground.names, BACKGROUND)
    codes.update((label, code) for code, label in enumerate(foreground.labels))
    header = tuple(next(reader, ()))
    if header != LABEL_COLUMNS:
        raise ValueError(
            f"{path}:1: expected the header {','.join(LABEL_COLUMNS)!r}, got "
            f"{','.join(header)!r}"
        )
    last: Any = None
    bare = False
    for row in filter(None, reader):
        try:
            image, source, label, confidence = row
        except ValueError:
            raise ValueError(
                f"{path}:{reader.line_num}: expected {len(LABEL_COLUMNS)} fields "
                f"({','.join(LABEL_COLUMNS)}), got {len(row)}"
            ) from None
        if image != last:
            # A run of equal ids ends. Later runs of the same image give it again;
            # sorting brings them together.
            if bare:
                yield last, BACKGROUND, 0
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
                f"{label!r}: do both files belong to the same version of Open Images?"
            ) from None
        if code != BACKGROUND:
            try:
                bits = _bits(source, confidence, least)
            except ValueError as error:
                raise ValueError(f"{path}:{reader.line_num}: {error}") from error
            if bits:
                yield image, code, bits
                bare = False
    if bare:
        yield last, BACKGROUND, 0


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
    counts: Counter[str] = Counter()
    by_label: Counter[str] = Counter()
    by_class: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    labels = list(foreground.labels)
    rows = db.execute("SELECT image, code, bits FROM rows ORDER BY image")

    def candidates() -> Iterator[tuple[str]]:
        groups = groupby(rows, key=itemgetter(0))
        for image, group in bar("choose")(groups):
            counts["images"] += 1
            said: dict[int, int] = {}
            for _, code, bits in group:
                said[code] = said.get(code, 0) | bits
            classes: set[str] = set()
            for code, bits in said.items():
                if bits & POSITIVE or bits == MACHINE:
                    by_label[labels[code]] += 1
                    classes.update(foreground.labels[labels[code]])
                elif bits == MACHINE | NEGATIVE:
                    counts["denied"] += 1
            for name in classes:
                by_class[name] += 1
                alone[name] += len(classes) == 1
            if not classes:
                file.write(f"{prefix}{image}.jpg\n")
                counts["candidates"] += 1
                yield (image,)

    db.executemany("INSERT INTO candidates VALUES (?, 0)", candidates())
    return dict(
        images=counts["images"],
        removed=counts["images"] - counts["candidates"],
        candidates=counts["candidates"],
        denied=counts["denied"],
        per_class=[
            dict(name=name, images=by_class[name], alone=alone[name])
            for name in foreground.classes
        ],
        per_label=[
            dict(label=label, name=foreground.names.get(label, label), images=count)
            for label, count in sorted(
                by_label.items(), key=lambda item: (-item[1], item[0])
            )
        ],
        download=None,
    )


def _write_download(
    db: sqlite3.Connection, paths: Iterable[str | os.PathLike], out: Path, images: Path
) -> dict[str, int]:
    """Write the candidates that are not in ``images``, each once."""
    listed = present = 0
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(DOWNLOAD_COLUMNS)
        for path in paths:
            for fields in _addresses(path):
                found = db.execute(
                    "UPDATE candidates SET listed = 1 WHERE image = ? AND NOT listed",
                    fields[:1],
                )
                if not found.rowcount:
                    continue
                image = images / f"{fields[0]}.jpg"
                # An empty file is what a broken download leaves.
                if image.is_file() and image.stat().st_size:
                    present += 1
                else:
                    listed += 1
                    writer.writerow(fields)
    (unknown,) = db.execute(
        "SELECT COUNT(*) FROM candidates WHERE NOT listed"
    ).fetchone()
    return dict(listed=listed, present=present, unknown=unknown)


def _addresses(path: str | os.PathLike) -> Iterator[tuple[str, ...]]:
    """The ``DOWNLOAD_COLUMNS`` of every row."""
    with csv_reader(path, "image_ids") as reader:
        header: list[str] = next(reader, [])
        if not set(DOWNLOAD_COLUMNS) <= set(header):
            missing = [name for name in DOWNLOAD_COLUMNS if name not in header]
            raise ValueError(
                f"{path}:1: expected a header with {','.join(missing)} too, got "
                f"{','.join(header)!r}"
            )
        pick = itemgetter(*map(header.index, DOWNLOAD_COLUMNS))
        for row in filter(None, reader):
            if len(row) != len(header):
                raise ValueError(
                    f"{path}:{reader.line_num}: expected {len(header)} fields, got "
                    f"{len(row)}"
                )
            yield pick(row)
