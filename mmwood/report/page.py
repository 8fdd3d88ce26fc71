"""From a spec to report/index.html: one file that needs no other and no network."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath

import jinja2

from mmwood import __version__
from mmwood.fileio.files import atomic_write
from mmwood.fileio.label_folder import LabelFolder
from mmwood.fileio.labels import BIASED, full_palette, voc_palette
from mmwood.report import cards, numbers, pictures, records
from mmwood.report.spec import Spec, read_spec

_HERE = Path(__file__).parent


def write_report(spec_file: str | os.PathLike, out: str | os.PathLike) -> Path:
    """Write ``index.html`` into a folder, atomically.

    The same files give the same bytes.

    Raises:
        FileNotFoundError: A file that the spec names is absent.
        ValueError: The spec or such a file is not what is expected.

    Example:
        >>> write_report('work_dirs/demo/report.json', 'work_dirs/demo/report')
    """
    spec = read_spec(spec_file)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent, points=_points, duration=_duration, size=_size
    )
    page = environment.get_template("page.html").render(_content(spec))
    path = Path(out, "index.html")
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _content(spec: Spec) -> dict:
    """Everything that the template shows."""
    stages = numbers.chain(spec)
    curves = [
        (number, branch.name, labels.name, curve)
        for number, branch in enumerate(spec.branches)
        for labels in branch.labels
        if (curve := numbers.read_curve(labels)) is not None
    ]
    sizes = numbers.size_rows(spec)
    runs = records.runs(spec.records)
    content = dict(
        spec=spec,
        css=(_HERE / "report.css").read_text(encoding="utf-8"),
        version=__version__,
        colours=pictures.BRANCH_COLOURS,
        summary=_summary(spec, stages),
        stages=stages,
        mious=[stage for stage in stages if stage.rows[0].term == "mIoU"],
        examples=cards.labels_examples(spec),
        network_examples=cards.network_examples(spec),
        palette=_legend(spec),
        extremes=cards.extremes(spec),
        chart=pictures.curve_chart(curves) if curves else "",
        curves=curves,
        class_tables=numbers.class_tables(spec),
        sizes=sizes,
        comparable=len({str(row.scores.settings) for row in sizes}) <= 1,
        figures=[(item, pictures.figure_source(item.file)) for item in spec.figures],
        plan=spec.plan and numbers.plan(spec.plan),
        tags=spec.tags
        and numbers.tags(spec.tags, spec.data.classes if spec.data else ()),
        mining=spec.mining and numbers.mining(spec.mining),
        review=spec.review and numbers.review(spec.review),
        runs=[(run, _command(run.command), _short(run.checkpoint)) for run in runs],
        totals=records.totals(runs),
        limits=dict(
            picture=pictures.PICTURE,
            figure=pictures.FIGURE_PIXELS / 1e6,
            examples=cards.MAX_EXAMPLES,
            scored=cards.MAX_SCORED,
        ),
    )
    content["missing"] = _missing(spec, content)
    return content


def _summary(spec: Spec, stages: Sequence[numbers.Stage]) -> list[str]:
    """What happened, in sentences with the main numbers."""

    def reading(row: numbers.Row) -> str:
        columns = zip(spec.branches, row.values, [None, *row.changes])
        return " and ".join(
            f"{value:.1f} {branch.name}"
            + ("" if change is None else f" ({_points(change)} points)")
            for branch, value, change in columns
            if value is not None
        )

    labels = [stage for stage in stages if stage.kind == "labels"]
    networks = [stage for stage in stages if stage.kind == "network"]
    sentences = []
    if labels:
        # The first and the last kind; they may be one.
        ends = {stage.name: stage for stage in (labels[0], labels[-1])}
        text = "; ".join(
            f"the {name} reach an mIoU of {reading(stage.rows[0])}"
            for name, stage in ends.items()
        )
        sentences.append(f"Against the true masks of the training images, {text}.")
    elif spec.data is None or spec.data.masks is None:
        sentences.append(
            "The labels were not measured, because there are no true masks to measure "
            "them against."
        )
    else:
        sentences.append("The labels were not measured against the true masks.")
    for branch in spec.branches:
        for item in branch.labels:
            if item.supervision:
                sentences.append(
                    f"The {item.name} {branch.name} come from a model that was trained "
                    f"with more than the tags: {item.supervision}."
                )
    if networks:
        rows = {row.term: row for row in networks[-1].rows}
        parts = [
            f"{'an' if term[0] in 'mI' else 'a'} {term} of {reading(rows[term])}"
            for term in ("mIoU", "IA-mIoU")
            if term in rows
        ]
        sentences.append(
            f"On {networks[-1].images} images the last segmentation network, "
            f"“{networks[-1].name}”"
            f", reaches {', and '.join(parts)}."
        )
    else:
        sentences.append("No segmentation network was measured.")
    return sentences


def _missing(spec: Spec, content: dict) -> list[str]:
    """What the report leaves out and why, a line each."""
    has_masks = spec.data is not None and spec.data.masks is not None
    no_masks = "data.masks names no true masks"
    found = (
        (
            any(stage.kind == "labels" for stage in content["stages"]),
            "Quality of labels: no labels have a curve or scores, which take true "
            "masks.",
        ),
        (
            any(stage.kind == "network" for stage in content["stages"]),
            "Quality of networks: no branch has a network with metrics.",
        ),
        (
            len(spec.branches) > 1,
            "Differences: there are fewer than two branches to compare.",
        ),
        (
            content["examples"],
            "Examples of training images: "
            + (
                "no branch has labels with a folder in which an image shows one class "
                "alone."
                if spec.data
                else "the spec has no data."
            ),
        ),
        (
            content["network_examples"],
            "Examples of what the networks find: no network has predictions of images "
            "it was not trained on.",
        ),
        (
            content["extremes"],
            "Best and worst images: "
            + (
                "there are no labels or predictions of images with a mask."
                if has_masks
                else f"{no_masks}."
            ),
        ),
        (content["chart"], "Threshold curves: no labels have a curve."),
        (
            content["class_tables"],
            "Classes: no labels have a curve, no network an ia_iou.json.",
        ),
        (content["sizes"], "Object sizes: no network has an ia_iou.json."),
        (content["figures"], "Further figures: the spec names none."),
        (content["mining"], "Mining: the spec names no summary of it."),
        (content["review"], "Review: the spec names no reviewed manifest."),
        (content["runs"], "Settings and provenance: the spec names no records."),
    )
    return [text for there, text in found if not there]


def _legend(spec: Spec) -> list[tuple[str, str]]:
    """Name and colour of each class."""
    if spec.data is None:
        return []
    colours = voc_palette(len(spec.data.classes) + 1)[1:].tolist()
    named = [*zip(spec.data.classes, colours)]
    folders = {item.folder for branch in spec.branches for item in branch.labels}
    if any(LabelFolder(folder).holds_biased for folder in folders if folder):
        named.append(
            ("removed by the label filter", full_palette(biased=True)[BIASED].tolist())
        )
    return [(name, "#{:02x}{:02x}{:02x}".format(*colour)) for name, colour in named]


def _command(parts: Sequence[str]) -> str:
    """A command as one types it."""
    start = ["python"] if parts and parts[0].endswith(".py") else []
    return shlex.join([*start, *parts])


def _short(path: str | None) -> str:
    """The end of a path: a checkpoint's folder and name."""
    return "" if path is None else str(PurePath(*PurePath(path).parts[-2:]))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _points(change: float | None) -> str:
    """A difference with its sign."""
    if change is None:
        return "–"
    # Adding zero turns -0.0 into 0.0.
    text = f"{round(change, 1) + 0.0:+.1f}"
    return text.replace("-", "−")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for limit, unit, name in ((5400, 3600, "h"), (100, 60, "min")):
        if seconds >= limit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def _size(number: float | None) -> str:
    """Bytes as a person reads them."""
    if number is None:
        return "–"
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f} B"
