"""Charts of object sizes: what a data set has of each, and how runs score them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmwood.fileio.scores import InstanceAreas, InstanceScores
from mmwood.visualization.figures import add_legend, add_title, new_figure, save_figure

#: Small, medium and large; small ones are what the figure is about.
SIZE_COLOURS = dict(small="#d55e00", medium="#b9d3e8", large="#4f8fc0")
#: Okabe and Ito's colours, which the colour-blind can tell apart.
RUN_COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#7f7f7f",
    "#000000",
)
_TITLES = dict(all="all (IA-mIoU)", small="small", medium="medium", large="large")


def save_size_distribution(
    counts: Mapping[str, Sequence[int]], path: Path, title: str, note: str = ""
) -> None:
    """Draw the fraction of small, medium and large instances of each class.

    Stacked bars (figures 1b and 6 of Mun et al., WACV 2024), the class with the
    largest fraction of small instances at the top, all classes together below.

    Args:
        counts: Numbers of small, medium and large instances by class; classes without
            any have no bar.
        path: The PNG file to write.
        title: A line above.
        note: Another one below it.

    Raises:
        ValueError: No class has an instance.
    """
    rows = [(name, values) for name, values in counts.items() if sum(values)]
    if not rows:
        raise ValueError("no class has an instance")
    rows.sort(key=lambda row: (-row[1][0] / sum(row[1]), -row[1][1] / sum(row[1])))
    rows.append(("all classes", [sum(column) for column in zip(*counts.values())]))
    # The line of all classes stands apart.
    places = [*range(len(rows) - 1), len(rows) - 0.5]
    figure = new_figure(7.2, 1.5 + 0.27 * len(rows))
    axes = figure.add_subplot()
    lefts = [0.0] * len(rows)
    for column, (size, colour) in enumerate(SIZE_COLOURS.items()):
        widths = [100 * values[column] / sum(values) for _, values in rows]
        axes.barh(places, widths, left=lefts, color=colour, height=0.78, label=size)
        for place, left, width, (_, values) in zip(places, lefts, widths, rows):
            # A narrower segment has no room for its number.
            if width >= 1.4 + 1.6 * len(str(values[column])):
                axes.text(
                    x=left + width / 2,
                    y=place,
                    s=str(values[column]),
                    ha="center",
                    va="center_baseline",
                    fontsize=8,
                    color="black" if size == "medium" else "white",
                )
        lefts = [left + width for left, width in zip(lefts, widths)]
    # Right of the axes: how many instances each bar stands for.
    beside: dict[str, Any] = dict(
        transform=axes.get_yaxis_transform(), ha="right", fontsize=8
    )
    axes.text(1.09, -0.9, "instances", **beside)
    for place, (_, values) in zip(places, rows):
        axes.text(1.09, place, f"{sum(values):,}", va="center_baseline", **beside)
    axes.set_yticks(places, [name for name, _ in rows])
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("fraction of the instances in percent (numbers: instances)")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    add_legend(figure, axes, columns=3)
    add_title(figure, title, note)
    save_figure(figure, path)


def save_size_boxes(data: Mapping[str, InstanceAreas], path: Path) -> None:
    """Draw how large the instances of each class are, data sets side by side.

    A box from the lower to the upper quartile with the median, whiskers to the
    quantiles 5 and 95 %; areas on a logarithmic axis (figure 6 of Mun et al.,
    WACV 2024). Lines stand where medium and large instances begin.

    Args:
        data: Quantiles by the name of the data set; at most ``len(RUN_COLOURS)``.
        path: The PNG file to write.
    """
    names = list(dict.fromkeys(n for areas in data.values() for n in areas.quantiles))
    figure = new_figure(max(6.4, 1.2 + 0.3 * len(names) * (len(data) + 0.6)), 4.6)
    axes = figure.add_subplot()
    width = 0.8 / len(data)
    parts = ("whislo", "q1", "med", "q3", "whishi")
    for number, (dataset, areas) in enumerate(data.items()):
        offset = (number - (len(data) - 1) / 2) * width
        boxes = {
            place + offset: dict(zip(parts, values), fliers=[])
            for place, name in enumerate(names)
            if (values := areas.quantiles.get(name))
        }
        colour = RUN_COLOURS[number]
        axes.bxp(
            list(boxes.values()),
            positions=list(boxes),
            widths=0.86 * width,
            patch_artist=True,
            showfliers=False,
            manage_ticks=False,
            boxprops=dict(facecolor=colour, edgecolor=colour),
            medianprops=dict(color="white", linewidth=1.6),
            whiskerprops=dict(color=colour),
            capprops=dict(color=colour),
        )
        axes.scatter([], [], s=60, color=colour, marker="s", label=dataset)
    axes.set_yscale("log")
    for size, limit in zip(("medium", "large"), next(iter(data.values())).size_limits):
        axes.axhline(limit, color="black", linewidth=0.8, linestyle=":")
        axes.annotate(
            f" {size}",
            (1, limit),
            xycoords=axes.get_yaxis_transform(),
            xytext=(2, 0),
            textcoords="offset points",
            fontsize=8,
            va="bottom",
        )
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("pixels of an instance")
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    add_legend(figure, axes, columns=min(len(data), 4))
    note = "box: quartiles and median; whiskers: 5 and 95 %"
    add_title(figure, "Sizes of the instances by class", note)
    save_figure(figure, path)


def save_size_scores(
    runs: Mapping[str, InstanceScores], path: Path, note: str = ""
) -> None:
    """Draw IA-mIoU in all and by size of several runs side by side.

    Args:
        runs: Scores by the name of the run; at most ``len(RUN_COLOURS)``.
        path: The PNG file to write.
        note: A line below the title.
    """
    figure = new_figure(max(6.4, 1.4 + 1.7 * len(runs)), 4.2)
    axes = figure.add_subplot()
    width = 0.8 / len(runs)
    for number, (name, scores) in enumerate(runs.items()):
        offset = (number - (len(runs) - 1) / 2) * width
        for place, iou in enumerate(scores.iou.values()):
            axes.bar(
                place + offset,
                0 if iou is None else iou,
                width=0.92 * width,
                color=RUN_COLOURS[number],
                label=None if place else name,
            )
            axes.annotate(
                "–" if iou is None else f"{iou:.1f}",
                (place + offset, iou or 0),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    instances = next(iter(runs.values())).instances
    labels = [f"{title}\n{instances[k]:,} instances" for k, title in _TITLES.items()]
    axes.set_xticks(range(len(labels)), labels)
    axes.axvline(0.5, color="black", linewidth=0.6, linestyle=":")
    axes.set_ylabel("instance-aware mIoU in percent")
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    add_legend(figure, axes, columns=min(len(runs), 4))
    add_title(figure, "Instance-aware mIoU by object size", note)
    save_figure(figure, path)
