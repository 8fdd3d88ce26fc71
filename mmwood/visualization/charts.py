"""Charts of what out-of-distribution images change, and the numbers behind them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mmwood.visualization.figures import add_legend, add_title, new_figure, save_figure

#: What a band of runs shows, and which images are counted.
Spread = Literal["std", "quartiles"]
Images = Literal["ood", "in"]
#: The background thresholds at which a seed curve has values by class.
THRESHOLDS = dict(
    best="at the best threshold, chosen with pixel masks",
    configured="at the configured threshold",
)
#: Okabe and Ito's colours, which the colour-blind can tell apart; yellow is too pale.
CLASS_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#000000",
)
_MEAN, _BASE, _RUN, _INK = "#1f4e79", "#7f7f7f", "#c55a11", "#202020"
#: What is counted, for axes.
_IMAGES = dict(
    ood=r"OoD images $|D_{ood}|$", **{"in": r"in-distribution images $|D_{in}|$"}
)
#: Light enough for an error bar to be seen on them.
_GAIN, _LOSS = "#7db3de", "#eba55d"


class ClassChange(NamedTuple):
    """What became of one class, in percent and points.

    Attributes:
        base, other: Means of the IoU over the runs.
        change: other - base.
        std: Standard deviation of the change over pairs of runs, or None.
    """

    base: float
    other: float
    change: float
    std: float | None


class Amount(NamedTuple):
    """Seed mIoU of the runs with one number of images, in percent.

    Attributes:
        images: |D_ood|, or |D_in|.
        miou: mIoU of each run.
        mean: Their mean.
        std: Their standard deviation, or None for a single run.
        quartiles: Their quantiles 25, 50 and 75 %, linear between runs.
    """

    images: int
    miou: list[float]
    mean: float
    std: float | None
    quartiles: list[float]


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); None for a single value."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def class_changes(
    base: Sequence[Mapping[str, float | None]],
    other: Sequence[Mapping[str, float | None]],
) -> dict[str, ClassChange]:
    """How the IoU of each class changed, the largest gain first.

    Args:
        base: IoU by class of each run before the change; None: the class is absent.
        other: The same of each run after it. Where there are as many as in ``base``,
            at least two, run i is the pair of run i.

    Returns:
        The change of each class that is present in all runs.

    Raises:
        ValueError: The runs are not of the same classes.
    """
    runs = [*base, *other]
    for run in runs:
        if set(run) != set(runs[0]):
            raise ValueError(
                f"the runs have different classes: {list(runs[0])} and {list(run)}"
            )
    changes = {}
    for name in runs[0]:
        before, after = (
            [iou for run in part if (iou := run[name]) is not None]
            for part in (base, other)
        )
        if len(before) + len(after) < len(runs):
            continue
        std = None
        if len(before) == len(after):
            _, std = mean_and_std([a - b for a, b in zip(after, before)])
        means = fmean(before), fmean(after)
        changes[name] = ClassChange(*means, means[1] - means[0], std)
    return dict(sorted(changes.items(), key=lambda item: -item[1].change))


def amount_curve(runs: Sequence[tuple[int, float]]) -> list[Amount]:
    """Mean, standard deviation and quartiles of the mIoU by the number of images."""
    grouped: dict[int, list[float]] = {}
    for images, miou in runs:
        grouped.setdefault(images, []).append(miou)
    return [
        Amount(
            images,
            mious,
            *mean_and_std(mious),
            np.quantile(mious, (0.25, 0.5, 0.75)).tolist(),
        )
        for images, mious in sorted(grouped.items())
    ]


def save_class_changes(
    changes: Mapping[str, ClassChange], miou: ClassChange, path: Path, note: str = ""
) -> None:
    """Draw the change of each class's seed IoU as a bar (W-OoD's figure 6)."""
    figure = new_figure(6.4, 1.5 + 0.25 * len(changes))
    axes = figure.add_subplot()
    rows = range(len(changes))
    values = [change.change for change in changes.values()]
    axes.barh(
        rows,
        values,
        xerr=_deviations(changes.values()),
        color=[_GAIN if value >= 0 else _LOSS for value in values],
        error_kw=dict(ecolor=_INK, elinewidth=1, capsize=2),
        height=0.72,
    )
    axes.set_yticks(rows, list(changes))
    axes.set_ylim(len(changes) - 0.4, -0.6)
    axes.axvline(0, color="black", linewidth=0.8)
    for row, change in zip(rows, changes.values()):
        # In a column of their own, so that no bar and no error bar is below a number.
        axes.text(
            x=1.02,
            y=row,
            s=_points(change),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
        )
    axes.axvline(miou.change, color=_INK, linewidth=1, linestyle=":")
    axes.annotate(
        "mIoU",
        (miou.change, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )
    spread = "" if miou.std is None else " (± standard deviation)"
    axes.set_xlabel(f"change of the seed IoU in points{spread}")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    title = f"Seed mIoU {miou.base:.1f} → {miou.other:.1f} ({_points(miou)})"
    add_title(figure, title, note)
    save_figure(figure, path)


def save_amount_curve(
    curve: Sequence[Amount],
    path: Path,
    note: str = "",
    base: Sequence[Amount] = (),
    spread: Spread = "std",
    images: Images = "ood",
) -> None:
    """Draw the seed mIoU over the number of images (W-OoD's figure 5).

    Args:
        curve: What :func:`amount_curve` gives.
        path: The PNG file to write.
        note: A line below the title.
        base: The same of runs without OoD images, for a second curve.
        spread: 'std' draws means and a band of one standard deviation, 'quartiles'
            medians and a band from the lower to the upper quartile.
        images: Which images are counted: 'ood' or 'in'.
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    for part, colour, name in (
        (base, _BASE, "without OoD images"),
        (curve, _MEAN, "with OoD images" if base else ""),
    ):
        if part:
            _draw_amounts(axes, part, colour, name, spread)
    amounts = sorted({amount.images for amount in (*curve, *base)})
    # Zero has no logarithm: below 1 the axis is linear.
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    left = amounts[0] / 1.7 if amounts[0] else -0.3
    axes.set_xlim(left, 1.7 * max(1, *amounts))
    axes.set_xticks(amounts, _tick_labels(axes, amounts))
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"number of {_IMAGES[images]}")
    axes.set_ylabel("seed mIoU in percent")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, framealpha=0.9)
    title = _IMAGES[images].partition(" $")[0]
    add_title(figure, f"Seed mIoU by the number of {title}", note)
    save_figure(figure, path)


def _draw_amounts(
    axes: Axes, curve: Sequence[Amount], colour: str, name: str, spread: Spread
) -> None:
    """A line through the middles, a band of the spread, a dot for each run."""
    amounts = [amount.images for amount in curve]
    if spread == "std":
        what, middle = "mean", np.array([amount.mean for amount in curve])
        deviations = np.array(_deviations(curve))
        low, high = middle - deviations, middle + deviations
    else:
        what = "median"
        low, middle, high = np.transpose([amount.quartiles for amount in curve])
    # No band where a single run says nothing of the spread.
    single = np.array([len(amount.miou) == 1 for amount in curve])
    if not single.all():
        label = dict(std="± standard deviation", quartiles="quartiles")[spread]
        axes.fill_between(
            x=amounts,
            y1=low,
            y2=high,
            where=~single,
            color=colour,
            alpha=0.18,
            linewidth=0,
            label=f"{label}, {name}" if name else label,
        )
    label = f"{what}, {name}" if name else what
    axes.plot(amounts, middle, color=colour, linewidth=2.2, label=label)
    runs = [(amount.images, miou) for amount in curve for miou in amount.miou]
    axes.plot(
        *zip(*runs),
        "o",
        color=colour if name else _RUN,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=None if name else "run",
    )


def save_embeddings(
    embeddings: Mapping[str, np.ndarray],
    names: Sequence[str],
    is_ood: Sequence[bool],
    path: Path,
) -> None:
    """Draw embeddings of the same images side by side (W-OoD's figure 7).

    In-distribution images are dots, OoD images crosses, in their class's colour.

    Args:
        embeddings: (N, 2) points by the title of their panel.
        names: Class of each image; at most ``len(CLASS_COLOURS)`` different ones.
        is_ood: Whether each image is out of distribution.
        path: The PNG file to write.
    """
    count = len(embeddings)
    columns = count if count <= 3 else math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    figure = new_figure(4.2 * columns + 0.4, 4.2 * rows + 1)
    class_of, outside = np.asarray(names), np.asarray(is_ood, dtype=bool)
    classes = list(dict.fromkeys(names))
    for number, (title, points) in enumerate(embeddings.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        for name, colour in zip(classes, CLASS_COLOURS):
            # Crosses above: they are what the figure is about.
            for ood, marker, size in ((False, "o", 18), (True, "x", 26)):
                chosen = points[(class_of == name) & (outside == ood)]
                kind = "OoD" if ood else "in distribution"
                axes.scatter(
                    chosen[:, 0],
                    chosen[:, 1],
                    s=size,
                    c=colour,
                    marker=marker,
                    linewidths=1.2 if ood else 0,
                    alpha=0.9 if ood else 0.55,
                    label=f"{name}, {kind} ({len(chosen)})",
                )
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        # Distances are what an embedding shows: one scale for both axes.
        axes.set_aspect("equal", adjustable="datalim")
    add_legend(figure, axes, columns=min(len(classes), 2 * columns))
    save_figure(figure, path)


def _tick_labels(axes: Axes, amounts: Sequence[int]) -> list[str]:
    """The amounts; those that stand too close to the last one go a line lower."""
    places = axes.transAxes.inverted().transform(
        axes.transData.transform([(amount, 0) for amount in amounts])
    )[:, 0]
    labels, line = [], 0
    for number, amount in enumerate(amounts):
        close = number > 0 and places[number] - places[number - 1] < 0.07
        line = (line + 1) % 3 if close else 0
        labels.append("\n" * line + str(amount))
    return labels


def _deviations(items: Iterable[ClassChange | Amount]) -> list[float]:
    """The standard deviations, NaN for None: what matplotlib leaves out."""
    return [math.nan if item.std is None else item.std for item in items]


def _points(change: ClassChange) -> str:
    spread = "" if change.std is None else f" ± {change.std:.1f}"
    # Adding zero turns -0.0 into 0.0.
    return f"{round(change.change, 1) + 0.0:+.1f}{spread}"
