"""What running stages say, on one terminal."""

import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmwood.pipeline.run import Job

_UP, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[A", "\x1b[K", "\x1b[J"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: What mmengine's logger writes before its messages.
_LOGGER = re.compile(r"^[\d/]+ [\d:]+ - \w+ - [A-Z]+ - ")
#: Bytes at the end of a log in which its last line is looked for.
_TAIL = 4096


class Progress:
    """Lines about stages, and below them the time and last line of each running one.

    The latter on a terminal alone. All that a stage writes is in its log.
    """

    def __init__(self, running: "Mapping[int, Job]") -> None:
        self._live = sys.stderr.isatty()
        self._running = running
        self._drawn: list[str] = []

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._drawn:
            sys.stderr.write(self._back())
            sys.stderr.flush()
            self._drawn = []
        print(line, flush=True)
        self.draw()

    def draw(self) -> None:
        """Show how far the running stages are."""
        if not self._live:
            return
        width = shutil.get_terminal_size().columns - 1
        lines = [
            f"{job.stage.name}  {time.monotonic() - job.clock:.0f} s  "
            f"{_last_line(job.log)}"[:width]
            for job in self._running.values()
        ]
        if lines != self._drawn:
            text = "".join(f"{line}{_CLEAR_LINE}\n" for line in lines)
            sys.stderr.write(self._back() + text)
            sys.stderr.flush()
            self._drawn = lines

    def _back(self) -> str:
        """What takes away the lines that are drawn."""
        count = len(self._drawn)
        return f"{_UP * count}\r{_CLEAR_BELOW}" if count else ""


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            text = _ESCAPES.sub("", file.read().decode("utf-8", errors="replace"))
    except OSError:
        # Somebody has removed it; the stage runs on.
        return ""
    # A bar's states end in \r.
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    return _LOGGER.sub("", lines[-1]).expandtabs() if lines else ""
