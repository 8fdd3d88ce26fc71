"""What the commands in ``tools/dataset_converters/`` share."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from prettytable import PrettyTable
from tqdm import tqdm

from mmwood.fileio.lists import read_class_names

if TYPE_CHECKING:
    from mmwood.converters.check import Report

__all__ = [
    "add_check_options",
    "bar",
    "class_names",
    "converter_parser",
    "end_with_check",
    "number_table",
    "print_files",
]


def converter_parser(description: str | None) -> ArgumentParser:
    """A parser that shows a description with its line breaks."""
    return ArgumentParser(
        description=description, formatter_class=RawDescriptionHelpFormatter
    )


def add_check_options(parser: ArgumentParser, source: str) -> None:
    """Add ``--overwrite``, and ``--check`` for the finished data set.

    Args:
        parser: The command's.
        source: The option without which there is only a check.
    """
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


def class_names(
    values: Sequence[str], field: str, root: str | Path = ""
) -> tuple[str, ...]:
    """The names of classes, or those in a file below ``root`` if one is named.

    Raises:
        ValueError: A name occurs twice, or the file is not UTF-8.
    """
    in_file = len(values) == 1 and Path(root, values[0]).is_file()
    return read_class_names(values[0] if in_file else values, str(root), field)


def bar(label: str) -> Callable[[Iterable], Iterable]:
    """What wraps a list that is gone through: a bar, on terminals only."""
    return partial(tqdm, desc=label, disable=None)


def number_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> PrettyTable:
    """A table of numbers with what they are about on the left."""
    table = PrettyTable(columns, align="r")
    table.align[columns[0]] = "l"
    table.add_rows([list(row) for row in rows])
    return table


def print_files(done: Mapping[str, Any]) -> None:
    """Print the counts of a :class:`mmwood.converters.writer.Writer`."""
    print(
        f"files: {done['written']} written, {done['kept']} kept, "
        f"{done['replaced']} replaced"
    )


def end_with_check(report: "Report") -> NoReturn:
    """Print what a check has found, and exit with 1 if there are errors."""
    print(report)
    sys.exit(1 if report.errors else 0)
