"""Manifests that people review, for who writes them anew."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmwood.fileio.candidates import Candidate, read_manifest


@contextmanager
def reviewed_rows(path: Path, field: str) -> Iterator[list[tuple[int, Candidate]]]:
    """Line numbers and rows of a manifest that nobody can review meanwhile.

    Decisions of a review that was cut off are brought in. No file: no rows.
    """
    # It needs fcntl, which the rest of this package can do without.
    from mmwood.fileio.journal import LockedError, SaveError
    from mmwood.ood.review.decisions import Review

    if not path.is_file():
        yield []
        return
    try:
        manifest = Review(path)
    except (LockedError, ValueError) as error:
        raise ValueError(f"{field}: {error}") from error
    try:
        manifest.save()
        yield list(read_manifest(path))
    except SaveError as error:
        raise ValueError(f"{field}: {error}") from error
    finally:
        manifest.journal.close()
