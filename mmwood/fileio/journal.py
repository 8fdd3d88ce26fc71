"""Decisions of a review, each on disk before anything says so.

A journal lies beside the manifest of OoD candidates, ``NAME.csv.journal``: one line of
JSON a decision, appended and synchronised.
"""

import fcntl
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from mmwood.fileio.candidates import STATES

FORMAT = "mmwood review 1"


class LockedError(RuntimeError):
    """Another process reviews the same manifest."""


class SaveError(RuntimeError):
    """A decision, or the manifest, could not be written; nothing has changed."""


def journal_path(manifest: str | os.PathLike) -> Path:
    """Where the decisions are that the manifest does not hold yet.

    A file that is there after a review has ended holds what a killed one left;
    opening the review once more brings it into the manifest.
    """
    path = Path(os.path.realpath(manifest))
    return path.with_name(f"{path.name}.journal")


def open_decisions(manifest: str | os.PathLike) -> int:
    """How many decisions the manifest does not hold yet."""
    try:
        lines = journal_path(manifest).read_bytes().splitlines()
    except FileNotFoundError:
        return 0
    # The other lines say who opened the file.
    return sum(not line.startswith(b'{"format"') for line in lines)


def refuse_open_decisions(manifest: str | os.PathLike, field: str, remedy: str) -> None:
    """Refuse a manifest that does not hold all decisions of its review.

    Args:
        manifest: The manifest.
        field: The field or option that names it.
        remedy: What to do if the review was cut off, for the message.

    Raises:
        ValueError: It lacks decisions.
    """
    if count := open_decisions(manifest):
        raise ValueError(
            f"{field}: {manifest} lacks {count} decisions of its review, which are in "
            f"{journal_path(manifest)}: finish the review; if it was cut off, {remedy}"
        )


class Journal:
    """Entries in a file that one process owns; the lock dies with its owner.

    An entry says which state rows have from now on, ``{state: [[image, class],
    ...]}``, so that reading entries twice does no harm. ``looked_at``, ``{state:
    number}``, says that only so many of a state's rows, the first ones, were looked at.
    Lines with ``format`` say who opened the file.

    It is no SQLite file: whoever reads one in the process that has locked it takes the
    lock away (POSIX locks), its errors do not say what the disk lacks, and a decision
    takes six times as long.

    Attributes:
        entries: What was found: line number and entry.
        torn: Whether the last line was cut off, as by a killed process. It was never
            confirmed and is dropped.
        fault: Why the file cannot be written, or None. Every :meth:`append` tries
            anew.
        size: Bytes of confirmed lines, for :meth:`clear`.
        empty: Whether there is no entry.

    Raises:
        LockedError: Another process owns the file.
        ValueError: It is no journal; the message names the line.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.entries: list[tuple[int, dict]] = []
        self.torn = False
        self.fault: str | None = None
        self.size = 0
        self.empty = True
        self._file: int | None = None
        self._owned = False
        try:
            self._open()
        except OSError as error:
            # A disk that cannot be written can be read and shown.
            self.fault = f"{self.path}: {error.strerror}"
            if self._file is None and self.path.is_file():
                self._parse(self.path.read_bytes())
        except BaseException:
            self._release()
            raise

    def append(self, entry: dict) -> None:
        """Write an entry; when this returns, it survives the process and the machine.

        Raises:
            SaveError: It could not be written, and is not there.
        """
        try:
            self._write(self._open(), entry)
        except OSError as error:
            self.fault = f"{self.path}: {error.strerror}"
            raise SaveError(self.fault) from error
        except LockedError as error:
            raise SaveError(str(error)) from error
        self.fault = None
        self.empty = False

    def clear(self, size: int) -> bool:
        """Drop all entries, unless the file has grown since it had ``size`` bytes."""
        if self._file is None or not size == self.size == os.fstat(self._file).st_size:
            return False
        os.ftruncate(self._file, 0)
        os.fsync(self._file)
        self.size = 0
        self.empty, self._owned = True, False
        with suppress(OSError):
            self._open()
        return True

    def close(self) -> None:
        """Give the file up; without entries it is removed."""
        if self._file is not None and self.empty:
            with suppress(OSError):
                self.path.unlink()
        self._release()

    def _open(self) -> int:
        """The file: locked, read, and with a line that says whose it is."""
        if self._file is None:
            file = self._lock()
            try:
                content = self.path.read_bytes()
                if self.fault is None:
                    self._parse(content)
                elif len(content) != self.size:
                    raise SaveError(f"{self.path} has changed: start again")
            except BaseException:
                os.close(file)
                raise
            self._file = file
            sync_folder(self.path.parent)
        if not self._owned:
            self._write(self._file, dict(format=FORMAT, process=os.getpid()))
            self._owned = True
        return self._file

    def _lock(self) -> int:
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            found = False
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its last owner may have removed the file in the meantime.
                with suppress(FileNotFoundError):
                    found = os.path.samestat(os.stat(self.path), os.fstat(file))
            except BlockingIOError as error:
                content = os.pread(file, os.fstat(file).st_size, 0)
                owners = re.findall(rb'"process": (\d+)', content)
                process = f" {owners[-1].decode()}" if owners else ""
                raise LockedError(
                    f"another process{process} reviews the manifest of {self.path}: "
                    "continue there, in any number of tabs, or end it first"
                ) from error
            finally:
                if not found:
                    os.close(file)
            if found:
                return file

    def _parse(self, content: bytes) -> None:
        lines = content.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            entry = _loaded(line) if line.endswith(b"\n") else None
            if entry is None and number == len(lines):
                self.torn = True
                break
            if number == 1 and (entry or {}).get("format") != FORMAT:
                raise ValueError(f"{self.path}:1: expected {FORMAT!r}, got {line!r}")
            if entry is None:
                raise ValueError(f"{self.path}:{number}: not a decision: {line!r}")
            if "format" not in entry:
                self.entries.append((number, entry))
            self.size += len(line)
        self.empty = not self.entries

    def _write(self, file: int, entry: dict) -> None:
        line = json.dumps(entry).encode() + b"\n"
        self._cut(file)
        try:
            written = 0
            while written < len(line):
                written += os.write(file, line[written:])
            os.fsync(file)
        except OSError:
            self._cut(file)
            raise
        self.size += len(line)

    def _cut(self, file: int) -> None:
        """Drop what is behind the confirmed lines.

        Half a line must not be in front of the next one, and a whole one that was not
        confirmed must not come back.
        """
        if os.fstat(file).st_size > self.size:
            os.ftruncate(file, self.size)
            os.fsync(file)

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _loaded(line: bytes) -> dict | None:
    """The entry of a line, or None if it is none."""
    try:
        entry = json.loads(line)
        if "format" not in entry:
            keys = [key for state in STATES for key in entry.get(state, ())]
            if not keys or not all(
                isinstance(part, str) for image, name in keys for part in (image, name)
            ):
                return None
            looked_at = entry.get("looked_at", {})
            if not all(isinstance(number, int) for number in looked_at.values()):
                return None
    except (ValueError, TypeError, AttributeError):
        return None
    return entry


def sync_folder(folder: Path) -> None:
    """A file's name is safe only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
