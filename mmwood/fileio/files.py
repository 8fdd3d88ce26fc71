"""Files that are either whole or absent, and hashes that tell what they hold."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "TEMPORARY",
    "atomic_write",
    "file_sha256",
    "remove_leftovers",
    "text_sha256",
    "write_json",
]

#: How the names of files begin that are being written.
TEMPORARY = ".tmp-"


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file under a temporary name, then move it into place.

    A reader never meets half a file: it sees the old content or the new one, also
    when the process is killed. The temporary file lies in the target's folder,
    which is created if need be, and keeps the target's suffix, because image
    writers choose the format by it.

    Args:
        path: The file to write.

    Yields:
        The temporary path to write to.

    Raises:
        OSError: It cannot be written, a full disk for instance; the message names
            ``path``, and what was there before is still there.

    Example:
        >>> with atomic_write('labels/a.txt') as temporary:
        ...     temporary.write_text('done')
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f"{TEMPORARY}{path.stem}-", suffix=path.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp creates files that only their owner can read.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        # What fails in writing names no file, or the temporary one.
        if error.filename not in (None, str(temporary)):
            raise
        reason = error.strerror or str(error)
        raise OSError(
            error.errno or errno.EIO, f"{reason}; make room and try again", str(path)
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Delete what killed processes were writing below a folder.

    No other process may be writing there.
    """
    for path in Path(folder).rglob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def text_sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
