"""Files that are either whole or absent, and hashes that tell what they hold."""

import errno
import hashlib
import json
import os
import re
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

#: How the names of files begin that are being written.
TEMPORARY = ".tmp-"
#: How Excel's files begin, new ones, which are ZIP archives, and old ones.
_WORKBOOKS = (b"PK\3\4", b"\xd0\xcf\x11\xe0")
_NO_TEXT = (
    "is an Excel workbook or an archive, not text: save it as CSV in UTF-8, or unpack "
    "the archive"
)


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file under a temporary name, then move it into place.

    A reader never meets half a file: it sees the old content or the new one, also
    when the process is killed. The temporary file lies in the target's folder,
    which is created if need be, and keeps the target's suffix, because image
    writers choose the format by it.

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


def files_by_id(folder: str | os.PathLike, suffix: str = ".png") -> dict[str, Path]:
    """The files below a folder by image id: their path without suffix, sorted.

    What is being written is left out, and what macOS leaves on foreign disks.
    """
    folder = Path(folder)
    found = walk(folder) if folder.is_dir() else ()
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(found)
        if path.suffix == suffix and not path.name.startswith((TEMPORARY, "._"))
    }


def walk(folder: str | os.PathLike, leave_out: str | None = None) -> Iterator[Path]:
    """The files below a folder, one folder after the other, each sorted.

    Links to folders are followed, but not in circles. Only the names of the folders on
    the way are held.

    Args:
        folder: The folder.
        leave_out: A pattern of :mod:`fnmatch`: folders of such a name are not entered.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    yield from _walk(os.fspath(folder), leave_out, ())


def _walk(folder: str, leave_out: str | None, above: tuple[str, ...]) -> Iterator[Path]:
    """As :func:`walk`, below the folders of these real paths."""
    place = os.path.realpath(folder)
    if place in above:
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        # Of a link to itself, is_dir of an entry fails.
        if not (os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()):
            yield Path(entry.path)
        elif leave_out is None or not fnmatch(entry.name, leave_out):
            yield from _walk(entry.path, leave_out, (*above, place))


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


def read_text(
    path: str | os.PathLike,
    encoding: str = "utf-8-sig",
    remedy: str = "save it as UTF-8",
    what: str = "file",
) -> str:
    """The text of a file.

    Args:
        path: The file.
        encoding: Its encoding; 'utf-8-sig' is UTF-8 with or without a byte order mark.
        remedy: What to do about another one, for the error.
        what: What should be there, for the error.

    Raises:
        FileNotFoundError: There is no such file.
        LookupError: There is no such encoding.
        ValueError: The file has another encoding; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} {path}")
    content = path.read_bytes()
    refuse_workbook(path, content)
    try:
        return content.decode(encoding)
    except UnicodeError as error:
        line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
        name = encoding.removesuffix("-sig")
        raise ValueError(f"{path}:{line}: is not {name}: {remedy}") from error


def refuse_workbook(path: str | os.PathLike, start: bytes) -> None:
    """Refuse what begins as an Excel workbook or an archive, where text should be.

    Raises:
        ValueError: It does.
    """
    if start.startswith(_WORKBOOKS):
        raise ValueError(f"{path}: {_NO_TEXT}")


def read_json(
    path: str | os.PathLike,
    what: str = "JSON file",
    object_hook: Callable[[dict], Any] | None = None,
) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON in UTF-8; the message names the line.
    """
    text = read_text(path, what=what)
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: not a {what}: too deeply nested") from error


def read_xml(path: str | os.PathLike, what: str) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not XML; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} {path}")
    with path.open("rb") as file:
        refuse_workbook(path, file.read(4))
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        line = getattr(error, "position", (1,))[0]
        raise ValueError(f"{path}:{line}: not XML: {error}") from error


def compare_description(
    found: Any,
    expected: Mapping[str, Any],
    path: str | os.PathLike,
    remedy: str,
    field: str = "",
) -> None:
    """Refuse files that were made from something else.

    What was ``found`` of them may say more than what is ``expected``. The error begins
    with ``field``, of a config or an option, and ends with ``remedy``.

    Raises:
        ValueError: A value of ``expected`` differs.
    """
    place = f"{field}: " if field else ""
    if not isinstance(found, Mapping):
        raise ValueError(f"{place}{path} is described by {found!r}, no JSON object")
    differing = [
        f"{key} ({_shown(old)} instead of {_shown(new)})"
        for key, old, new in _differences(found, expected)
    ]
    if differing:
        raise ValueError(
            f"{place}{path} was made with another {', '.join(differing)}: {remedy}"
        )


def _shown(value: Any) -> str:
    """A value for a message; of a hash, what tells it from another one."""
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return repr(f"{value[:8]}...")
    return repr(value)


def _differences(
    found: Mapping[str, Any], expected: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for key, new in expected.items():
        old = found.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{above}{key}.")
        elif old != new:
            yield above + key, old, new


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def text_sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as 64 hexadecimal digits."""
    return bytes_sha256(text.encode("utf-8"))


def bytes_sha256(content: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
