"""The provenance that a report shows: the records of a pipeline's stages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mmwood.fileio.scores import finite, parse_json
from mmwood.report.spec import named

#: Fields of a record that are shown as they are.
_AS_THEY_ARE = ("seed", "checkpoint", "config", "machine", "processes")


@dataclass
class Run:
    """One stage's provenance; None is what its record lacks."""

    stage: str
    title: str
    started: datetime | None
    seconds: float | None
    memory: float | None
    gpu_memory: float | None
    bytes: float | None
    files: int | None
    sha256: str | None
    seed: Any
    checkpoint: str | None
    config: str | None
    machine: str | None
    processes: int | None
    versions: Mapping[str, str]
    inputs: Mapping[str, str]
    command: Sequence[str]


def runs(paths: Sequence[Path]) -> list[Run]:
    """The records of a pipeline's stages, in the order of their start.

    Raises:
        ValueError: One is no record.
    """

    def parse(content: Any) -> Run:
        started, outputs = content.get("started"), content.get("outputs") or {}
        return Run(
            stage=str(content["stage"]),
            title=str(content.get("title") or content["stage"]),
            started=started and datetime.fromisoformat(started),
            seconds=finite(content.get("seconds")),
            memory=finite(content.get("peak_memory_mb")),
            gpu_memory=finite(content.get("peak_gpu_memory_mb")),
            bytes=finite(outputs.get("bytes")),
            files=outputs.get("files"),
            sha256=outputs.get("sha256"),
            **{key: content.get(key) for key in _AS_THEY_ARE},
            versions=dict(content.get("versions") or {}),
            inputs=dict(content.get("inputs") or {}),
            command=[str(part) for part in content.get("command") or ()],
        )

    found = []
    for number, path in enumerate(paths):
        with named(f"records[{number}]"):
            found.append(parse_json(path, "record of a stage", parse))
    # Those that do not tell when they began come last, in their order.
    return sorted(
        found, key=lambda run: run.started.timestamp() if run.started else math.inf
    )


def totals(found: Sequence[Run]) -> dict[str, Any]:
    """Sum of the seconds and of the bytes, and the largest memory.

    ``wall`` is the time from the first start to the last end, less than the sum where
    stages ran side by side; None if a record lacks what it takes.
    """

    def known(key: str) -> list[float]:
        return [getattr(run, key) for run in found if getattr(run, key) is not None]

    wall = None
    spans = [
        (run.started, run.started + timedelta(seconds=run.seconds))
        for run in found
        if run.started and run.seconds is not None
    ]
    if found and len(spans) == len(found):
        starts, ends = zip(*spans)
        wall = (max(ends) - min(starts)).total_seconds()
    return dict(
        seconds=sum(known("seconds")),
        wall=wall,
        memory=max(known("memory"), default=None),
        gpu_memory=max(known("gpu_memory"), default=None),
        bytes=sum(known("bytes")),
        # One version of a package at all stages is told once.
        versions=[dict(v) for v in sorted({tuple(r.versions.items()) for r in found})],
        machines=sorted({run.machine for run in found if run.machine}),
    )
