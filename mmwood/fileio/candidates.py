"""The list of candidate out-of-distribution images: mining, review, training share it.

A CSV file with the columns ``image, class, probability, rank, state, sha256``: one row
for every class that the in-distribution classifier believes an image to show. An image
may have several rows.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mmwood.fileio.tables import csv_reader, write_table

COLUMNS = ("image", "class", "probability", "rank", "state", "sha256")
#: What a person said: nothing yet, shows no foreground object, shows one.
State = Literal["unseen", "kept", "rejected"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(slots=True)
class Candidate:
    """One row of a manifest.

    Attributes:
        image: Path of the image, from the folder the programs run in, or absolute.
        class_name: The class that the classifier believes to see.
        probability: Its probability p_c.
        rank: Place among the candidates of the class by probability, from 1.
        state: One of :data:`STATES`.
        sha256: Hash of the image file.
    """

    image: str
    class_name: str
    probability: float
    rank: int
    state: str
    sha256: str


def read_manifest(path: str | os.PathLike) -> Iterator[tuple[int, Candidate]]:
    """The rows of a manifest with their line numbers, one at a time.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The header or a row is not a manifest's; the message names the
            line.
    """
    with csv_reader(path, "manifest") as reader:
        header: list[str] = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ValueError(
                f"{path}:1: a manifest's header is {','.join(COLUMNS)!r}, got "
                f"{','.join(header)!r}"
            )
        for row in reader:
            if row:
                yield reader.line_num, _parse(row, f"{path}:{reader.line_num}")


def write_manifest(path: str | os.PathLike, rows: Iterable[Candidate]) -> None:
    """Write a manifest, atomically; rows may come from a generator."""
    written = (
        (r.image, r.class_name, f"{r.probability:.6f}", r.rank, r.state, r.sha256)
        for r in rows
    )
    write_table(path, COLUMNS, written)


def unlooked_path(manifest: str | os.PathLike) -> Path:
    """The file of the rows that were decided and not looked at, if there are any."""
    path = Path(os.path.realpath(manifest))
    return path.with_name(f"{path.name}.unlooked")


def read_unlooked(manifest: str | os.PathLike) -> set[tuple[str, str]]:
    """Image and class of the rows that were decided with others, and not looked at.

    A row that is unseen in the manifest may be among them; it says nothing then.

    Raises:
        ValueError: The file of :func:`unlooked_path` is malformed.
    """
    path = unlooked_path(manifest)
    if not path.exists():
        return set()
    with csv_reader(path, "rows not looked at") as reader:
        rows = list(reader)
    if rows[:1] != [[*COLUMNS[:2]]] or not all(len(row) == 2 for row in rows):
        raise ValueError(
            f"{path} does not list rows of a manifest by image and class: delete it, "
            "and all decided rows count as looked at"
        )
    return {(image, name) for image, name in rows[1:]}


def write_unlooked(path: str | os.PathLike, rows: Iterable[Sequence[str]]) -> None:
    """Write image and class of rows that were not looked at, atomically."""
    write_table(path, COLUMNS[:2], rows)


def _parse(row: list[str], where: str) -> Candidate:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{where}: expected {len(COLUMNS)} fields, got {len(row)}")
    image, class_name, probability, rank, state, sha256 = row
    if not image:
        raise ValueError(f"{where}: names no image")
    if state not in STATES:
        raise ValueError(f"{where}: state must be one of {STATES}, got {state!r}")
    try:
        return Candidate(
            image, class_name, float(probability), int(rank), state, sha256
        )
    except ValueError as error:
        raise ValueError(
            f"{where}: expected a probability and a rank, got {probability!r} and "
            f"{rank!r}"
        ) from error
