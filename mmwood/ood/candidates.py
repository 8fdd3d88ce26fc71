"""The list of candidate images that mining goes through, one path a line."""

import os
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mmwood.fileio.files import atomic_write, file_sha256
from mmwood.fileio.images import IMAGE_SUFFIXES, image_paths
from mmwood.utils.progress import progress


def write_candidate_list(
    candidates: str | os.PathLike,
    path: str | os.PathLike,
    root: str | os.PathLike | None = None,
    frozen: bool = False,
) -> int:
    """Write the paths of candidate images for :class:`mmwood.CandidateDataset`.

    Args:
        candidates: A folder: all images below it, in sorted order. Or a list with one
            path a line; blank lines are skipped.
        path: The file to write.
        root: Folder that the names of a list are relative to. None: the list's own.
        frozen: Whether results belong to the file that is there, so that it may not
            change.

    Returns:
        The number of images.

    Raises:
        FileNotFoundError: There is no such folder or list.
        ValueError: There is no image; one is listed twice; a name cannot stand on a
            line of UTF-8; the images differ from those of a ``frozen`` file.
    """
    source, path = Path(candidates), Path(path)
    base = Path(source.parent if root is None else root)
    if source.is_dir():
        if root is not None:
            raise ValueError(
                f"--root is for lists, and --candidates {source} is a folder"
            )
    elif not source.is_file():
        raise FileNotFoundError(f"--candidates: there is no folder or list {source}")
    elif not base.is_dir():
        raise FileNotFoundError(f"--root: there is no folder {base}")

    digests = array("Q")
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            images = _images(source, base)
            for where, image in progress(images, "list candidates", delay=1):
                line = _line(where, image)
                file.write(line)
                digest = blake2b(line, digest_size=8).digest()
                digests.append(int.from_bytes(digest, "little"))
        if not digests:
            kind = ", ".join(IMAGE_SUFFIXES)
            raise ValueError(
                f"--candidates: the folder {source} holds no image ({kind})"
                if source.is_dir()
                else f"--candidates: the list {source} names no image"
            )
        _refuse_duplicates(source, base, np.frombuffer(digests, dtype=np.uint64))
        if frozen and path.is_file() and file_sha256(path) != file_sha256(temporary):
            raise ValueError(
                f"--candidates: {source} gives other images than those of {path}, "
                "which the results there belong to: give the same again, or name "
                "another --work-dir"
            )
    return len(digests)


def _images(source: Path, base: Path) -> Iterator[tuple[str, str]]:
    """Where each candidate was found, for messages, and its path."""
    if source.is_dir():
        for image in image_paths(source):
            yield str(source), str(image)
        return
    with source.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if name := line.strip():
                yield f"{source}:{number}", str(base / name)


def _line(where: str, image: str) -> bytes:
    try:
        line = image.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: the name {image!r} is not UTF-8") from error
    if b"\n" in line:
        raise ValueError(f"{where}: the name {image!r} has a line break")
    return line + b"\n"


def _refuse_duplicates(source: Path, base: Path, digests: np.ndarray) -> None:
    # Eight bytes an image instead of a set of names; the few whose digests occur
    # twice are then compared by name.
    values, counts = np.unique(digests, return_counts=True)
    repeated = set(values[counts > 1].tolist())
    if not repeated:
        return
    first: dict[str, str] = {}
    for digest, (where, image) in zip(digests.tolist(), _images(source, base)):
        if digest in repeated and first.setdefault(image, where) != where:
            raise ValueError(
                f"{where}: image {image!r} was listed before, at {first[image]}"
            )
