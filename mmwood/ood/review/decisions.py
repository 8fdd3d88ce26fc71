"""What a person decides about the rows of a manifest.

Decisions go to a journal (:mod:`mmwood.fileio.journal`). From time to time, and at the
end, they move into the manifest, which is replaced as a whole. What a killed process
leaves in the journal is found by the next one. Nothing here knows of a page.
"""

import glob
import os
import sys
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock, RLock

from mmwood.fileio.candidates import (
    STATES,
    Candidate,
    read_manifest,
    read_unlooked,
    unlooked_path,
    write_manifest,
    write_unlooked,
)
from mmwood.fileio.files import TEMPORARY, atomic_write
from mmwood.fileio.journal import Journal, SaveError, journal_path, sync_folder
from mmwood.utils.check import one_of


class Review:
    """A manifest under review: its rows, their states, decisions and their undoing.

    The state of a row is that of the last decision about it that is not undone, or
    else the one it had at the start. Who decides is told apart (``who``): each undoes
    their own decisions, last first, and what somebody else decided later about the
    same row stands. Methods may be called from several threads.

    Attributes:
        images, classes, class_of, probability: The rows' columns; ``class_of`` are
            indices into ``classes``, the names in the order of their first row.
        states: Index into :data:`mmwood.fileio.candidates.STATES` of each row.
        looked: For each row, 0 if it was decided with others and not looked at.
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
        self.looked = bytearray()
        self.listeners: list[Callable[[Sequence[int]], None]] = []
        self._lock = RLock()
        self._saving = Lock()
        self._next = 0
        #: Row -> (number, state, looked at) of the decisions about it.
        self._about: dict[int, list[tuple[int, int, bool]]] = {}
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
        self._initial_looked = bytes(self.looked)
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

    def decide(
        self,
        rows: Sequence[int],
        state: str,
        who: str = "",
        looked_at: Collection[int] | None = None,
    ) -> None:
        """Give rows a state, on disk.

        Args:
            rows: The rows.
            state: Their state.
            who: Who decides.
            looked_at: Those of them that were looked at; None: all.

        Raises:
            ValueError: There is no such row or state, or no row is given.
            SaveError: The disk does not take it; then nothing has changed.
        """
        rows = list(dict.fromkeys(rows))
        looked = set(rows if looked_at is None else looked_at)
        if not rows or not all(0 <= row < len(self.images) for row in rows):
            raise ValueError(f"rows must be in 0..{len(self.images) - 1}, got {rows}")
        one_of("state", state, STATES)
        code = STATES.index(state)
        with self._lock:
            self.journal.append(
                self._entry({row: (code, row in looked) for row in rows})
            )
            for row in rows:
                about = self._about.setdefault(row, [])
                about.append((self._next, code, row in looked))
                self.states[row] = code
                self.looked[row] = row in looked
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
            after = {
                row: rest[row][-1][1:]
                if rest[row]
                else (self._initial[row], bool(self._initial_looked[row]))
                for row in rows
            }
            changed = {
                row: new
                for row, new in after.items()
                if new != (self.states[row], bool(self.looked[row]))
            }
            if changed:
                self.journal.append(self._entry(changed))
            for row, new in after.items():
                self.states[row], self.looked[row] = new
            self._about.update(rest)
            self._by[who].pop()
        self._tell(rows)
        return rows

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
                states, looked = bytes(self.states), bytes(self.looked)
                size = self.journal.size
            if self._stat() != self._stamp:
                raise SaveError(
                    f"{self.path} was changed by another program: the decisions are "
                    f"safe in {self.journal.path}; start again to bring them in"
                )
            try:
                # Before the manifest: what it says of unseen rows says nothing.
                self._save_unlooked(states, looked)
                with _replaced(self.path) as temporary:
                    write_manifest(temporary, self._rows(states))
                sync_folder(self.path.parent)
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

    def _save_unlooked(self, states: bytes, looked: bytes) -> None:
        rows = [
            row
            for row, (state, seen) in enumerate(zip(states, looked))
            if state and not seen
        ]
        path = unlooked_path(self.path)
        if rows:
            with _replaced(path) as temporary:
                write_unlooked(temporary, (self._key(row) for row in rows))
        else:
            path.unlink(missing_ok=True)

    def _entry(self, decided: dict[int, tuple[int, bool]]) -> dict:
        """What the journal says of rows, their states and whether they were seen."""
        entry: dict = {}
        counts: dict[str, int] = {}
        # Those that were looked at come first.
        for row, (code, looked) in sorted(
            decided.items(), key=lambda item: not item[1][1]
        ):
            state = STATES[code]
            entry.setdefault(state, []).append(self._key(row))
            counts[state] = counts.get(state, 0) + looked
        if sum(counts.values()) < len(decided):
            entry["looked_at"] = counts
        return entry

    def _read(self) -> None:
        unlooked = read_unlooked(self.path)
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
            self.looked.append((row.image, row.class_name) not in unlooked)
        self.classes = [sys.intern(name) for name in index]

    def _replay(self) -> None:
        self.replayed = len(self.journal.entries)
        if not self.replayed:
            return
        keys = zip(self.images, self.class_of)
        rows = {key: row for row, key in enumerate(keys)}
        index = {name: number for number, name in enumerate(self.classes)}
        for line, entry in self.journal.entries:
            where = f"{self.journal.path}:{line}"
            for code, state in enumerate(STATES):
                keys = entry.get(state, ())
                looked = entry.get("looked_at", {}).get(state, len(keys))
                for place, (image, name) in enumerate(keys):
                    row = rows.get((image, index.get(name, -1)))
                    if row is None:
                        raise ValueError(
                            f"{where}: decides about {image!r} as {name!r}, which "
                            f"{self.path} does not list: bring its manifest back, or "
                            "delete the journal to lose its decisions"
                        )
                    self.states[row] = code
                    self.looked[row] = place < looked
        self.journal.entries.clear()

    def _rows(self, states: bytes) -> Iterator[Candidate]:
        """The manifest's rows with other states; only their states are in memory."""
        for (_, row), code in zip(read_manifest(self.path), states):
            yield replace(row, state=STATES[code])

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
        for target in (self.path, unlooked_path(self.path)):
            name = f"{TEMPORARY}{glob.escape(target.stem)}-????????"
            for pattern in (name, f"{TEMPORARY}{name}-????????"):
                for path in target.parent.glob(pattern + glob.escape(target.suffix)):
                    path.unlink(missing_ok=True)


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """As :func:`atomic_write`; the file is whole on disk before it takes its place."""
    with atomic_write(path) as temporary:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
