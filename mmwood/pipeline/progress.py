"""What running stages say, on one terminal."""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Progress"]

_UP, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[A", "\x1b[K", "\x1b[J"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Progress:
    """Lines about stages, and below them the last line of each running one.

    On a terminal a stage is given one too, so that it draws its bars: what it writes
    to standard error comes here, and but for the bars goes on to its log. Elsewhere,
    as in CI, all that a stage writes goes to its log alone.
    """

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._open: dict[int, tuple[str, Path]] = {}
        self._last: dict[str, str] = {}
        self._rest: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._drawn: list[str] = []

    @contextmanager
    def stream(self, stage: str, log: Path) -> Iterator[int | None]:
        """Where a stage's standard error goes while it is started; None is its log."""
        if not self._live:
            yield None
            return
        reader, writer = pty.openpty()
        width = max(self._width() - len(stage) - 2, 20)
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self._open[reader] = stage, log
        self._last[stage] = ""
        self._begun[stage] = time.monotonic()
        try:
            yield writer
        finally:
            os.close(writer)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._clear()
        print(line, flush=True)
        self._draw()

    def show(self, seconds: float) -> None:
        """Show what the stages say for so long."""
        if not self._open:
            time.sleep(seconds)
            return
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self._open:
            for reader in select.select(list(self._open), [], [], left)[0]:
                self._read(reader)
        self._draw()

    def drop(self, stage: str) -> None:
        """A stage has ended."""
        for reader in [r for r, (name, _) in self._open.items() if name == stage]:
            while reader in self._open and select.select([reader], [], [], 0)[0]:
                self._read(reader)
            self._close(reader)
        self._last.pop(stage, None)
        self._draw()

    def _read(self, reader: int) -> None:
        stage, log = self._open[reader]
        try:
            text = os.read(reader, 1 << 16).decode("utf-8", errors="replace")
        except OSError:
            # Linux says so when the other end is closed.
            text = ""
        if not text:
            self._close(reader)
            return
        pieces = re.split(r"(\r?\n|\r)", self._rest.pop(stage, "") + text)
        # A bar's states end in \r, lines in \n; the last piece has not ended.
        lines = [a for a, b in zip(pieces[::2], pieces[1::2]) if b != "\r" and a]
        if lines:
            with log.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
        self._rest[stage] = pieces[-1]
        shown = [piece for piece in pieces[::2] if piece.strip()]
        if shown:
            self._last[stage] = shown[-1]

    def _close(self, reader: int) -> None:
        if self._open.pop(reader, None) is not None:
            os.close(reader)

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write(_UP * len(self._drawn) + "\r" + _CLEAR_BELOW)
            self._drawn = []

    def _draw(self) -> None:
        if not self._live:
            return
        lines = []
        for stage, text in self._last.items():
            # Before its first bar a stage loads libraries and data.
            waits = f"... {time.monotonic() - self._begun[stage]:.0f} s"
            shown = _ESCAPES.sub("", text) or waits
            lines.append(f"{stage}  {shown}"[: self._width() - 1])
        if lines != self._drawn:
            self._clear()
            sys.stderr.writelines(f"{line}{_CLEAR_LINE}\n" for line in lines)
            sys.stderr.flush()
            self._drawn = lines

    @staticmethod
    def _width() -> int:
        return shutil.get_terminal_size().columns
