"""The list of candidate images that mining goes through, one locator a line."""

import os
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from mmwood.fileio.files import atomic_write, file_sha256
from mmwood.fileio.images import IMAGE_SUFFIXES, image_paths
from mmwood.fileio.shards import (
    SHARD_SUFFIXES,
    below,
    find_shards,
    is_pattern,
    is_shard,
    shard_images,
)
from mmwood.fileio.stores import is_address, is_stored, list_address, stored_name
from mmwood.utils.progress import progress


def write_candidate_list(
    candidates: str | os.PathLike,
    path: str | os.PathLike,
    root: str | os.PathLike | None = None,
    frozen: bool = False,
    column: str = "image",
) -> int:
    """Write the locators of candidate images for :class:`mmwood.CandidateDataset`.

    Args:
        candidates: A folder or an address: all images below it, in sorted order, or,
            if there are none, those of all shards. One shard (``.tar``, ``.parquet``),
            or a pattern of shards. Or a list with one path or address a line; blank
            lines are skipped.
        path: The file to write.
        root: Folder or address that the names of a list are relative to. None: the
            list's own.
        frozen: Whether results belong to the file that is there, so that it may not
            change.
        column: Of Parquet: images' bytes, paths or addresses.

    Returns:
        The number of images.

    Raises:
        FileNotFoundError: There is no such folder, list or shard.
        ImportError: An extra is not installed.
        OSError: An address cannot be read.
        ValueError: There is no image; one is listed twice; a name cannot stand on a
            line of UTF-8; the images differ from those of a ``frozen`` file; see also
            :func:`mmwood.fileio.shards.find_shards` and
            :func:`mmwood.fileio.shards.shard_images`.
    """
    source, path = os.fspath(candidates), Path(path)
    base = None if root is None else os.fspath(root)
    if base is not None and not is_address(base) and not os.path.isdir(base):
        raise FileNotFoundError(f"--root: there is no folder {base}")

    images = _images(source, base, column)
    # What is wrong at the beginning is said before anything is written.
    first = next(images, None)
    if first is None:
        kind = ", ".join(IMAGE_SUFFIXES)
        raise ValueError(
            f"--candidates: the folder {source} holds no image ({kind}) and no shard "
            f"({', '.join(SHARD_SUFFIXES)}) with one"
            if is_address(source) or os.path.isdir(source)
            else f"--candidates: {source} names no image"
        )
    images = chain([first], images)
    digests = array("Q")
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            for where, image in progress(images, "list candidates", delay=1):
                file.write(_line(where, image))
                digest = blake2b(_key(image).encode(), digest_size=8).digest()
                digests.append(int.from_bytes(digest, "little"))
        _refuse_duplicates(
            _images(source, base, column), np.frombuffer(digests, dtype=np.uint64)
        )
        if frozen and path.is_file() and file_sha256(path) != file_sha256(temporary):
            raise ValueError(
                f"--candidates: {source} gives other images than those of {path}, "
                "which the results there belong to: give the same again, or name "
                "another --work-dir"
            )
    return len(digests)


def _images(source: str, root: str | None, column: str) -> Iterator[tuple[str, str]]:
    """Where each candidate was found, for messages, and its locator."""
    images = _folder_images(source)
    if (first := next(images, None)) is not None:
        if root is not None:
            raise ValueError(
                f"--root is for lists, and --candidates {source} is a folder"
            )
        for image in chain([first], images):
            yield source, image
    elif shards := find_shards(source):
        yield from shard_images(shards, column, root)
    elif not is_address(source) and not os.path.isdir(source):
        yield from _listed(source, root)


def _folder_images(source: str) -> Iterator[str]:
    """The images below a folder or an address; none below anything else."""
    if os.path.isdir(source):
        yield from map(str, image_paths(source))
    elif is_address(source) and not is_pattern(source) and not is_shard(source):
        for address in list_address(source):
            name = PurePosixPath(address)
            if name.suffix.lower() in IMAGE_SUFFIXES and not name.name.startswith("._"):
                yield address


def _listed(source: str, root: str | None) -> Iterator[tuple[str, str]]:
    if not os.path.isfile(source):
        raise FileNotFoundError(f"--candidates: there is no folder or list {source}")
    base = Path(source).parent if root is None else root
    with open(source, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if name := line.strip():
                yield f"{source}:{number}", below(base, name)


def _key(image: str) -> str:
    """What must be unique: the locator, or what a found image will be called."""
    return f"\n{stored_name(image)}" if is_stored(image) else image


def _line(where: str, image: str) -> bytes:
    try:
        line = image.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: the name {image!r} is not UTF-8") from error
    if b"\n" in line:
        raise ValueError(f"{where}: the name {image!r} has a line break")
    return line + b"\n"


def _refuse_duplicates(images: Iterator[tuple[str, str]], digests: np.ndarray) -> None:
    # Eight bytes an image instead of a set of names; the few whose digests occur
    # twice are then compared by name.
    values, counts = np.unique(digests, return_counts=True)
    repeated = set(values[counts > 1].tolist())
    if not repeated:
        return
    first: dict[str, str] = {}
    for digest, (where, image) in zip(digests.tolist(), images):
        if digest in repeated and first.setdefault(_key(image), where) != where:
            raise ValueError(
                f"{where}: image {image!r} was listed before, at {first[_key(image)]}"
            )
