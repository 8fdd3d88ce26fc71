"""Tables of image tags in CSV: the one reader, which names the line of a fault."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmwood.fileio.files import atomic_write, read_text, refuse_workbook
from mmwood.fileio.lists import TaggedImage

DELIMITERS = (",", ";", "\t")


@contextmanager
def csv_reader(path: str | os.PathLike, field: str) -> Iterator[Any]:
    """A :func:`csv.reader` of a file of any length, whose own errors name the file.

    A byte order mark is passed over.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not CSV in UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{field}: there is no file {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            yield reader
        except (csv.Error, UnicodeDecodeError) as error:
            # Text is decoded block by block.
            raise ValueError(
                f"{path}: not CSV in UTF-8 after line {reader.line_num}: {error}"
            ) from error


def read_csv(
    path: str | os.PathLike, notes: list[str] | None = None
) -> list[TaggedImage]:
    """Images and tags from a CSV file with the columns ``image`` and ``labels``.

    ``labels`` holds class names separated by semicolons and may be empty. Fields are
    separated by commas, semicolons or tabs, which the header tells. Other columns are
    passed over, and so are empty rows, which a note counts.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not UTF-8, the header lacks a column, or a row has more
            or fewer fields; the message names the line.
    """
    columns = ("image", "labels")
    remedy = (
        "save it as UTF-8, or convert it with tools/dataset_converters/tags.py and "
        "--encoding, for instance cp1252 (Windows), or utf-16"
    )
    rows = read_rows(path, columns, remedy=remedy, notes=notes)
    return [
        TaggedImage(image, split_tags(labels), source)
        for source, (image, labels) in rows
    ]


def split_tags(text: str, separator: str = ";") -> set[str]:
    """The names in a field; an empty one holds none."""
    return {tag.strip() for tag in text.split(separator)} - {""}


def read_rows(
    path: str | os.PathLike,
    columns: Sequence[str],
    delimiter: str | None = None,
    encoding: str = "utf-8-sig",
    remedy: str = "save it as UTF-8",
    notes: list[str] | None = None,
) -> list[tuple[str, list[str]]]:
    """The fields of some columns, and ``file:line``, of every row of a table.

    Empty rows, as spreadsheets leave them, are passed over; a note counts them. The
    first of the columns must not be empty in a row.

    Args:
        path: The table.
        columns: Names in its header.
        delimiter: What stands between fields. None finds it in the header, among
            comma, semicolon and tab.
        encoding: Encoding of the file; 'utf-8-sig' is UTF-8 with or without a byte
            order mark.
        remedy: What to do about another encoding, for the error.
        notes: Gets how many empty rows there are, if there are any.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has another encoding, lacks a column, or a row is not
            like the header; the message names the line.
    """
    text = read_text(path, encoding, remedy, "table")
    delimiter = delimiter or _find_delimiter(text, columns)
    quoted = ", in quotation marks" if delimiter == ";" else ""
    hint = f", the labels of an image by semicolons{quoted}"
    lines = io.StringIO(text, newline="")
    rows = _rows(lines, path, columns, delimiter, hint, notes)
    return [(f"{path}:{number}", fields) for number, fields in rows]


def stream_rows(
    path: str | os.PathLike,
    columns: Sequence[str],
    field: str,
    notes: list[str] | None = None,
) -> Iterator[tuple[int, list[str]]]:
    """As :func:`read_rows`, one row at a time, of a table in UTF-8 of any length.

    Yields:
        The number of a row's line, and its fields.

    Raises:
        FileNotFoundError, ValueError: As there.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{field}: there is no file {path}")
    with path.open("rb") as start:
        refuse_workbook(path, start.read(4))
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            delimiter = _find_delimiter(file.readline(), columns)
            file.seek(0)
            yield from _rows(file, path, columns, delimiter, notes=notes)
        except UnicodeDecodeError:
            # Text is decoded block by block; this one names the line.
            read_text(path)
            raise


def _rows(
    lines: Iterable[str],
    path: str | os.PathLike,
    columns: Sequence[str],
    delimiter: str,
    hint: str = "",
    notes: list[str] | None = None,
) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each row; ``hint`` is what else separates what."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    empty = 0
    try:
        header = [name.strip() for name in next(reader, [])]
        lacking = [name for name in columns if name not in header]
        if lacking or any(header.count(column) > 1 for column in columns):
            raise ValueError(
                f"{path}:1: the header must name each of the columns "
                f"{', '.join(map(repr, columns))} once; it is {header}, separated by "
                f"{delimiter!r}" + (f", and lacks {lacking}" if lacking else "")
            )
        indices = [header.index(column) for column in columns]
        for row in reader:
            if not any(field.strip() for field in row):
                empty += 1
                continue
            source = f"{path}:{reader.line_num}"
            if len(row) != len(header):
                raise ValueError(
                    f"{source}: expected {len(header)} fields as in the header, got "
                    f"{len(row)} (fields are separated by {delimiter!r}{hint})"
                )
            fields = [row[index].strip() for index in indices]
            if not fields[0]:
                raise ValueError(f"{source}: column {columns[0]!r} names no image")
            yield reader.line_num, fields
    except csv.Error as error:
        raise ValueError(
            f"{path}:{reader.line_num}: {error}; a field that begins with a quotation "
            "mark must end with one"
        ) from error
    if empty and notes is not None:
        notes.append(f"{path}: empty rows, passed over: {empty}")


def _find_delimiter(text: str, columns: Sequence[str]) -> str:
    header = text.splitlines()[:1]
    for delimiter in DELIMITERS:
        names = next(csv.reader(header, delimiter=delimiter), [])
        if set(columns) <= {name.strip() for name in names}:
            return delimiter
    return DELIMITERS[0]


def merge_rows(items: Iterable[TaggedImage]) -> list[TaggedImage]:
    """Join the tags of each image, in the order of first appearance."""
    merged: dict[str, TaggedImage] = {}
    for item in items:
        known = merged.setdefault(item.image, item)
        if known is not item and known.tags is not None:
            known.tags |= item.tags or set()
    return list(merged.values())


def write_table(
    path: str | os.PathLike, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a CSV file with a header, atomically.

    Raises:
        OSError: It cannot be written.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
