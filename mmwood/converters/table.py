"""Tags from a table (CSV) with columns of any names."""

from pathlib import Path

from mmwood.converters.source import TagSource
from mmwood.fileio.lists import TaggedImage
from mmwood.fileio.tables import merge_rows, read_rows, split_tags

REMEDY = "name the encoding with --encoding, for instance cp1252 (Windows), or utf-16"


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
    notes: list[str] = []
    try:
        rows = read_rows(
            path, (image_column, label_column), delimiter, encoding, REMEDY, notes
        )
    except LookupError as error:
        raise ValueError(f"--encoding: {error}") from error
    items = [
        TaggedImage(image, split_tags(labels, separator), source)
        for source, (image, labels) in rows
    ]
    merged = merge_rows(items)
    if more := len(items) - len(merged):
        notes.append(f"{path}: rows whose image has one already, joined to it: {more}")
    return TagSource(merged, notes=notes)
