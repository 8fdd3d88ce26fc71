"""What the benchmarks share: results in one form, and the machine they are of."""

import argparse
import json
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = [
    "Result",
    "add_json_argument",
    "compare",
    "drop_weights",
    "machine",
    "read_config",
    "write_results",
]


@dataclass
class Result:
    """One row of the table of ``benchmarks/run.py``.

    Attributes:
        what: What was measured, and on what.
        reference: What it is compared with.
        ours_median, reference_median: Medians of the two, in ``unit``.
        ratio: Ours in units of the reference: the median over repeats.
        repeats: How often each was measured.
        unit: Of the medians.
    """

    what: str
    reference: str
    ours_median: float
    reference_median: float
    ratio: float
    repeats: int
    unit: str = "s"


def compare(
    what: str, reference: str, ours: Sequence[float], theirs: Sequence[float]
) -> Result:
    """The result of two lists of seconds.

    Lists of one length were measured in turn: the ratio is the median of the ratios.
    """
    medians = statistics.median(ours), statistics.median(theirs)
    ratio = medians[0] / medians[1]
    if len(ours) == len(theirs):
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    return Result(what, reference, *medians, ratio, min(len(ours), len(theirs)))


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, by which ``benchmarks/run.py`` collects the results."""
    parser.add_argument("--json", type=Path, help="write the results to this file too")


def write_results(path: Path | None, results: Sequence[Result]) -> None:
    """Write the results to ``--json``, if it was given."""
    if path is not None:
        path.write_text(json.dumps([asdict(result) for result in results], indent=2))


def drop_weights(backbone: dict) -> None:
    """Leave out the files of a backbone's config: its weights are then random."""
    for key in ("init_cfg", "checkpoint_path"):
        backbone.pop(key, None)


def read_config(path: str | os.PathLike) -> "Config":
    """A classifier's config, to be built with random weights."""
    # Here: processes whose memory is measured do without.
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    drop_weights(cfg.model.backbone)
    return cfg


def machine() -> dict[str, object]:
    """What the numbers depend on beside the program."""
    # Here: processes whose memory is measured do without.
    import torch

    cpus = Path("/proc/cpuinfo")
    found = cpus.is_file() and re.search(r"model name\s*:\s*(.+)", cpus.read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cuda = torch.cuda.is_available()
    return dict(
        cpu=found[1] if found else platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        memory_gib=round(memory / 2**30),
        gpu=torch.cuda.get_device_name() if cuda else None,
        system=platform.platform(),
        python=platform.python_version(),
        torch=torch.__version__,
        mmengine=_version("onedl-mmengine", "mmengine"),
    )


def _version(*names: str) -> str | None:
    """The version of the first of these distributions that is installed."""
    for name in names:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return None
