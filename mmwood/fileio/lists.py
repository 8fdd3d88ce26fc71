"""Names: of images, in lists and as the names of their files, and of classes.

What lists images gives :class:`TaggedImage`, in the order of its source, and says where
each came from, so that an error can name the file and the line.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path, PurePosixPath

from mmwood.fileio.files import TEMPORARY, read_text

#: How many of a kind of fault an error message names.
NAMED_FAULTS = 10
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
    r"""The name of an image, as the name of its files in other folders.

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
        >>> check_id(r'.\train\a.jpg', 'tags.csv:2')
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
    and macOS ``A.png`` is ``a.png``. ``image_id`` says what names the files of an image
    if it is not ``item.image``.

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
                f"{both} was listed before, as {other.image!r} at {other.source}: list "
                "it once, or rename one if their suffixes differ"
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
    classes: str | Sequence[str],
    data_root: str | os.PathLike = "",
    field: str = "classes",
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
        raise ValueError(
            f"{field}: a name occurs twice in {list(classes)}: list it once"
        )
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
    alike = {_simplified(name): name for name in classes}
    for name in unknown:
        known = alike.get(_simplified(name))
        if known is not None and (form := _different_form(name, known)):
            text += form
        elif known is None and (reason := _no_name(name)):
            text += f". {name!r} {reason}"
        elif close := [known] if known else get_close_matches(name, classes, 1):
            text += f". Does {name!r} mean {close[0]!r}?"
    return text


def question_classes(items: Iterable[TaggedImage], remedy: str) -> None:
    """Refuse tags of which nobody said that they are classes, and which hardly are.

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
        other = alike.setdefault(_simplified(name), name)
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


def _simplified(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\s_-]+", " ", text)


def _no_name(name: str) -> str | None:
    if name.casefold() in NO_NAMES:
        return "is what programs write into an empty field: leave the field empty"
    if re.search(r"[,;|]", name):
        return "looks like several names: the labels of an image are separated by ';'"
    return None
