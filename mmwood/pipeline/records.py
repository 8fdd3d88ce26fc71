"""Who made what, from what, with what: one JSON file for each finished stage."""

import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from pathlib import Path

from mmwood.fileio.files import read_json, write_json

_PACKAGES = (
    *("mmwood", "torch", "torchvision", "numpy", "opencv-python", "scikit-learn"),
    *("mmengine", "mmcv", "mmsegmentation", "mmpretrain"),
)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Records:
    """The records of a pipeline's stages.

    ::

        folder/
          STAGE.json          provenance of a finished stage
          STAGE.files.json    its files and their hashes
          STAGE.started.json  what a stage was started with that has not finished
          hashes.json         see mmwood.pipeline.hashes
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, stage: str) -> dict | None:
        """The record of a finished stage, or None."""
        return self._read(stage, "json")

    def files(self, stage: str) -> dict[str, str]:
        """Path -> SHA-256 of the files that a finished stage left."""
        return self._read(stage, "files.json") or {}

    def started(self, stage: str) -> dict | None:
        """The key of a stage that was started and has not finished, or None."""
        return self._read(stage, "started.json")

    def knows(self, stage: str) -> bool:
        """Whether a stage was ever started."""
        suffixes = ("json", "files.json", "started.json")
        return any(self.path(stage, suffix).exists() for suffix in suffixes)

    def start(self, stage: str, key: dict) -> None:
        """Note that a stage begins; what it was before is no longer true."""
        self.path(stage).unlink(missing_ok=True)
        write_json(self.path(stage, "started.json"), key)

    def finish(self, stage: str, record: dict, files: dict[str, str]) -> None:
        """Note that a stage is whole."""
        write_json(self.path(stage, "files.json"), files)
        write_json(self.path(stage), record)
        self.path(stage, "started.json").unlink(missing_ok=True)

    def path(self, stage: str, suffix: str = "json") -> Path:
        """File of a stage."""
        return self.folder / f"{stage}.{suffix}"

    def _read(self, stage: str, suffix: str) -> dict | None:
        try:
            content = read_json(self.path(stage, suffix))
        except (OSError, ValueError):
            # Damaged is as good as absent: the stage runs again.
            return None
        return content if isinstance(content, dict) else None


@cache
def versions() -> dict[str, str]:
    """Versions of Python, mmwood, and what it computes with."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        for distribution in (name, f"onedl-{name}"):
            try:
                found[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
    return found


@cache
def machine() -> str:
    """Processor, cores, memory and GPUs in a line."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = ""
    if shutil.which("nvidia-smi"):
        gpus = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    names = ", ".join(gpus.split("\n")).strip(", ")
    return f"{os.cpu_count()} x {processor}, {memory:.0f} GiB, {names or 'no GPU'}"
