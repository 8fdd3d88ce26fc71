"""Images in stores other than folders: tar shards, Parquet files, buckets.

A *locator* names one image on one line, so that a list of any length needs no more:

=================================================== ================================
``lake/1.jpg``                                      a file
``s3://bucket/lake/1.jpg``                          an address, which fsspec opens
``tar:shards/0.tar#1536,20480,0/lake/1.jpg``        shard, offset and length in bytes,
                                                    name
``parquet:data/0.parquet#3,17,0/0003017,image``     file, row group, row in it, name,
                                                    column
=================================================== ================================

Files of shards may be addresses, too. In paths and names ``%``, ``#``, ``,`` and
control characters are written ``%25`` and so on.
"""

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple
from urllib.parse import unquote

from PIL import Image

from mmwood.fileio.files import TEMPORARY, atomic_write, bytes_sha256
from mmwood.fileio.images import IMAGE_SUFFIXES
from mmwood.utils.require import require

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_PACKED = re.compile(r"(tar|parquet):([^#]+)#(\d+),(\d+),([^,]+)(?:,(.+))?")
_RESERVED = re.compile(r"[%#,\x00-\x1f\x7f]")


class Packed(NamedTuple):
    """An image inside a file.

    Attributes:
        kind: What the file is.
        file: Its path or address.
        first: Of a tar the offset of the image's bytes, of Parquet the row group.
        second: Of a tar their number, of Parquet the row in its group.
        name: What the image is called; names are unique in a list.
        column: The column of Parquet; empty in a tar.
    """

    kind: Literal["tar", "parquet"]
    file: str
    first: int
    second: int
    name: str
    column: str = ""

    def locator(self) -> str:
        """The image as a line of a list."""
        file, name, column = map(_quoted, (self.file, self.name, self.column))
        end = f",{column}" if column else ""
        return f"{self.kind}:{file}#{self.first},{self.second},{name}{end}"


def _quoted(text: str) -> str:
    return _RESERVED.sub(lambda match: f"%{ord(match[0]):02X}", text)


def _packed(locator: str) -> Packed | None:
    match = _PACKED.fullmatch(locator)
    if match is None:
        return None
    kind: Any = match[1]
    file, name, column = (unquote(match[group] or "") for group in (2, 5, 6))
    return Packed(kind, file, int(match[3]), int(match[4]), name, column)


def is_address(text: str) -> bool:
    """Whether a text is an address, such as ``s3://bucket/a.jpg``."""
    return _ADDRESS.match(text) is not None


def is_stored(locator: str) -> bool:
    """Whether a locator names no ordinary file."""
    return is_address(locator) or _PACKED.fullmatch(locator) is not None


def stored_name(locator: str) -> str:
    """A relative path that the image of a store can have, which stays in its folder.

    Example:
        >>> stored_name("tar:shards/0.tar#512,9,0/../lake/1.jpg")
        '0/lake/1.jpg'
    """
    packed = _packed(locator)
    name = packed.name if packed else _ADDRESS.sub(r"\1/", locator)
    parts = [
        # Nor does it look like what is being written.
        re.sub(f"^{re.escape(TEMPORARY)}", "_", re.sub(r"[\x00-\x1f\x7f]", "_", part))
        for part in PurePosixPath(name).parts
        if part.strip("/") not in ("", "..")
    ]
    return "/".join(parts) or "image"


def read_stored(locator: str) -> bytes:
    """The bytes of an image in a store.

    Raises:
        ImportError: An extra is not installed.
        OSError: The file or the address cannot be read.
        ValueError: The shard ends before; the row holds no image.
    """
    packed = _packed(locator)
    if packed is None:
        with open_binary(locator) as file:
            return file.read()
    if packed.kind == "parquet":
        return _cell(packed)
    with open_binary(packed.file) as file, _faults_of(packed.file):
        file.seek(packed.first)
        content = file.read(packed.second)
    if len(content) != packed.second:
        raise ValueError(f"{packed.file} ends before byte {packed.first + packed[3]}")
    return content


def save_stored(locator: str, folder: str | os.PathLike) -> tuple[str, str]:
    """Write an image of a store as a file of its name.

    A name without an image's suffix gets that of its content.

    Returns:
        Path of the file, and the SHA-256 of its bytes.

    Raises:
        FileExistsError: There is another file of this name.
        OSError, ValueError, ImportError: As of :func:`read_stored`; it cannot be
            written.
    """
    content = read_stored(locator)
    path = Path(folder, stored_name(locator))
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        path = path.with_name(path.name + _suffix(content))
    if not path.exists():
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    elif not path.is_file() or path.read_bytes() != content:
        raise FileExistsError(
            f"{path} is there, and is not the image {locator}: move it away, or name "
            "another --work-dir"
        )
    return str(path), bytes_sha256(content)


def _suffix(content: bytes) -> str:
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = (image.format or "").lower()
    except Image.UnidentifiedImageError:
        # Read by its bands.
        kind = "tif"
    return {"jpeg": ".jpg", "mpo": ".jpg", "tiff": ".tif"}.get(kind, f".{kind}")


# Files and addresses


def file_system(address: str) -> tuple[Any, str]:
    """Fsspec's file system of an address, and the path in it.

    Raises:
        ImportError: fsspec, or what it needs for such addresses, is not installed.
        OSError: The file system cannot be reached.
        ValueError: There are no such addresses.
    """
    fsspec = require("fsspec", "remote", "an address")
    with _faults_of(address):
        return fsspec.core.url_to_fs(address)


@contextmanager
def open_binary(file: str) -> Iterator[BinaryIO]:
    """Open a path or an address to read bytes.

    Raises:
        ImportError, OSError, ValueError: As of :func:`file_system`.
    """
    if not is_address(file):
        with open(file, "rb") as stream:
            yield stream
        return
    system, path = file_system(file)
    with _faults_of(file):
        stream = system.open(path, "rb")
    with stream:
        yield stream


def list_address(address: str) -> Iterator[str]:
    """The addresses of the files below one, one folder after the other, each sorted.

    Raises:
        FileNotFoundError: There is nothing.
        ImportError, OSError, ValueError: As of :func:`file_system`.
    """
    system, path = file_system(address)
    yield from _below(system, path, address)


def _below(system: Any, path: str, address: str) -> Iterator[str]:
    with _faults_of(address):
        entries = system.ls(path, detail=True)
    for entry in sorted(entries, key=lambda entry: entry["name"]):
        name = entry["name"].rstrip("/")
        # Buckets may hold an empty object that stands for the folder itself.
        if name == path.rstrip("/"):
            continue
        if entry["type"] == "directory":
            yield from _below(system, name, address)
        else:
            yield system.unstrip_protocol(name)


def match_address(pattern: str) -> list[str]:
    """The addresses that a pattern with ``*`` or ``?`` means, sorted.

    Raises:
        ImportError, OSError, ValueError: As of :func:`file_system`.
    """
    system, path = file_system(pattern)
    with _faults_of(pattern):
        return sorted(map(system.unstrip_protocol, system.glob(path)))


@contextmanager
def _faults_of(file: str) -> Iterator[None]:
    """Every file system has errors of its own: make them ones that name the address."""
    try:
        yield
    except Exception as error:
        if not is_address(file):
            raise
        if isinstance(error, FileNotFoundError):
            reason = os.strerror(errno.ENOENT)
            raise FileNotFoundError(errno.ENOENT, reason, file) from error
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ImportError):
            raise ImportError(f"{file}: {text}") from error
        raise OSError(errno.EIO, text, file) from error


# Parquet


@contextmanager
def open_parquet(file: str) -> Iterator[Any]:
    """Open a path or an address as a ``pyarrow.parquet.ParquetFile``.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: pyarrow is not installed.
        ValueError: It is no Parquet, or damaged; also where its rows are read.
    """
    parquet = require("pyarrow.parquet", "parquet", "a Parquet file")
    arrow = require("pyarrow", "parquet", "a Parquet file")
    with open_binary(file) as stream:
        try:
            # Threads do not survive the fork of a DataLoader's worker.
            yield parquet.ParquetFile(stream, pre_buffer=False)
        except (arrow.ArrowException, OSError) as error:
            text = " ".join(str(error).split())
            raise ValueError(f"{file} cannot be read as Parquet: {text}") from error


def _cell(packed: Packed) -> bytes:
    group = _row_group(packed.file, packed.first, packed.column)
    value = group[packed.second].as_py() if packed.second < len(group) else None
    if isinstance(value, dict):
        # As Hugging Face's data sets have images.
        value = value.get("bytes")
    if not value:
        raise ValueError(f"{packed.file}: the row holds no image")
    return value


# Rows are read one after the other.
@lru_cache(1)
def _row_group(file: str, group: int, column: str) -> Any:
    with open_parquet(file) as opened:
        table = opened.read_row_group(group, columns=[column], use_threads=False)
        return table.column(column)
