"""Lists of images, class names and tables of tags: one reader for each.

Every reader gives a list of :class:`TaggedImage`, in the order of its source, and says
where each came from, so that an error can name the file and the line.
"""

import csv
import io
import os
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from mmwood.fileio.files import TEMPORARY, read_text

__all__ = [
    "ImageIndex",
    "TaggedImage",
    "bullets",
    "check_id",
    "csv_reader",
    "merge_rows",
    "name_on_disk",
    "question_classes",
    "read_class_names",
    "read_csv",
    "read_id_list",
    "read_rows",
    "read_xml",
    "refuse_background",
    "refuse_shared_files",
    "tags_from_lists",
    "tags_from_xml",
    "unknown_classes",
    "without_suffix",
]

#: How many of a kind of fault an error message names.
NAMED_FAULTS = 10
DELIMITERS = (",", ";", "\t")
#: What programs write into a field that is empty.
NO_NAMES = ("nan", "none", "null", "n/a", "na", "<na>", "#n/a")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass
class TaggedImage:
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


def check_id(name: str, source: str, what: str = "image") -> str:
    """The name of an image, as the name of its files in other folders.

    Backslashes, which programs on Windows write, become slashes, and ``./`` goes.

    Args:
        name: An id, or a path relative to the folder of the images.
        source: ``file:line``, for the error.
        what: What is named, for the error.

    Raises:
        ValueError: It is empty, absolute, names a drive, leads out of its folder
            (``..``), holds a control character, or looks like one of mmwood's
            temporary files.

    Example:
        >>> check_id('.\\\\train\\\\a.jpg', 'tags.csv:2')
        'train/a.jpg'
    """
    path = PurePosixPath(name.replace("\\", "/"))
    reason = None
    if not path.name:
        reason = "is no name of a file"
    elif path.is_absolute():
        reason = "is an absolute path"
    elif _DRIVE.match(name):
        reason = "names a drive"
    elif ".." in path.parts:
        reason = "leads out of its folder (..)"
    elif any(unicodedata.category(character) == "Cc" for character in name):
        reason = "holds a control character"
    elif any(part.startswith(TEMPORARY) for part in path.parts):
        reason = f"has a part that begins with {TEMPORARY}, as temporary files do"
    if reason is not None:
        raise ValueError(
            f"{source}: {what} {name!r} {reason}: expected a path relative to the "
            "folder of the images (data_root with data_prefix.img_path), since the "
            "files that are made of an image are named after it"
        )
    return str(path)


def without_suffix(name: str) -> str:
    """A file name without the suffix: the id of the image."""
    return str(PurePosixPath(name).with_suffix(""))


def name_on_disk(folder: str | os.PathLike, name: str, suffix: str = "") -> str:
    """A name in the Unicode form in which its file has it.

    macOS writes an ü as two characters (NFD), most other programs as one (NFC).

    Args:
        folder: Where the file is.
        name: Its name, from the folder.
        suffix: What the file's name has besides.

    Returns:
        The name of the file that is there, or ``name`` where there is none.
    """
    if not name.isascii() and not Path(folder, name + suffix).is_file():
        for form in ("NFC", "NFD"):
            other = unicodedata.normalize(form, name)
            if Path(folder, other + suffix).is_file():
                return other
    return name


def refuse_shared_files(
    items: Iterable[TaggedImage],
    image_id: Callable[[TaggedImage], str] | None = None,
) -> None:
    """Refuse two images whose label files would be one.

    Letter case and the form of Unicode do not tell files apart everywhere: on Windows
    and macOS ``A.png`` is ``a.png``.

    Args:
        items: The images.
        image_id: What names the files of an image; None: ``item.image``.

    Raises:
        ValueError: Two ids are equal, or differ only so; the message names both.
    """
    first: dict[str, tuple[str, TaggedImage]] = {}
    for item in items:
        name = image_id(item) if image_id else item.image
        key = unicodedata.normalize("NFC", name).casefold()
        known, other = first.setdefault(key, (name, item))
        if other is item:
            continue
        both = f"{item.source}: image {item.image!r}"
        if known == name:
            raise ValueError(
                f"{both} was listed before, as {other.image!r} at {other.source}"
            )
        raise ValueError(
            f"{both} and {other.image!r} at {other.source} differ only in letter case "
            "or in the form of Unicode: their label files would be one file on some "
            "file systems. Rename one"
        )


class ImageIndex:
    """Finds the image of a list that is meant by a path from elsewhere.

    It is the one of the same name without suffix; of several, the one whose folders
    match most of the path's end. No two paths get the same image.

    Args:
        names: Names of the images, perhaps in folders.
        where: The list, for errors.
    """

    def __init__(self, names: Iterable[str], where: str) -> None:
        self._where = where
        self._by_stem: dict[str, list[str]] = {}
        self._taken: dict[str, str] = {}
        for name in names:
            self._by_stem.setdefault(PurePosixPath(name).stem, []).append(name)

    def find(self, path: str | os.PathLike) -> str:
        """The name of the image at a path.

        Raises:
            ValueError: There is none, several match equally well, or another path has
                it already.
        """
        path = PurePosixPath(str(path).replace("\\", "/"))
        names = self._by_stem.get(path.stem, [])
        if not names:
            raise ValueError(f"{self._where} lists no image of the name {path.stem}")
        depth = {name: self._matching_folders(name, path) for name in names}
        best = [name for name in names if depth[name] == max(depth.values())]
        if len(best) > 1:
            raise ValueError(
                f"{self._where}: {path} may be any of {best}: their folders are not its"
            )
        other = self._taken.setdefault(best[0], str(path))
        if other != str(path):
            raise ValueError(
                f"{self._where}: {best[0]} would be both {other} and {path}"
            )
        return best[0]

    @staticmethod
    def _matching_folders(name: str, path: PurePosixPath) -> int:
        pairs = zip(reversed(PurePosixPath(name).parts[:-1]), reversed(path.parts[:-1]))
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def bullets(faults: Sequence[str]) -> str:
    """The first faults, one a line, and how many more there are."""
    more = len(faults) - NAMED_FAULTS
    lines = [*faults[:NAMED_FAULTS], *([f"... and {more} more"] if more > 0 else [])]
    return "".join(f"\n  {line}" for line in lines)


def read_lines(path: str | os.PathLike) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped, with their numbers.

    Raises:
        FileNotFoundError, ValueError: As :func:`mmwood.fileio.files.read_text`.
    """
    # Not splitlines, which also splits at characters that names may hold.
    lines = enumerate(read_text(path).replace("\r\n", "\n").split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_id_list(path: str | os.PathLike) -> list[TaggedImage]:
    """Images from a list with one id or file name a line. Blank lines are skipped.

    An id may hold spaces.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8; the message names the line.
    """
    return [
        TaggedImage(line, None, f"{path}:{number}") for number, line in read_lines(path)
    ]


def read_class_names(
    classes: str | Sequence[str], data_root: str = "", field: str = "classes"
) -> tuple[str, ...]:
    """Class names from a list, or from a file below ``data_root`` with one a line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A name occurs twice, or the file is not UTF-8.
    """
    if isinstance(classes, str):
        path = Path(data_root, classes)
        if not path.is_file():
            raise FileNotFoundError(f"{field}: there is no file {path}")
        classes = [line for _, line in read_lines(path)]
    if len(set(classes)) != len(classes):
        raise ValueError(f"{field}: a name occurs twice in {list(classes)}")
    return tuple(classes)


def refuse_background(classes: Sequence[str], field: str = "classes") -> None:
    """Refuse a name for what is no class.

    Raises:
        ValueError: A class is called background.
    """
    if "background" in (name.casefold() for name in classes):
        raise ValueError(
            f"{field}: {list(classes)} name the background, which is no class here: "
            "leave it out. Label 0 of a mask is background, c + 1 is class c"
        )


def unknown_classes(tags: Iterable[str], classes: Sequence[str]) -> str | None:
    """What is wrong with tags that are no class; None if all are.

    Returns:
        The names, and the classes that were probably meant.
    """
    unknown = sorted(set(tags) - set(classes))
    if not unknown:
        return None
    text = f"the unknown class {unknown}; the data set's classes are {list(classes)}"
    alike = {_folded(name): name for name in classes}
    for name in unknown:
        known = alike.get(_folded(name))
        if known is not None and (form := _different_form(name, known)):
            text += form
        elif known is None and (reason := _no_name(name)):
            text += f". {name!r} {reason}"
        elif close := [known] if known else get_close_matches(name, classes, 1):
            text += f". Does {name!r} mean {close[0]!r}?"
    return text


def question_classes(items: Iterable[TaggedImage], remedy: str) -> None:
    """Refuse tags of which nobody said that they are classes, and which hardly are.

    Args:
        items: Images and their tags.
        remedy: What to do if they are meant, for the error.

    Raises:
        ValueError: A name is what programs write into an empty field, looks like
            several names, or differs from another one only in letter case, white
            space or Unicode form; the message says where it was met.
    """
    counts: Counter[str] = Counter()
    where: dict[str, str] = {}
    for item in items:
        for tag in item.tags or ():
            counts[tag] += 1
            where.setdefault(tag, item.source)
    faults = []
    alike: dict[str, str] = {}
    for name in sorted(counts):
        place = f"{where[name]}: the tag {name!r} (of {counts[name]} images)"
        if reason := _no_name(name):
            faults.append(f"{place} {reason}")
        other = alike.setdefault(_folded(name), name)
        if other != name:
            faults.append(
                f"{place} is nearly that of {where[other]}, {other!r} (of "
                f"{counts[other]} images)" + _different_form(name, other)
            )
    if faults:
        raise ValueError(
            f"{len(faults)} tags are questionable; mend them, or {remedy}:"
            + bullets(faults)
        )


def _different_form(name: str, other: str) -> str:
    """What tells names apart that look the same; empty if they do not."""
    if unicodedata.normalize("NFC", name) != unicodedata.normalize("NFC", other):
        return ""
    return (
        f". {name!r} and {other!r} look the same and differ in their Unicode form: "
        f"{name!a}, {other!a}"
    )


def _folded(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\s_-]+", " ", text)


def _no_name(name: str) -> str | None:
    if name.casefold() in NO_NAMES:
        return "is what programs write into an empty field: leave the field empty"
    if re.search(r"[,;|]", name):
        return "looks like several names: the labels of an image are separated by ';'"
    return None


@contextmanager
def csv_reader(path: str | os.PathLike, field: str) -> Iterator[Any]:
    """A :func:`csv.reader` of a file of any length, whose own errors name the file.

    Args:
        path: The file, in UTF-8 with or without a byte order mark.
        field: What names it, for the error.

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
    separated by commas, semicolons or tabs, which the header tells; other columns and
    empty rows are passed over.

    Args:
        path: The file.
        notes: Gets how many empty rows there are, if there are any.

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

    Empty rows, as spreadsheets leave them, are passed over; a warning counts them. The
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
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, empty = [], 0
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
            source = f"{path}:{reader.line_num}"
            if not any(field.strip() for field in row):
                empty += 1
                continue
            if len(row) != len(header):
                quoted = ", in quotation marks" if delimiter == ";" else ""
                raise ValueError(
                    f"{source}: expected {len(header)} fields as in the header, got "
                    f"{len(row)} (fields are separated by {delimiter!r}, the labels of "
                    f"an image by semicolons{quoted})"
                )
            fields = [row[index].strip() for index in indices]
            if not fields[0]:
                raise ValueError(f"{source}: column {columns[0]!r} names no image")
            rows.append((source, fields))
    except csv.Error as error:
        raise ValueError(
            f"{path}:{reader.line_num}: {error}; a field that begins with a quotation "
            "mark must end with one"
        ) from error
    if empty and notes is not None:
        notes.append(f"{path}: empty rows, passed over: {empty}")
    return rows


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
        if known is not item:
            known.tags |= item.tags
    return list(merged.values())


def tags_from_lists(
    list_path: Path, classes: Sequence[str], use_difficult: bool
) -> Callable[[TaggedImage], set[str]]:
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
    shown: dict[str, dict[str, bool]] = {}
    paths = {
        name: list_path.parent / f"{name}_{list_path.stem}.txt" for name in classes
    }
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


def read_xml(path: str | os.PathLike, what: str) -> ElementTree.Element:
    """The root of an XML file.

    Args:
        path: The file.
        what: What should be there, for the error.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not XML; the message names the line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no {what} {path}")
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        line = getattr(error, "position", (1,))[0]
        raise ValueError(f"{path}:{line}: not XML: {error}") from error


def tags_from_xml(path: Path, use_difficult: bool) -> set[str]:
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
