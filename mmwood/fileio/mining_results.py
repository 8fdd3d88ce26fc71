"""What mining has found, in SQLite files that a kill at any moment leaves whole.

Each process of each run writes one file; together they hold every finished image
once. A batch is one transaction, so an image is there with all its rows or not at all.
"""

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmwood.fileio.files import compare_description

_TABLES = (
    "CREATE TABLE description (json TEXT)",
    "CREATE TABLE images (number INTEGER PRIMARY KEY, top REAL, fault TEXT, "
    "unreadable TEXT)",
    "CREATE TABLE found (number INTEGER, class INTEGER, image TEXT, probability REAL, "
    "sha256 TEXT, PRIMARY KEY (number, class)) WITHOUT ROWID",
    "CREATE TABLE features (number INTEGER PRIMARY KEY, z BLOB)",
)
#: Of features in shards and beside manifests.
FEATURE_TYPE = np.dtype("<f2")


@dataclass(slots=True)
class Finding:
    """What the classifier says about one candidate.

    Attributes:
        number: Place of the image in the list of candidates, from 0.
        image: Its path.
        top: Largest probability of any class; None if the image cannot be read.
        fault: Why the image cannot be read, or None.
        classes: Index and probability of each class above the threshold.
        sha256: Hash of the image file, if there is such a class.
        features: What the model makes of the image, shape (D,), or None.
    """

    number: int
    image: str
    top: float | None = None
    fault: str | None = None
    classes: list[tuple[int, float]] = field(default_factory=list)
    sha256: str = ""
    features: np.ndarray | None = None


class Shard:
    """One process's file, and what determines its results; the first batch makes it."""

    def __init__(self, path: str | os.PathLike, description: dict) -> None:
        self.path = Path(path)
        self.description = description
        self._connection: sqlite3.Connection | None = None

    def add(self, findings: Iterable[Finding]) -> None:
        """Write a batch, all of it or nothing.

        Raises:
            OSError: It cannot be written, a full disk for instance.
        """
        findings = list(findings)
        try:
            if self._connection is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # isolation_level=None: transactions are those written here.
                self._connection = sqlite3.connect(self.path, isolation_level=None)
                self._connection.execute("BEGIN IMMEDIATE")
                for table in _TABLES:
                    self._connection.execute(table)
                self._connection.execute(
                    "INSERT INTO description VALUES (?)", [json.dumps(self.description)]
                )
            else:
                self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT INTO images VALUES (?, ?, ?, ?)",
                [(i.number, i.top, i.fault, i.fault and i.image) for i in findings],
            )
            self._connection.executemany(
                "INSERT INTO found VALUES (?, ?, ?, ?, ?)",
                [
                    (item.number, index, item.image, probability, item.sha256)
                    for item in findings
                    for index, probability in item.classes
                ],
            )
            self._connection.executemany(
                "INSERT INTO features VALUES (?, ?)",
                [
                    (item.number, feature_bytes(item.features))
                    for item in findings
                    if item.features is not None
                ],
            )
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise OSError(
                errno.EIO, f"{error}; make room and try again", str(self.path)
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def feature_bytes(features: np.ndarray) -> bytes:
    """Features in half precision; numbers beyond its range become its largest."""
    limit = np.finfo(FEATURE_TYPE).max
    return np.clip(features, -limit, limit).astype(FEATURE_TYPE).tobytes()


def shard_paths(folder: str | os.PathLike) -> list[Path]:
    """The shards of a folder, sorted."""
    return sorted(Path(folder).glob("part_*.sqlite"))


def next_run(folder: str | os.PathLike) -> int:
    """A number that no shard of the folder has: ``part_RUN_RANK.sqlite``."""
    runs = [int(path.stem.split("_")[1]) for path in shard_paths(folder)]
    return max(runs, default=-1) + 1


def finished_images(
    folder: str | os.PathLike, description: dict, count: int
) -> np.ndarray:
    """Which of ``count`` candidates the shards of a folder hold.

    Returns:
        Shape (count,), bool.

    Raises:
        ValueError: A file is damaged, or was made from something else than
            ``description`` says; the message names what differs.
    """
    finished = np.zeros(count, dtype=bool)
    for path in shard_paths(folder):
        with _opened(path) as connection:
            if not _has_tables(connection, "main"):
                continue
            (text,) = connection.execute("SELECT json FROM description").fetchone()
            remedy = f"name another --work-dir, or delete {path.parent} to mine anew"
            compare_description(json.loads(text), description, path, remedy)
            for (number,) in connection.execute("SELECT number FROM images"):
                finished[number] = True
    return finished


@contextmanager
def temporary_results() -> Iterator[sqlite3.Connection]:
    """A temporary database on disk, without results yet.

    It has the tables ``description`` (json), with one row a shard, ``images`` (number,
    top, fault, unreadable: the path if there is a fault), ``found`` (number, class,
    image, probability, sha256) and ``features`` (number, z: bytes of float16).
    """
    # An empty name: SQLite keeps the database in a file of its own and deletes it.
    with closing(sqlite3.connect("", isolation_level=None)) as connection:
        for table in _TABLES:
            connection.execute(table)
        yield connection


@contextmanager
def merged(folder: str | os.PathLike) -> Iterator[sqlite3.Connection]:
    """All shards of a folder as one database of :func:`temporary_results`."""
    with temporary_results() as connection:
        for path in shard_paths(folder):
            connection.execute("ATTACH ? AS shard", [str(path)])
            if _has_tables(connection, "shard"):
                tables = ["description", "images", "found"]
                # Shards of older versions hold no features.
                if _has_tables(connection, "shard", "features"):
                    tables.append("features")
                for table in tables:
                    connection.execute(
                        f"INSERT OR IGNORE INTO {table} SELECT * FROM shard.{table}"
                    )
            connection.execute("DETACH shard")
        yield connection


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"{path} cannot be read ({error}): delete it, and its images are mined "
            "again"
        ) from error


def _has_tables(
    connection: sqlite3.Connection, schema: str, table: str = "images"
) -> bool:
    """False for a file whose process was killed before its first batch was written."""
    query = f"SELECT 1 FROM {schema}.sqlite_master WHERE name = ?"
    return connection.execute(query, [table]).fetchone() is not None
