"""What commands share that convert data sets, or read or write label folders."""

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

from mmwood.fileio.labels import VOID
from mmwood.fileio.lists import read_class_names

if TYPE_CHECKING:
    from mmwood.converters.check import Entry

#: The annotation tools' formats that masks are written in.
FORMATS = ("coco", "label-studio", "cvat")


def add_check_options(parser: ArgumentParser, source: str) -> None:
    """Add ``--overwrite``, and ``--check``, all that is done without ``source``."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that hold something else",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"read every file of the finished data set; without {source}, only this",
    )


def add_label_folder_options(parser: ArgumentParser) -> None:
    """Add ``LABELS``, ``--images`` and ``--classes``: masks that people look at."""
    parser.add_argument("labels", type=Path, metavar="LABELS", help="the label PNGs")
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="their images, in the same folders",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="classes in the order of their labels, or a file with one a line "
        "(default: those in the manifest.json of LABELS)",
    )


def formats(text: str, others: Sequence[str] = ()) -> list[str]:
    """The type of an option that lists :data:`FORMATS` and others, with commas.

    Raises:
        ArgumentTypeError: One is unknown.
    """
    known = (*others, *FORMATS)
    found = text.split(",")
    if unknown := sorted({*found} - {*known}):
        raise ArgumentTypeError(
            f"{unknown} are no formats: choose from {', '.join(known)}, with commas"
        )
    return found


def add_address_option(parser: ArgumentParser) -> None:
    """Add ``--image-url``, where Label Studio finds the images."""
    parser.add_argument(
        "--image-url",
        metavar="PREFIX",
        help="what stands before an image's path in its address in Label Studio "
        "(default: /data/local-files/?d=FOLDER/, FOLDER being the name of the images' "
        "folder: set LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT to the folder above it)",
    )


def class_names(
    values: Sequence[str], field: str, root: str | Path = ""
) -> tuple[str, ...]:
    """The names of classes, or those in a file below ``root`` if one is named.

    Raises:
        ValueError: A name occurs twice, or the file is not UTF-8.
    """
    in_file = len(values) == 1 and Path(root, values[0]).is_file()
    return read_class_names(values[0] if in_file else values, root, field)


def bar(label: str) -> Callable[[Iterable], Iterable]:
    """What wraps a list that is gone through: a bar, on terminals only."""
    return partial(tqdm, desc=label, disable=None)


def print_files(done: Mapping[str, Any]) -> None:
    """Print the counts of a :class:`mmwood.converters.writer.Writer`."""
    print(
        f"files: {done['written']} written, {done['kept']} kept, "
        f"{done['replaced']} replaced"
    )


def end_with_check(
    lists: Mapping[str, Sequence["Entry"]],
    classes: Sequence[str],
    ignore_index: int = VOID,
) -> NoReturn:
    """Read every file of a data set, print what is wrong; exit with 1 at errors.

    Arguments are those of :func:`mmwood.converters.check.check_dataset`.

    Raises:
        SystemExit: Always.
        ValueError: A class is the background.
    """
    # Here: it needs SciPy, which other commands do without.
    from mmwood.converters.check import check_dataset

    report = check_dataset(lists, classes, ignore_index, progress=bar("check"))
    print(report)
    sys.exit(1 if report.errors else 0)
