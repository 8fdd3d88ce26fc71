"""From shards to the manifest of candidates, and numbers about it."""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from prettytable import PrettyTable

from mmwood.fileio.candidates import STATES, Candidate, read_manifest, write_manifest
from mmwood.fileio.decoding import Decoding, check_decoding
from mmwood.fileio.files import atomic_write, read_json, write_json
from mmwood.fileio.image_features import features_path, read_features, write_features
from mmwood.fileio.journal import Journal, LockedError, journal_path
from mmwood.fileio.mask_review import refuse_mask_review
from mmwood.fileio.mining_results import FEATURE_TYPE, merged
from mmwood.utils.locations import tool_command
from mmwood.utils.tables import number_table

#: How many unreadable images the summary names.
NAMED_FAULTS = 10
_EVERYTHING = 1 << 62


def check_manifest(path: str | os.PathLike, update: bool = False) -> None:
    """Refuse to overwrite what a person reviewed.

    Raises:
        FileExistsError: There is no manifest, but a file of its summary's name, or
            one of the name of its features.
        ValueError: It holds reviewed rows and is not to be updated, or is no manifest;
            the file of its features is none.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise ValueError(f"--out must be a .csv file, got {path}")
    features = features_path(path)
    if not path.exists():
        for file, what in (
            (path.with_suffix(".json"), "summary"),
            (features, "features"),
        ):
            if file.exists():
                raise FileExistsError(
                    f"--out: {file} is there, without {path}, whose {what} it would "
                    "hold: name another file, or move it away"
                )
        return
    refuse_mask_review(path, "--out")
    if features.exists():
        try:
            read_features(features)
        except ValueError as error:
            raise ValueError(
                f"--out: {error}, and would be overwritten: name another file"
            ) from error
    reviewed = sum(1 for _ in _reviewed(path))
    if reviewed and not update:
        raise ValueError(
            f"--out: {path} holds {reviewed} reviewed rows: add --update to carry "
            "their states over to the new manifest, or name another file"
        )


@contextmanager
def not_under_review(path: str | os.PathLike) -> Iterator[None]:
    """Keep reviews of a manifest out meanwhile, by the lock that they take.

    One process at a time can do so.

    Raises:
        ValueError: It is being reviewed, or a review that was killed left decisions
            that it does not hold yet.
    """
    try:
        journal = Journal(journal_path(path))
    except LockedError as error:
        raise ValueError(f"--out: {path} must not change now: {error}") from error
    try:
        if not journal.empty:
            raise ValueError(
                f"--out: {path} lacks decisions of a review that was cut off: bring "
                f"them in with `{tool_command('review_ood.py', [str(path)])}`, or "
                f"delete {journal.path} to lose them"
            )
        yield
    finally:
        journal.close()


def read_summary(path: str | os.PathLike) -> dict:
    """The JSON beside a manifest; empty if there is none.

    Raises:
        ValueError: It is no JSON object, or its ``auto`` no list.
    """
    path = Path(path).with_suffix(".json")
    if not path.is_file():
        return {}
    summary = read_json(path)
    if not isinstance(summary, dict) or not isinstance(summary.get("auto", []), list):
        raise ValueError(
            f"{path}: expected the JSON object that mining leaves beside a manifest, "
            "with a list as `auto` if it has one"
        )
    return summary


def write_results(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    candidates: int,
    top: int | None = None,
    max_per_image: int | None = None,
    update: bool = False,
    unreadable: str | os.PathLike = "unreadable.txt",
) -> dict:
    """Write the manifest, a JSON summary beside it, and the unreadable images.

    Features of the manifest's images, if shards have them, go to a third file beside
    it (:mod:`mmwood.fileio.image_features`), before the manifest takes its place; they
    are found by the hashes of images, so that a file from before tells nothing wrong.

    Rows are sorted by class and by probability, highest first, then by path. With
    ``update`` a row keeps the state that a person gave to the same file (by its hash)
    and class. Reviewed rows that are not found any more stay, after the others of
    their class, with the probability they had; the log ``auto`` of rules stays in the
    summary. Nobody can review the manifest while it is written.

    Args:
        folder: Where the shards are.
        out: The manifest; the summary has the same name with ``.json``.
        candidates: Number of images in the list.
        top: Most rows of a class.
        max_per_image: Most rows of an image, those of its most probable classes. It
            comes before ``top``.
        update: Whether to carry over the states of the manifest that is there.
        unreadable: File for the images that cannot be read: path, tab, reason.

    Raises:
        ValueError: Not every candidate is finished; see also :func:`check_manifest`
            and :func:`not_under_review`.
    """
    out = Path(out)
    # Where there is no folder, there is no place for the lock.
    out.parent.mkdir(parents=True, exist_ok=True)
    with not_under_review(out), merged(folder) as db:
        check_manifest(out, update)
        (finished,) = db.execute("SELECT COUNT(*) FROM images").fetchone()
        if finished != candidates:
            raise ValueError(
                f"{folder} holds {finished} of {candidates} candidates: run again to "
                "continue"
            )
        return write_found(db, out, top, max_per_image, update, unreadable)


def write_found(
    db: sqlite3.Connection,
    out: Path,
    top: int | None = None,
    max_per_image: int | None = None,
    update: bool = False,
    unreadable: str | os.PathLike = "unreadable.txt",
) -> dict:
    """As :func:`write_results`, from a database, for who holds the manifest's lock.

    It is one of :func:`mmwood.fileio.mining_results.temporary_results`, and gets more
    tables.

    Raises:
        ValueError: See :func:`check_manifest`.
    """
    check_manifest(out, update)
    # Who decided about the rows that are carried over.
    auto = read_summary(out).get("auto") if update else None
    made_from = json.loads(db.execute("SELECT json FROM description").fetchone()[0])
    _choose(db, made_from["classes"], out if update else None, top, max_per_image)
    _write_features(db, features_path(out))
    rows = db.execute(
        "SELECT image, name, probability, rank, state, sha256 FROM manifest "
        "ORDER BY class IS NULL, class, name, rank"
    )
    write_manifest(out, (Candidate(*row) for row in rows))
    with (
        atomic_write(unreadable) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        for image, reason in _faults(db):
            file.write(f"{image}\t{reason}\n")
    (candidates,) = db.execute("SELECT COUNT(*) FROM images").fetchone()
    summary = dict(
        made_from,
        candidates=candidates,
        top=top,
        max_per_image=max_per_image,
        **_counts(db),
    )
    if auto:
        summary["auto"] = auto
    write_json(out.with_suffix(".json"), summary)
    return summary


def _write_features(db: sqlite3.Connection, path: Path) -> None:
    """Write the features of what the manifest holds; without any there is no file."""
    db.execute(
        "CREATE TABLE kept_features AS SELECT sha256, MIN(number) AS number "
        "FROM found JOIN features USING (number) "
        "WHERE sha256 IN (SELECT sha256 FROM manifest) GROUP BY sha256"
    )
    rows = db.execute(
        "SELECT sha256, z FROM kept_features JOIN features USING (number) "
        "ORDER BY sha256"
    )
    (count,) = db.execute("SELECT COUNT(*) FROM kept_features").fetchone()
    (size,) = db.execute("SELECT LENGTH(z) FROM features LIMIT 1").fetchone() or (0,)
    if count:
        write_features(path, count, size // FEATURE_TYPE.itemsize, rows)
    else:
        # Of a model from before.
        path.unlink(missing_ok=True)


def mined_decoding(manifest: str | os.PathLike) -> Decoding:
    """How mining read the images, by the summary beside its manifest, if there is one.

    Raises:
        ValueError: As of :func:`read_summary`; it is none.
    """
    found = read_summary(manifest).get("decoding") or {}
    return check_decoding(found.get("levels"), found.get("bands"), f"{manifest}: ")


def summary_tables(summary: dict) -> str:
    """The summary as tables for a terminal."""
    states = summary["states"]
    numbers = PrettyTable(["", "number"], align="r")
    numbers.add_rows(
        [
            ["candidates", summary["candidates"]],
            ["unreadable", summary["unreadable"]],
            ["images with a row", summary["images"]],
            ["rows", summary["rows"]],
            *([f"rows {state}", states[state]] for state in states),
        ]
    )
    rows = []
    for item in summary["per_class"]:
        highest = "" if item["highest"] is None else f"{item['highest']:.4f}"
        rows.append([item["name"], item["above"], item["rows"], highest])
    per_class = number_table(["class", "p >= threshold", "rows", "highest p"], rows)
    histogram = PrettyTable(["largest p of an image", "images"], align="r")
    for number, count in enumerate(summary["histogram"]):
        histogram.add_row([f"{number / 10:.1f} to {(number + 1) / 10:.1f}", count])
    return "\n".join(map(str, (numbers, per_class, histogram)))


def _reviewed(path: Path) -> Iterator[Candidate]:
    return (row for _, row in read_manifest(path) if row.state != "unseen")


def _choose(
    db: sqlite3.Connection,
    classes: Sequence[str],
    old: Path | None,
    top: int | None,
    max_per_image: int | None,
) -> None:
    """Make the table ``manifest``; SQLite sorts on disk where memory is short."""
    db.execute("CREATE TABLE names (class INTEGER PRIMARY KEY, name TEXT)")
    db.executemany("INSERT INTO names VALUES (?, ?)", enumerate(classes))
    db.execute(
        "CREATE TABLE reviewed (line INTEGER PRIMARY KEY, image TEXT, name TEXT, "
        "probability REAL, state TEXT, sha256 TEXT)"
    )
    if old is not None and old.exists():
        db.executemany(
            "INSERT INTO reviewed (image, name, probability, state, sha256) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                (row.image, row.class_name, row.probability, row.state, row.sha256)
                for row in _reviewed(old)
            ),
        )
    db.execute("CREATE INDEX by_file ON reviewed (sha256, name)")
    # Two files of the same bytes: the path decides, then the careful 'rejected', which
    # the alphabet puts last.
    db.execute(
        """
        CREATE TABLE manifest AS
        WITH
        likely AS (
            SELECT *, ROW_NUMBER() OVER (
                PARTITION BY number ORDER BY probability DESC, class) AS place
            FROM found),
        ranked AS (
            SELECT *, ROW_NUMBER() OVER (
                PARTITION BY class ORDER BY probability DESC, image) AS rank
            FROM likely WHERE place <= ?)
        SELECT number, class, name, image, probability, rank, sha256, (
            SELECT SUBSTR(MAX((r.image = ranked.image) || r.state), 2)
            FROM reviewed AS r
            WHERE r.sha256 = ranked.sha256 AND r.name = names.name) AS state
        FROM ranked JOIN names USING (class) WHERE rank <= ?
        """,
        [max_per_image or _EVERYTHING, top or _EVERYTHING],
    )
    db.execute("CREATE INDEX by_content ON manifest (sha256, name)")
    db.execute(
        """
        INSERT INTO manifest
        SELECT NULL, class, name, image, probability, (
            SELECT COUNT(*) FROM manifest AS m WHERE m.name = r.name
            ) + ROW_NUMBER() OVER (PARTITION BY name ORDER BY line),
            sha256, state
        FROM reviewed AS r LEFT JOIN names USING (name)
        WHERE NOT EXISTS (
            SELECT 1 FROM manifest AS m
            WHERE m.sha256 = r.sha256 AND m.name = r.name)
        """
    )
    db.execute("UPDATE manifest SET state = 'unseen' WHERE state IS NULL")


def _faults(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Path and reason of each image that cannot be read, in the order of the list."""
    return db.execute(
        "SELECT unreadable, fault FROM images WHERE fault IS NOT NULL ORDER BY number"
    )


def _counts(db: sqlite3.Connection) -> dict:
    """What the summary says about ``images``, ``found`` and ``manifest``."""
    unreadable, images, rows, stale = db.execute(
        """
        SELECT (SELECT COUNT(*) FROM images WHERE fault IS NOT NULL),
            COUNT(DISTINCT number), COUNT(*), COUNT(*) - COUNT(number)
        FROM manifest
        """
    ).fetchone()
    states = dict.fromkeys(STATES, 0)
    states.update(db.execute("SELECT state, COUNT(*) FROM manifest GROUP BY state"))
    histogram = [0] * 10
    for number, count in db.execute(
        "SELECT MIN(CAST(top * 10 AS INTEGER), 9) AS bin, COUNT(*) FROM images "
        "WHERE fault IS NULL GROUP BY bin"
    ):
        histogram[number] = count
    per_class = db.execute(
        """
        SELECT name, COALESCE(f.n, 0), COALESCE(m.n, 0), f.highest
        FROM names
        LEFT JOIN (SELECT class, COUNT(*) AS n, MAX(probability) AS highest
            FROM found GROUP BY class) AS f USING (class)
        LEFT JOIN (SELECT class, COUNT(*) AS n FROM manifest GROUP BY class) AS m
            USING (class)
        ORDER BY class
        """
    )
    columns = ("name", "above", "rows", "highest")
    (highest,) = db.execute("SELECT MAX(top) FROM images").fetchone()
    return dict(
        unreadable=unreadable,
        images=images,
        rows=rows,
        not_found_again=stale,
        highest=highest,
        states=states,
        histogram=histogram,
        per_class=[dict(zip(columns, row)) for row in per_class],
        first_unreadable=[
            dict(image=image, reason=reason)
            for image, reason in islice(_faults(db), NAMED_FAULTS)
        ],
    )
