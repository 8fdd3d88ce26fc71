"""The numbers of a report, out of the files that its spec names."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from mmwood.fileio.candidates import STATES, read_manifest, read_unlooked
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
from mmwood.fileio.tables import read_csv
from mmwood.ood.results import read_summary
from mmwood.ood.review.counts import Counts
from mmwood.report.spec import Labels, Network, Spec, named
from mmwood.report.terms import explain
from mmwood.visualization.charts import class_changes

NETWORK_SCORES = ("mIoU", "IA-mIoU", "IA_S", "IA_M", "IA_L")
#: On images that show no class: the fewer the better.
FALSE_POSITIVES = ("FP_pixels", "FP_images")
UPPER_BOUND, OF_UPPER_BOUND = "mIoU with true masks", "of that mIoU"
_LIMITS = dict(top="rows of a class", max_per_image="classes of an image")
_Part = TypeVar("_Part", Labels, Network)
_Content = TypeVar("_Content")


@dataclass
class Row:
    """A number of every branch.

    Attributes:
        term: What it is.
        values: Of each branch, or None.
        notes: To each of them, may be empty.
        by_masks: Whether a threshold was chosen with the true masks.
        by_pixels: Whether a network was trained with the true masks.
        lower_is_better: Whether a smaller number is a gain.
        text: The term in plain words, where it comes for the first time.
    """

    term: str
    values: Sequence[float | None]
    notes: Sequence[str] = ()
    by_masks: bool = False
    by_pixels: bool = False
    lower_is_better: bool = False
    text: str = ""

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
        images: Which images it is measured on.
    """

    name: str
    text: str
    kind: Literal["labels", "network"]
    rows: list[Row] = field(default_factory=list)
    images: str = "training"


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


def chain(spec: Spec) -> list[Stage]:
    """Every measured stage, in the order of the spec, labels first."""
    stages = [
        *(_labels_stage(name, items) for name, items in spec.labels.items()),
        *(_network_stage(name, items) for name, items in spec.networks.items()),
    ]
    seen = set()
    for row in (row for stage in stages for row in stage.rows):
        if row.term not in seen:
            seen.add(row.term)
            row.text = explain(row.term)
    return [stage for stage in stages if stage.rows]


def _labels_stage(name: str, items: Sequence[Labels | None]) -> Stage:
    """The row of each score, none where nothing is measured."""
    stage = Stage(name, explain(name), "labels")
    curves = [read_curve(item) for item in items]
    scores = [
        _read(item, "scores", partial(read_label_scores, name=name)) for item in items
    ]
    fixed = [c.configured if c else score for c, score in zip(curves, scores)]
    if not any(fixed):
        return stage
    notes = ["" if c is None else _at(c.configured) for c in curves]
    stage.rows = [Row(term, _column(fixed, term), notes) for term in LABEL_SCORES]
    if any(curves):
        best = [c and c.best for c in curves]
        notes = [_at(point) if point else "" for point in best]
        stage.rows.append(Row("best mIoU", _column(best, "mIoU"), notes, by_masks=True))
    opened = _column(scores, "open")
    if any(opened):
        stage.rows.append(Row("left open", opened))
    return stage


def _network_stage(name: str, items: Sequence[Network | None]) -> Stage:
    """As :func:`_labels_stage`."""
    metrics, false_positives, upper = (
        [_read(item, of, read_metrics, place) for item in items]
        for of, place in (
            ("metrics", "folder"),
            ("false_positives", "false_positives.folder"),
            ("upper_bound", "upper_bound.folder"),
        )
    )
    rows = [Row(term, _column(metrics, term)) for term in NETWORK_SCORES]
    both = [
        {**(own or {}), **(other or {})} for own, other in zip(metrics, false_positives)
    ]
    rows += [
        Row(term, _column(both, term), lower_is_better=True) for term in FALSE_POSITIVES
    ]
    bounds = _column(upper, "mIoU")
    ratios = [
        100 * own / bound if own is not None and bound else None
        for own, bound in zip(rows[0].values, bounds)
    ]
    rows.append(Row(UPPER_BOUND, bounds, by_pixels=True))
    rows.append(Row(OF_UPPER_BOUND, ratios))
    rows = [row for row in rows if any(value is not None for value in row.values)]
    images = next(item.images for item in items if item)
    return Stage(name, explain(name), "network", rows, images)


def _column(
    scores: Sequence[Mapping[str, float] | Mapping[str, float | None] | None], key: str
) -> list[float | None]:
    """One score of every branch."""
    return [None if found is None else found.get(key) for found in scores]


def read_curve(labels: Labels | None) -> SeedCurve | None:
    """The threshold curve of labels, or None without.

    Raises:
        ValueError: The file is not one of :class:`mmwood.SeedMetric`.
    """
    return _read(labels, "curve", read_seed_curve)


def _read_instances(network: Network | None) -> InstanceScores | None:
    return _read(network, "instances", read_instance_scores, "folder")


def _read(
    part: Labels | Network | None,
    field: str,
    read: Callable[[Path], _Content],
    place: str = "",
) -> _Content | None:
    """What a field's file holds, which ``place`` of the spec names; None without."""
    path = getattr(part, field, None)
    if part is None or path is None:
        return None
    with named(f"{part.where}.{place or field}"):
        return read(path)


def class_tables(spec: Spec) -> list[ClassTable]:
    """IoU by class of each kind of labels, and IA-IoU by class of each network.

    Raises:
        ValueError: Two branches have other classes.
    """
    return [
        *_class_tables("IoU", spec.labels, read_curve),
        *_class_tables("IA-IoU", spec.networks, _read_instances),
    ]


def _class_tables(
    score: str,
    parts: Mapping[str, Sequence[_Part | None]],
    read: Callable[[_Part | None], SeedCurve | InstanceScores | None],
) -> Iterator[ClassTable]:
    for name, items in parts.items():
        found = [read(item) for item in items]
        scores = [content.class_iou if content else None for content in found]
        present = [by_class for by_class in scores if by_class]
        if not present:
            continue
        with named(next(item for item in items if item).where):
            changes = class_changes([present[0]], [present[-1]])
        # With one branch nothing changes: the best class comes first.
        order = sorted(changes, key=lambda n: (-changes[n].change, -changes[n].base))
        yield ClassTable(
            f"{score} of {name}",
            [Row(n, _column(scores, n)) for n in order],
            [n for n in present[0] if None in _column(present, n)],
        )


def size_rows(spec: Spec) -> list[SizeRow]:
    """Scores by size of every network that has them."""
    return [
        SizeRow(branch.name, network.name, scores)
        for branch in spec.branches
        for network in branch.networks
        if (scores := _read_instances(network)) is not None
    ]


def plan(path: Path) -> dict:
    """The settings of a plan, name, value and reason of each, and what to note.

    Raises:
        ValueError: The file is no plan.
    """

    def parse(content: Any) -> dict:
        return dict(
            settings=[
                [str(row[key]) for key in ("name", "value", "reason")]
                for row in content["settings"]
            ],
            notes=[str(note) for note in content["notes"]],
            changed=[str(name) for name in content["changed"]],
        )

    with named("plan"):
        return parse_json(path, "plan for one's own images", parse)


def tags(path: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """How many training images have each class as a tag, and how many there are.

    Raises:
        ValueError: The file is no table of tags.
    """
    items = read_csv(path)
    counts = Counter(tag for item in items for tag in item.tags or ())
    names = [*classes, *sorted(counts.keys() - set(classes))]
    return [*((name, counts[name]) for name in names), ("all images", len(items))]


def mining(path: Path) -> dict:
    """The summary of mining.

    Raises:
        ValueError: It is none.
    """

    def parse(content: Any) -> dict:
        return dict(
            threshold=float(content["threshold"]),
            candidates=int(content["candidates"]),
            unreadable=int(content["unreadable"]),
            images=int(content["images"]),
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
                f"{text} at most: {content[key]}"
                for key, text in _LIMITS.items()
                if content.get(key) is not None
            ],
        )

    with named("mining"):
        return parse_json(path, "summary that tools/mine_ood.py writes", parse)


def review(path: Path) -> dict:
    """What a reviewed manifest says, class by class and in all.

    Raises:
        ValueError: It is no manifest.
    """
    classes: dict[str, dict[str, int]] = {}
    images: dict[str, set[str]] = {state: set() for state in STATES}
    listed, unlooked = read_unlooked(path), 0
    for _, row in read_manifest(path):
        unlooked += row.state != "unseen" and (row.image, row.class_name) in listed
        counts = classes.setdefault(row.class_name, dict.fromkeys(STATES, 0))
        counts[row.state] += 1
        images[row.state].add(row.image)
    total: dict[str, int] = {
        state: sum(c[state] for c in classes.values()) for state in STATES
    }
    by_rules = sum(
        int(entry.get("kept", 0)) + int(entry.get("rejected", 0))
        for entry in read_summary(path).get("auto", ())
        if isinstance(entry, dict)
    )
    rows: list[tuple[str, dict[str, int]]] = [*sorted(classes.items())]
    rows.append(("all classes", total))
    return dict(
        rows=[
            dict(
                counts,
                name=name,
                # W-OoD's positive rate: looks that show an object after all.
                rate=Counts(**counts, usable=0).positive_rate,
            )
            for name, counts in rows
        ],
        # An image that one class rejects is not used at all.
        usable=len(images["kept"] - images["rejected"]),
        reviewed=total["kept"] + total["rejected"],
        by_rules=by_rules,
        # Rules note theirs, too.
        by_groups=max(0, unlooked - by_rules),
    )


def _at(point: Mapping[str, float]) -> str:
    return f"at {point['threshold']:.2f}"
