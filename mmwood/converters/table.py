"""Tags from a table (CSV) with columns of any names."""

import csv
import io
from pathlib import Path

from mmwood.converters.source import TagSource, merge_rows
from mmwood.fileio.lists import Tagged

__all__ = ["read_rows", "read_table"]

DELIMITERS = (",", ";", "\t")


def read_table(
    path: Path,
    image_column: str = "image",
    label_column: str = "labels",
    separator: str = ";",
    delimiter: str | None = None,
    encoding: str = "utf-8-sig",
) -> TagSource:
    """Tags from a table with one row an image, or one row for an image and a label.

    Rows of the same image are joined. An empty label is no label.

    Args:
        path: The table.
        image_column: Column of the image.
        label_column: Column of its labels.
        separator: What stands between the labels of a field.
        delimiter: What stands between fields. None finds it in the header, among
            comma, semicolon and tab.
        encoding: Encoding of the file; 'utf-8-sig' is UTF-8 with or without a byte
            order mark.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has another encoding, lacks a column, or a row is not
            like the header; the message names the line.
    """
    items = []
    columns = (image_column, label_column)
    for source, (image, labels) in read_rows(path, columns, delimiter, encoding):
        tags = {label.strip() for label in labels.split(separator)}
        items.append(Tagged(image, tags - {""}, source))
    return TagSource(merge_rows(items))


def read_rows(
    path: Path,
    columns: tuple[str, ...],
    delimiter: str | None = None,
    encoding: str = "utf-8-sig",
) -> list[tuple[str, list[str]]]:
    """The fields of some columns, and ``file:line``, of every row.

    Empty rows are left out. The first of the columns must not be empty in a row.

    Raises:
        FileNotFoundError, ValueError: As :func:`read_table`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path}")
    content = path.read_bytes()
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise ValueError(
            f"{path}:{line}: is not {encoding}: name the encoding with --encoding, for "
            "instance cp1252 (Windows), or utf-16"
        ) from error
    except LookupError as error:
        raise ValueError(f"--encoding: {error}") from error
    delimiter = delimiter or _find_delimiter(text, columns)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        for column in columns:
            if header.count(column) != 1:
                raise ValueError(
                    f"{path}:1: the header must name each of the columns "
                    f"{', '.join(map(repr, columns))} once; it is {header}"
                )
        indices = [header.index(column) for column in columns]
        for row in reader:
            source = f"{path}:{reader.line_num}"
            if not any(field.strip() for field in row):
                continue
            if len(row) != len(header):
                raise ValueError(
                    f"{source}: expected {len(header)} fields as in the header, got "
                    f"{len(row)} (fields are separated by {delimiter!r})"
                )
            fields = [row[index].strip() for index in indices]
            if not fields[0]:
                raise ValueError(f"{source}: column {columns[0]!r} names no image")
            rows.append((source, fields))
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: {error}") from error
    return rows


def _find_delimiter(text: str, columns: tuple[str, ...]) -> str:
    header = text.splitlines()[:1]
    for delimiter in DELIMITERS:
        names = next(csv.reader(header, delimiter=delimiter), [])
        if set(columns) <= {name.strip() for name in names}:
            return delimiter
    return DELIMITERS[0]
