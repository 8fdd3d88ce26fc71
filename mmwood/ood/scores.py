"""From scores of any model to the manifest of candidates."""

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmwood.fileio.files import file_sha256
from mmwood.fileio.image_features import read_own_features
from mmwood.fileio.image_scores import ImageScores, image_path_below
from mmwood.fileio.images import UNREADABLE, image_size, why_unreadable
from mmwood.fileio.mining_results import feature_bytes, temporary_results
from mmwood.ood.results import not_under_review, write_found
from mmwood.utils.check import at_least

#: The format that the summary names.
FORMAT = "mmwood scores 1"


def write_scores(
    scores: ImageScores,
    source: str | os.PathLike,
    out: str | os.PathLike,
    threshold: float = 0.5,
    top: int | None = None,
    max_per_image: int | None = None,
    update: bool = False,
    unreadable: str | os.PathLike = "unreadable.txt",
    features: str | os.PathLike | None = None,
    root: str | os.PathLike | None = None,
) -> dict:
    """Write the manifest of what a model took for its classes, and its summary.

    They are as mining leaves them (:func:`mmwood.ood.results.write_results`). Of the
    scores of one image and class the largest counts. Images whose score reaches the
    threshold must be images, by their headers, and are hashed; others must be there.

    ``features``, see :func:`mmwood.fileio.image_features.read_own_features`, go
    beside the manifest as those of mining do. Their names of images are as those of the
    scores, relative to ``root`` or to the scores' folder; not every image need have
    some.

    Returns:
        The summary; its ``joined`` says how many scores were not the largest.

    Raises:
        FileNotFoundError: None of the images is there.
        ValueError: There is no score; the threshold is not in [0, 1); what reading the
            scores or features raises; no image with a score has features; see
            also :func:`mmwood.ood.results.check_manifest` and
            :func:`mmwood.ood.results.not_under_review`.
    """
    at_least("--threshold", threshold, 0, below=1)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    own = None if features is None else read_own_features(features)
    with not_under_review(out), temporary_results() as db:
        db.execute("CREATE TABLE scores (image TEXT, name TEXT, score REAL)")
        rows = tqdm(scores.rows, desc="scores", unit_scale=True, disable=None)
        db.execute("BEGIN")
        db.executemany("INSERT INTO scores VALUES (?, ?, ?)", rows)
        db.execute("COMMIT")
        db.execute(
            "CREATE TABLE largest AS SELECT image, name, MAX(score) AS score, "
            "COUNT(*) AS joined, MIN(rowid) AS first FROM scores GROUP BY image, name"
        )
        classes = _classes(db, scores.classes, source)
        # An image's number is that of its first row.
        db.execute(
            "CREATE TABLE shown AS SELECT MIN(first) AS number, image, "
            "MAX(score) AS top, CAST(NULL AS TEXT) AS fault, '' AS sha256 "
            "FROM largest GROUP BY image"
        )
        _look(db, threshold)
        (joined,) = db.execute(
            "SELECT SUM(joined - 1) FROM largest WHERE name IS NOT NULL"
        ).fetchone()
        _find(db, classes, threshold)
        if features is not None and own is not None:
            base = Path(source).parent if root is None else Path(root)
            _add_features(db, features, base, *own)
        made_from = dict(
            format=FORMAT,
            scores=str(source),
            scores_sha256=file_sha256(source) if Path(source).is_file() else None,
            classes=list(classes),
            threshold=threshold,
            joined=joined,
        )
        db.execute("INSERT INTO description VALUES (?)", [json.dumps(made_from)])
        return write_found(db, out, top, max_per_image, update, unreadable)


def _classes(
    db: sqlite3.Connection, known: Sequence[str] | None, source: str | os.PathLike
) -> Sequence[str]:
    found = db.execute(
        "SELECT DISTINCT name FROM largest WHERE name IS NOT NULL ORDER BY name"
    )
    names = [name for (name,) in found]
    if not names:
        raise ValueError(f"--scores: {source} holds no score")
    return names if known is None else known


def _add_features(
    db: sqlite3.Connection,
    path: str | os.PathLike,
    base: Path,
    names: Sequence[str],
    features: np.ndarray,
) -> None:
    """Fill the table ``features`` with those of images that are found."""
    db.execute("CREATE INDEX by_image ON shown (image)")
    found, below = 0, image_path_below(base)
    db.execute("BEGIN")
    for name, row in zip(names, features):
        known = db.execute("SELECT number FROM shown WHERE image = ?", [below(name)])
        for (number,) in known.fetchall():
            found += 1
            db.execute(
                "INSERT INTO features VALUES (?, ?)", [number, feature_bytes(row)]
            )
    db.execute("COMMIT")
    if not found:
        raise ValueError(
            f"--features: {path} names none of the images that have scores; its first "
            f"is {below(names[0]) if names else None!r}: they "
            "are relative to --root, or to the folder of the scores"
        )


def _look(db: sqlite3.Connection, threshold: float) -> None:
    """Note what is wrong with images, and the hashes of those that may be found."""
    (count,) = db.execute("SELECT COUNT(*) FROM shown").fetchone()
    there = 0
    rows = db.execute("SELECT rowid, image, top FROM shown ORDER BY number")
    db.execute("BEGIN")
    for row, image, top in tqdm(rows, "images", count, disable=None):
        fault, sha256 = None, ""
        try:
            os.stat(image)
            there += 1
            if top >= threshold:
                image_size(image)
                sha256 = file_sha256(image)
        except UNREADABLE as error:
            fault = why_unreadable(error)
        db.execute(
            "UPDATE shown SET fault = ?, sha256 = ? WHERE rowid = ?",
            [fault, sha256, row],
        )
    db.execute("COMMIT")
    if not there:
        (first,) = db.execute("SELECT image FROM shown ORDER BY number").fetchone()
        raise FileNotFoundError(
            f"--scores: none of its {count} images is there, the first is {first}: "
            "name the folder that they are relative to with --root"
        )


def _find(db: sqlite3.Connection, classes: Sequence[str], threshold: float) -> None:
    """Fill the tables of :func:`mmwood.fileio.mining_results.temporary_results`."""
    db.execute("CREATE TABLE places (name TEXT PRIMARY KEY, class INTEGER)")
    pairs = [(name, number) for number, name in enumerate(classes)]
    db.executemany("INSERT INTO places VALUES (?, ?)", pairs)
    db.execute(
        "INSERT INTO images SELECT number, CASE WHEN fault IS NULL THEN top END, "
        "fault, CASE WHEN fault IS NOT NULL THEN image END FROM shown"
    )
    db.execute(
        "INSERT INTO found SELECT number, class, image, score, sha256 "
        "FROM largest JOIN shown USING (image) JOIN places USING (name) "
        "WHERE score >= ? AND fault IS NULL ORDER BY number, class",
        [threshold],
    )
