"""Which images tar shards and Parquet files hold, as locators, none of them opened."""

import os
import tarfile
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from mmwood.fileio.files import walk
from mmwood.fileio.images import IMAGE_SUFFIXES
from mmwood.fileio.stores import (
    Packed,
    is_address,
    list_address,
    match_address,
    open_binary,
    open_parquet,
)

SHARD_SUFFIXES = (".tar", ".parquet")
_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z")
#: A row group is read as a whole.
MOST_BYTES = 2 << 30


def find_shards(source: str) -> list[str]:
    """The shards that are meant by a file, a pattern, or a folder of nothing else.

    Returns:
        Paths or addresses, sorted, all of one kind; none where ``source`` is something
        else.

    Raises:
        FileNotFoundError: A shard, or what would match the pattern, is not there.
        ImportError, OSError, ValueError: As of
            :func:`mmwood.fileio.stores.file_system`; there are shards of both kinds;
            they are compressed.
    """
    remote, suffix = is_address(source), PurePosixPath(source).suffix.lower()
    if not remote and os.path.isdir(source):
        found = [str(path) for path in walk(source) if is_shard(str(path))]
    elif is_pattern(source):
        match = match_address if remote else _match
        found = match(source)
        if not found:
            raise FileNotFoundError(f"--candidates: nothing matches {source}")
        if others := [name for name in found if not is_shard(name)]:
            raise ValueError(
                f"--candidates: {source} matches {others[0]}; a pattern is for shards, "
                f"{' or '.join(SHARD_SUFFIXES)}"
            )
    elif suffix in SHARD_SUFFIXES:
        if not remote and not os.path.isfile(source):
            raise FileNotFoundError(f"--candidates: there is no file {source}")
        found = [source]
    elif suffix in _COMPRESSED:
        raise ValueError(
            f"--candidates: {source} is compressed, and images are read by their "
            "place in a file: unpack it to a .tar or a folder"
        )
    else:
        found = [*filter(is_shard, list_address(source))] if remote else []
    kinds = {PurePosixPath(name).suffix.lower() for name in found}
    if len(kinds) > 1:
        raise ValueError(
            f"--candidates: {source} means shards of several kinds "
            f"({', '.join(sorted(kinds))}): name one, as in '*.tar'"
        )
    return found


def _match(pattern: str) -> list[str]:
    return sorted(glob(pattern, recursive=True))


def is_pattern(source: str) -> bool:
    """Whether a path or an address stands for several by ``*``, ``?`` or ``[``."""
    return has_magic(source) and (is_address(source) or not os.path.exists(source))


def is_shard(name: str) -> bool:
    """Whether a file is a shard, by its suffix."""
    return PurePosixPath(name).suffix.lower() in SHARD_SUFFIXES


def shard_images(
    shards: Sequence[str], column: str, root: str | None
) -> Iterator[tuple[str, str]]:
    """The images of shards: what to call the place in messages, and the locator.

    Names of images begin with that of their shard, from the folder of all shards on.
    Those of Parquet are numbers of rows. Where Parquet names paths or addresses, these
    are the locators.

    Args:
        shards: Paths or addresses of one kind.
        column: The column of Parquet.
        root: Folder that paths in Parquet are relative to. None: that of the file.

    Raises:
        ImportError, OSError: A shard cannot be read.
        ValueError: It is damaged; Parquet lacks the column, has other values in it, or
            too large groups of rows; ``root`` is given for images in shards.
    """
    folders = [PurePosixPath(shard).parent.parts for shard in shards]
    depth = sum(1 for _ in takewhile(lambda parts: len({*parts}) == 1, zip(*folders)))
    for shard in shards:
        stem = "/".join(PurePosixPath(shard).with_suffix("").parts[depth:])
        if shard.lower().endswith(".tar"):
            _refuse_root(shard, root)
            yield from _tar_images(shard, stem)
        else:
            yield from _parquet_images(shard, stem, column, root)


def _refuse_root(shard: str, root: str | None) -> None:
    if root is not None:
        raise ValueError(
            f"--root is for lists, and {shard} holds the images themselves"
        )


def _tar_images(shard: str, stem: str) -> Iterator[tuple[str, str]]:
    with open_binary(shard) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    # They would be kept otherwise.
                    vars(archive)["members"].clear()
                    path = PurePosixPath(member.name)
                    if (
                        member.isreg()
                        and path.suffix.lower() in IMAGE_SUFFIXES
                        and not path.name.startswith("._")
                    ):
                        place, name = member.offset_data, f"{stem}/{member.name}"
                        packed = Packed("tar", shard, place, member.size, name)
                        yield f"{shard} at byte {place}", packed.locator()
                # At a header that is cut off or none, tarfile ends as at the end.
                end = archive.offset
        except tarfile.TarError as error:
            raise ValueError(f"{shard} is no tar, or damaged: {error}") from error
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise ValueError(f"{shard} is damaged at byte {end}: copy it again")


def _parquet_images(
    shard: str, stem: str, column: str, root: str | None
) -> Iterator[tuple[str, str]]:
    with open_parquet(shard) as file:
        schema = file.schema_arrow
        if column not in schema.names:
            raise ValueError(
                f"--column: {shard} has no column {column!r}; it has "
                f"{', '.join(schema.names)}"
            )
        kind = str(schema.field(column).type)
        if kind in ("string", "large_string", "string_view"):
            base = root or shard[: shard.rfind("/") + 1]
            batches = file.iter_batches(columns=[column], use_threads=False)
            names = (name for batch in batches for name in batch[0].to_pylist())
            for number, name in enumerate(names, start=1):
                if not name:
                    raise ValueError(f"{shard}: row {number} names no image")
                yield f"{shard}: row {number}", below(base, name)
            return
        if not (kind.startswith(("binary", "large_binary")) or "<bytes: " in kind):
            raise ValueError(
                f"--column: {column!r} of {shard} holds {kind}, neither the bytes nor "
                "the paths of images"
            )
        _refuse_root(shard, root)
        number = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group)
            _refuse_size(shard, column, rows)
            for row in range(rows.num_rows):
                name = f"{stem}/{number:07d}"
                packed = Packed("parquet", shard, group, row, name, column)
                number += 1
                yield f"{shard}: row {number}", packed.locator()


def _refuse_size(shard: str, column: str, rows: Any) -> None:
    columns = map(rows.column, range(rows.num_columns))
    size = sum(
        part.total_uncompressed_size
        for part in columns
        if part.path_in_schema.partition(".")[0] == column
    )
    if size > MOST_BYTES:
        raise ValueError(
            f"{shard} has {size / 2**30:.1f} GiB of {column!r} in a group of rows, "
            "which are read as a whole: write it with a smaller row_group_size"
        )


def below(base: str | os.PathLike, name: str) -> str:
    """A path or an address that may be relative to another one.

    Example:
        >>> below("s3://bucket/lake", "1.jpg")
        's3://bucket/lake/1.jpg'
    """
    if is_address(name):
        return name
    if is_address(str(base)):
        return f"{base}{name}" if str(base).endswith("/") else f"{base}/{name}"
    return str(Path(base, name))
