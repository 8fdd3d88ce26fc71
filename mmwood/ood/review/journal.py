"""What a person decides about the rows of a manifest, on disk before anything says so.

Decisions go to a journal beside the manifest, ``NAME.csv.journal``: one line of JSON
each, appended and synchronised. From time to time, and at the end, they move into the
manifest, which is replaced as a whole. What a killed process leaves in the journal is
found by the next one. Nothing here knows of a page.
"""

import fcntl
import glob
import json
import os
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock, RLock

from mmwood.files import atomic_write
from mmwood.ood.manifest import STATES, Candidate, read_manifest, write_manifest

__all__ = ["Journal", "LockedError", "Review", "SaveError", "journal_path"]

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


class Journal:
    """Entries in a file that one process owns; the lock dies with its owner.

    An entry says which state rows have from now on, ``{state: [[image, class],
    ...]}``, so that reading entries twice does no harm. Lines with ``format`` say who
    opened the file.

    Args:
        path: The file; it is made if need be.

    Attributes:
        entries: What was found: line number and entry.
        torn: Whether the last line was cut off, as by a killed process. It was never
            confirmed and is dropped.
        fault: Why the file cannot be written, or None. Every :meth:`append` tries
            anew.

    Raises:
        LockedError: Another process owns the file.
        ValueError: It is no journal; the message names the line.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.entries: list[tuple[int, dict]] = []
        self.torn = False
        self.fault: str | None = None
        self._file: int | None = None
        #: Bytes of confirmed lines. What is behind them could not be cut off if the
        #: length is uncertain.
        self._size = 0
        self._uncertain = False
        self._owned = False
        self._empty = True
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

    @property
    def size(self) -> int:
        """Length in bytes, for :meth:`clear`."""
        return self._size

    @property
    def empty(self) -> bool:
        """Whether there is no entry."""
        return self._empty

    def append(self, entry: dict) -> None:
        """Write an entry; when this returns, it survives the process and the machine.

        Raises:
            SaveError: It could not be written, and is not there.
        """
        try:
            if not self._owned:
                self._open()
            self._write(entry)
        except OSError as error:
            self.fault = f"{self.path}: {error.strerror}"
            raise SaveError(self.fault) from error
        except LockedError as error:
            raise SaveError(str(error)) from error
        self.fault = None
        self._empty = False

    def clear(self, size: int) -> bool:
        """Drop all entries, unless the file has grown since it had ``size`` bytes."""
        if self._file is None or size != self._size or self._uncertain:
            return False
        os.ftruncate(self._file, 0)
        os.fsync(self._file)
        self._size = 0
        self._empty, self._owned = True, False
        with suppress(OSError):
            self._open()
        return True

    def close(self) -> None:
        """Give the file up; without entries it is removed."""
        if self._file is not None and self._empty and not self._uncertain:
            with suppress(OSError):
                self.path.unlink()
        self._release()

    def _open(self) -> None:
        if self._file is None:
            self._file = self._lock()
            _sync_folder(self.path.parent)
            with open(self._file, "rb", closefd=False) as file:
                content = file.read()
            if self.fault is None:
                self._parse(content)
            elif len(content) != self._size:
                self._release()
                raise SaveError(f"{self.path} has changed: start again")
            if os.fstat(self._file).st_size > self._size:
                os.ftruncate(self._file, self._size)
        self._write(dict(format=FORMAT, process=os.getpid()))
        self._owned = True

    def _lock(self) -> int:
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its last owner may have removed the file in the meantime.
                found = os.stat(self.path).st_ino == os.fstat(file).st_ino
            except FileNotFoundError:
                found = False
            except BlockingIOError as error:
                with open(file, "rb") as held:
                    owners = [line for line in held if b'"format"' in line]
                owner = _loaded(owners[-1]) if owners else None
                process = f" {owner['process']}" if owner else ""
                raise LockedError(
                    f"another process{process} reviews the manifest of {self.path}: "
                    "go on there, in any number of tabs, or end it first"
                ) from error
            except BaseException:
                os.close(file)
                raise
            if found:
                return file
            os.close(file)

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
            self._size += len(line)
        self._empty = not self.entries

    def _write(self, entry: dict) -> None:
        line = json.dumps(entry).encode() + b"\n"
        if self._uncertain:
            os.ftruncate(self._file, self._size)
            self._uncertain = False
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError:
            # Half a line must not be in front of the next one, and a whole one that
            # was not confirmed must not come back.
            self._uncertain = True
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
            self._uncertain = False
            raise
        self._size += len(line)

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Review:
    """A manifest under review: its rows, their states, decisions and their undoing.

    The state of a row is that of the last decision about it that is not undone, or
    else the one it had at the start. Who decides is told apart (``who``): each undoes
    their own decisions, last first, and what somebody else decided later about the
    same row stands. Methods may be called from several threads.

    Args:
        manifest: The file.

    Attributes:
        images, classes, class_of, probability: The rows' columns; ``class_of`` are
            indices into ``classes``, the names in the order of their first row.
        states: Index into :data:`mmwood.ood.manifest.STATES` of each row.
        replayed: How many decisions of a killed process were found.
        listeners: Functions that are called with the rows that changed.

    Raises:
        FileNotFoundError: There is no manifest.
        ValueError: Manifest or journal are malformed, a row occurs twice, or the
            journal is about rows that the manifest does not have.
        LockedError: Another process reviews it.

    Example:
        >>> review = Review('ood.csv')
        >>> review.decide([0, 1], 'kept')
        >>> review.undo()
        [0, 1]
        >>> review.close()
    """

    def __init__(self, manifest: str | os.PathLike) -> None:
        if not Path(manifest).is_file():
            raise FileNotFoundError(f"there is no manifest {manifest}")
        # A link's target is replaced, not the link.
        self.path = Path(os.path.realpath(manifest))
        self.images: list[str] = []
        self.classes: list[str] = []
        self.class_of = array("i")
        self.probability = array("d")
        self.states = bytearray()
        self.listeners: list[Callable[[Sequence[int]], None]] = []
        self._lock = RLock()
        self._saving = Lock()
        self._next = 0
        #: Row -> (number, state) of the decisions about it.
        self._about: dict[int, list[tuple[int, int]]] = {}
        #: Who -> (number, rows) of decisions, for undo.
        self._by: dict[str, list[tuple[int, list[int]]]] = {}
        self.journal = Journal(journal_path(manifest))
        try:
            self._stamp = self._stat()
            self._read()
            self._replay()
        except BaseException:
            self.journal.close()
            raise
        self._initial = bytes(self.states)
        if self.journal.fault is None:
            self._remove_leftovers()

    @property
    def fault(self) -> str | None:
        """Why the last thing could not be written, or None."""
        return self.journal.fault

    @property
    def pending(self) -> bool:
        """Whether there are decisions that the manifest does not hold yet."""
        return not self.journal.empty

    def decide(self, rows: Sequence[int], state: str, who: str = "") -> None:
        """Give rows a state, on disk.

        Args:
            rows: Indices of rows.
            state: One of :data:`mmwood.ood.manifest.STATES`.
            who: For :meth:`undo`.

        Raises:
            ValueError: There is no such row or state, or no row is given.
            SaveError: The disk does not take it; then nothing has changed.
        """
        rows = list(dict.fromkeys(rows))
        if not rows or not all(0 <= row < len(self.images) for row in rows):
            raise ValueError(f"rows must be in 0..{len(self.images) - 1}, got {rows}")
        if state not in STATES:
            raise ValueError(f"state must be one of {STATES}, got {state!r}")
        code = STATES.index(state)
        with self._lock:
            self.journal.append({state: [self._key(row) for row in rows]})
            for row in rows:
                self._about.setdefault(row, []).append((self._next, code))
                self.states[row] = code
            self._by.setdefault(who, []).append((self._next, rows))
            self._next += 1
        self._tell(rows)

    def undo(self, who: str = "") -> list[int]:
        """Take back the last decision of somebody that is not yet taken back.

        Returns:
            The rows it was about; empty if there is none.

        Raises:
            SaveError: As in :meth:`decide`.
        """
        with self._lock:
            if not self._by.get(who):
                return []
            number, rows = self._by[who][-1]
            rest = {
                row: [d for d in self._about[row] if d[0] != number] for row in rows
            }
            after: dict[int, int] = {}
            entry: dict[str, list] = {}
            for row in rows:
                after[row] = rest[row][-1][1] if rest[row] else self._initial[row]
                if after[row] != self.states[row]:
                    entry.setdefault(STATES[after[row]], []).append(self._key(row))
            if entry:
                self.journal.append(entry)
            for row in rows:
                self.states[row] = after[row]
            self._about.update(rest)
            self._by[who].pop()
        self._tell(rows)
        return rows

    def can_undo(self, who: str = "") -> bool:
        """Whether :meth:`undo` would do something."""
        return bool(self._by.get(who))

    def save(self) -> None:
        """Bring the decisions into the manifest, atomically, and empty the journal.

        Decisions may go on meanwhile; they stay in the journal.

        Raises:
            SaveError: The manifest cannot be written, or another program has changed
                it. It is as it was, and the decisions are in the journal.
        """
        with self._saving:
            with self._lock:
                if self.journal.empty:
                    return
                states, size = bytes(self.states), self.journal.size
            if self._stat() != self._stamp:
                raise SaveError(
                    f"{self.path} was changed by another program: the decisions are "
                    f"safe in {self.journal.path}; start again to bring them in"
                )
            try:
                with atomic_write(self.path) as temporary:
                    write_manifest(temporary, self._rows(states))
                    # Whole on disk before it takes the old one's place.
                    with temporary.open("rb") as file:
                        os.fsync(file.fileno())
                _sync_folder(self.path.parent)
                with self._lock:
                    self._stamp = self._stat()
                    self.journal.clear(size)
            except OSError as error:
                raise SaveError(f"{self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Save and give the manifest up.

        Raises:
            SaveError: As in :meth:`save`; the manifest is given up nevertheless.
        """
        try:
            self.save()
        finally:
            self.journal.close()

    def _read(self) -> None:
        seen: dict[tuple[str, int], int] = {}
        index: dict[str, int] = {}
        for line, row in read_manifest(self.path):
            number = index.setdefault(row.class_name, len(index))
            first = seen.setdefault((row.image, number), line)
            if first != line:
                raise ValueError(
                    f"{self.path}:{line}: image {row.image!r} was listed for "
                    f"{row.class_name!r} before, on line {first}"
                )
            self.images.append(row.image)
            self.class_of.append(number)
            self.probability.append(row.probability)
            self.states.append(STATES.index(row.state))
        self.classes = [sys.intern(name) for name in index]

    def _replay(self) -> None:
        self.replayed = len(self.journal.entries)
        if not self.replayed:
            return
        rows = {(self.images[row], self.class_of[row]): row for row in self._all()}
        index = {name: number for number, name in enumerate(self.classes)}
        for line, entry in self.journal.entries:
            where = f"{self.journal.path}:{line}"
            for code, state in enumerate(STATES):
                for image, name in entry.get(state, ()):
                    row = rows.get((image, index.get(name)))
                    if row is None:
                        raise ValueError(
                            f"{where}: decides about {image!r} as {name!r}, which "
                            f"{self.path} does not list: bring its manifest back, or "
                            "delete the journal to lose its decisions"
                        )
                    self.states[row] = code
        self.journal.entries.clear()

    def _rows(self, states: bytes) -> Iterator[Candidate]:
        """The manifest's rows with other states; only their states are in memory."""
        for (_, row), code in zip(read_manifest(self.path), states):
            yield replace(row, state=STATES[code])

    def _all(self) -> range:
        return range(len(self.images))

    def _key(self, row: int) -> list[str]:
        return [self.images[row], self.classes[self.class_of[row]]]

    def _tell(self, rows: Sequence[int]) -> None:
        for listener in list(self.listeners):
            listener(rows)

    def _stat(self) -> tuple[int, ...]:
        found = self.path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _remove_leftovers(self) -> None:
        """Delete what a process that was killed in :meth:`save` was writing."""
        name = f".tmp-{glob.escape(self.path.stem)}-????????"
        for pattern in (name, f".tmp-{name}-????????"):
            for path in self.path.parent.glob(pattern + glob.escape(self.path.suffix)):
                path.unlink(missing_ok=True)


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
    except (ValueError, TypeError, AttributeError):
        return None
    return entry


def _sync_folder(folder: Path) -> None:
    """A file's name is safe only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
