"""The numbers of a report, out of the files that its spec names."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmwood.fileio.candidates import STATES, read_manifest
from mmwood.fileio.labels import VOID
from mmwood.fileio.scores import (
    LABEL_SCORES,
    InstanceScores,
    SeedCurve,
    finite,
    parse_json,
    read_instance_scores,
    read_label_scores,
    read_metrics,
    read_seed_curve,
)
from mmwood.ood.results import read_summary
from mmwood.report.spec import Branch, Labels, Network, Spec
from mmwood.report.terms import explain
from mmwood.visualization.charts import class_changes

__all__ = [
    "ClassTable",
    "Row",
    "Run",
    "SizeRow",
    "Stage",
    "by_name",
    "chain",
    "class_tables",
    "image_miou",
    "mining",
    "read_curve",
    "review",
    "runs",
    "size_rows",
    "totals",
]

NETWORK_SCORES = ("mIoU", "IA-mIoU", "IA_S", "IA_M", "IA_L")


@dataclass(frozen=True)
class Row:
    """A number of every branch.

    Attributes:
        term: What it is.
        text: The same in plain words; may be empty.
        values: Of each branch, or None.
        notes: To each of them, may be empty.
        by_masks: Whether a threshold was chosen with the true masks.
    """

    term: str
    text: str
    values: Sequence[float | None]
    notes: Sequence[str] = ()
    by_masks: bool = False

    @property
    def changes(self) -> list[float | None]:
        """The differences of the others to the first branch."""
        first, *others = self.values
        return [
            None if first is None or other is None else other - first
            for other in others
        ]


@dataclass
class Stage:
    """What is measured of one kind of labels or of one network.

    Attributes:
        name: What the spec calls it.
        text: What it is, in plain words.
        kind: 'labels' or 'network'.
        rows: The mIoU comes first.
    """

    name: str
    text: str
    kind: str
    rows: list[Row] = field(default_factory=list)


class ClassTable(NamedTuple):
    """Scores by class.

    Attributes:
        title: What they are of.
        rows: One a class, the largest gain first.
        absent: Classes that a branch has no score of.
    """

    title: str
    rows: list[Row]
    absent: list[str]


class SizeRow(NamedTuple):
    """Instance-aware scores of one network."""

    branch: str
    network: str
    scores: InstanceScores


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


def by_name(branches: Sequence[Branch], key: str) -> dict[str, list]:
    """Labels or networks of all branches by their name; None where one has none."""
    names = {item.name: None for branch in branches for item in getattr(branch, key)}
    return {
        name: [
            next((item for item in getattr(branch, key) if item.name == name), None)
            for branch in branches
        ]
        for name in names
    }


def chain(spec: Spec) -> list[Stage]:
    """Every measured stage, in the order of the spec, labels first."""
    stages = []
    for name, items in by_name(spec.branches, "labels").items():
        stage = Stage(name, explain(name), "labels")
        curves = [item and read_curve(item) for item in items]
        scores = [item and _read_scores(item) for item in items]
        fixed = [
            curve.configured if curve else score for curve, score in zip(curves, scores)
        ]
        if not any(fixed):
            continue
        notes = ["" if c is None else _at(c.configured) for c in curves]
        for term in LABEL_SCORES:
            values = [point and point.get(term) for point in fixed]
            stage.rows.append(Row(term, "", values, notes))
        if any(curves):
            best = [curve and curve.best["mIoU"] for curve in curves]
            notes = ["" if c is None else _at(c.best) for c in curves]
            stage.rows.append(Row("best mIoU", "", best, notes, by_masks=True))
        opened = [score and score.get("open") for score in scores]
        if any(opened):
            stage.rows.append(Row("left open", "", opened))
        stages.append(stage)
    for name, items in by_name(spec.branches, "networks").items():
        found = [item and _read_metrics(item) for item in items]
        stage = Stage(name, explain(name), "network")
        for term in NETWORK_SCORES:
            values = [metrics and metrics.get(term) for metrics in found]
            if any(value is not None for value in values):
                stage.rows.append(Row(term, "", values))
        if stage.rows:
            stages.append(stage)
    return _explained(stages)


def read_curve(labels: Labels) -> SeedCurve | None:
    """The threshold curve of labels, or None without.

    Raises:
        ValueError: The file is not one of :class:`mmwood.SeedMetric`.
    """
    if labels.curve is None:
        return None
    with _named(f"{labels.where}.curve"):
        return read_seed_curve(labels.curve)


def _read_metrics(network: Network) -> dict[str, float | None] | None:
    if network.metrics is None:
        return None
    with _named(f"{network.where}.folder"):
        return read_metrics(network.metrics)


def _read_scores(labels: Labels) -> dict[str, float | None] | None:
    if labels.scores is None:
        return None
    with _named(f"{labels.where}.scores"):
        return read_label_scores(labels.scores, labels.name)


def _read_instances(network: Network) -> InstanceScores | None:
    if network.instances is None:
        return None
    with _named(f"{network.where}.folder"):
        return read_instance_scores(network.instances)


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Put the place in the spec before an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def class_tables(spec: Spec) -> list[ClassTable]:
    """IoU by class of each kind of labels, and IA-IoU by class of each network.

    Raises:
        ValueError: Two branches have other classes.
    """
    tables = []
    for name, items in by_name(spec.branches, "labels").items():
        curves = [item and read_curve(item) for item in items]
        scores = [curve and curve.class_iou for curve in curves]
        if any(scores):
            where = next(item for item in items if item is not None).where
            tables.append(_class_table(f"IoU of {name}", scores, where))
    for name, items in by_name(spec.branches, "networks").items():
        found = [item and _read_instances(item) for item in items]
        scores = [instances and instances.class_iou for instances in found]
        if any(scores):
            where = next(item for item in items if item is not None).where
            tables.append(_class_table(f"IA-IoU of {name}", scores, where))
    return tables


def size_rows(spec: Spec) -> list[SizeRow]:
    """Scores by size of every network that has them."""
    return [
        SizeRow(branch.name, network.name, scores)
        for branch in spec.branches
        for network in branch.networks
        if (scores := _read_instances(network)) is not None
    ]


def image_miou(label: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """MIoU of one image, in percent, over the classes in its truth or its label.

    Background is a class; pixels without truth are left out, pixels without label are
    of no class.

    Args:
        label: Given labels. Shape: (H, W) uint8.
        truth: True ones. Shape: (H, W) uint8.
        classes: Number of classes without background.

    Returns:
        The mIoU, NaN if no pixel has a truth.

    Raises:
        ValueError: The shapes differ, or a map holds a label outside the classes.
    """
    if label.shape != truth.shape:
        raise ValueError(f"(H, W) = {label.shape}, but the mask's {truth.shape}")
    valid = truth != VOID
    label, truth = label[valid].astype(np.int64), truth[valid].astype(np.int64)
    for what, values in (("label map", label[label != VOID]), ("mask", truth)):
        if values.size and values.max() > classes:
            raise ValueError(
                f"the {what} holds {values.max()}; with {classes} classes it may hold "
                f"0..{classes} and {VOID}"
            )
    label[label == VOID] = classes + 1
    shape = (classes + 1, classes + 2)
    counts = np.bincount(truth * shape[1] + label, minlength=shape[0] * shape[1])
    counts = counts.reshape(shape)
    both = np.diagonal(counts)
    either = counts.sum(axis=1) + counts.sum(axis=0)[:-1] - both
    present = either > 0
    if not present.any():
        return math.nan
    return 100 * float((both[present] / either[present]).mean())


def mining(path: Path) -> dict:
    """The summary of mining.

    Raises:
        ValueError: It is none.
    """

    def parse(content: Any) -> dict:
        return dict(
            threshold=float(content["threshold"]),
            **{
                key: int(content[key])
                for key in ("candidates", "unreadable", "images", "rows")
            },
            histogram=[int(count) for count in content["histogram"]],
            classes=[
                dict(
                    name=str(item["name"]),
                    above=int(item["above"]),
                    rows=int(item["rows"]),
                    highest=finite(item["highest"]),
                )
                for item in content["per_class"]
            ],
            limits=[
                f"{text} {content[key]}"
                for key, text in (
                    ("top", "rows of a class at most:"),
                    ("max_per_image", "classes of an image at most:"),
                )
                if content.get(key) is not None
            ],
        )

    with _named("mining"):
        return parse_json(path, "summary that tools/mine_ood.py writes", parse)


def review(path: Path) -> dict:
    """What a reviewed manifest says, class by class and in all.

    Raises:
        ValueError: It is no manifest.
    """
    classes: dict[str, dict[str, int]] = {}
    kept, rejected = set(), set()
    for _, row in read_manifest(path):
        counts = classes.setdefault(row.class_name, dict.fromkeys(STATES, 0))
        counts[row.state] += 1
        if row.state != "unseen":
            (kept if row.state == "kept" else rejected).add(row.image)
    total = {state: sum(c[state] for c in classes.values()) for state in STATES}
    rows = {**dict(sorted(classes.items())), "all classes": total}
    return dict(
        rows=[
            dict(
                counts,
                name=name,
                # W-OoD's positive rate: looks that show an object after all.
                rate=_ratio(counts["rejected"], counts["kept"] + counts["rejected"]),
            )
            for name, counts in rows.items()
        ],
        # An image that one class rejects is not used at all.
        usable=len(kept - rejected),
        reviewed=total["kept"] + total["rejected"],
        by_rules=sum(
            int(entry.get("kept", 0)) + int(entry.get("rejected", 0))
            for entry in read_summary(path).get("auto", ())
            if isinstance(entry, dict)
        ),
    )


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
            seed=content.get("seed"),
            checkpoint=content.get("checkpoint"),
            config=content.get("config"),
            machine=content.get("machine"),
            processes=content.get("processes"),
            versions=dict(content.get("versions") or {}),
            inputs=dict(content.get("inputs") or {}),
            command=[str(part) for part in content.get("command") or ()],
        )

    found = []
    for number, path in enumerate(paths):
        with _named(f"records[{number}]"):
            found.append(parse_json(path, "record of a stage", parse))
    # Those that do not tell when they began come last, in their order.
    return sorted(
        found,
        key=lambda run: (
            run.started is None,
            run.started.timestamp() if run.started else 0,
        ),
    )


def totals(found: Sequence[Run]) -> dict[str, float | None]:
    """Sum of the seconds and of the bytes, and the largest memory.

    ``wall`` is the time from the first start to the last end, less than the sum where
    stages ran side by side; None if a record lacks what it takes.
    """

    def known(key: str) -> list[float]:
        return [getattr(run, key) for run in found if getattr(run, key) is not None]

    wall = None
    if found and all(r.started and r.seconds is not None for r in found):
        ends = [run.started + timedelta(seconds=run.seconds) for run in found]
        wall = (max(ends) - min(run.started for run in found)).total_seconds()
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


def _class_table(title: str, scores: Sequence[dict | None], where: str) -> ClassTable:
    present = [by_class for by_class in scores if by_class]
    names = list(present[0])
    absent = [name for name in names if any(s.get(name) is None for s in present)]
    try:
        changes = class_changes([present[0]], [present[-1]])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    # With one branch nothing changes: the best class comes first.
    order = sorted(changes, key=lambda n: (-changes[n].change, -changes[n].base))
    rows = [Row(n, "", [s and s.get(n) for s in scores]) for n in order]
    return ClassTable(title, rows, absent)


def _explained(stages: list[Stage]) -> list[Stage]:
    """Each term in plain words where it comes for the first time."""
    seen = set()
    for stage in stages:
        for number, row in enumerate(stage.rows):
            if row.term not in seen:
                seen.add(row.term)
                stage.rows[number] = Row(
                    *(row.term, explain(row.term), row.values, row.notes),
                    by_masks=row.by_masks,
                )
    return stages


def _at(point: Mapping[str, float]) -> str:
    return f"at {point['threshold']:.2f}"


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
