"""Pictures and curves of the cases in which mIoU and IA-mIoU part."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import SubFigure
from matplotlib.patches import Patch

from mmwood.visualization.figures import add_title, new_figure, save_figure

__all__ = [
    "BACKGROUND",
    "FOUND",
    "MISSED",
    "STATE_COLOURS",
    "VOID",
    "Case",
    "save_cases",
]

#: What a pixel of a picture is.
BACKGROUND, FOUND, MISSED, VOID = range(4)
#: The colours of these; the pale ones are what a prediction does not show.
STATE_COLOURS = ("#eeeeee", "#4d4d4d", "#f2c9a1", "#ffffff")
#: Okabe and Ito's, which the colour-blind can tell apart.
_CURVES = dict(
    iou=("mIoU: counts pixels", "#0072b2", "s"),
    ia_iou=("IA-mIoU: counts instances", "#d55e00", "o"),
)


class Case(NamedTuple):
    """A prediction that changes step by step, and its scores.

    Attributes:
        title: One or two lines.
        x_label: What ``x`` is.
        x: (S,) ascending.
        iou, ia_iou: (S,) in percent.
        pictures: By the place of a step in ``x`` a caption and an (H, W) map of
            ``BACKGROUND``, ``FOUND``, ``MISSED`` and ``VOID``.
    """

    title: str
    x_label: str
    x: Sequence[float]
    iou: Sequence[float]
    ia_iou: Sequence[float]
    pictures: Mapping[int, tuple[str, np.ndarray]]


def save_cases(cases: Sequence[Case], path: Path, note: str = "") -> None:
    """Draw the cases side by side: pictures of a few steps above, curves below.

    The steps that have a picture are marked on the curves.

    Args:
        cases: At least one, each with a picture.
        path: The PNG file to write.
        note: A line below the title.
    """
    figure = new_figure(4.6 * len(cases), 5.4)
    parts = figure.subfigures(1, len(cases), wspace=0.04, squeeze=False)[0]
    for case, part in zip(cases, parts):
        _draw(case, part)
    curves, labels = parts[0].axes[-1].get_legend_handles_labels()
    used = {state for c in cases for _, m in c.pictures.values() for state in {*m.flat}}
    names = {FOUND: "predicted", MISSED: "missed", VOID: "void"}
    for state in sorted(used & set(names)):
        curves.append(Patch(facecolor=STATE_COLOURS[state], edgecolor="#808080"))
        labels.append(names[state])
    figure.legend(
        *(curves, labels),
        loc="outside lower center",
        ncols=len(labels),
        fontsize=9,
        frameon=False,
    )
    add_title(figure, "mIoU counts pixels, IA-mIoU counts instances", note)
    save_figure(figure, path)


def _draw(case: Case, figure: SubFigure) -> None:
    """One case: a row of pictures, and the axes of the curves as the last ones."""
    grid = figure.add_gridspec(2, len(case.pictures), height_ratios=[1, 2.6])
    for column, (caption, states) in enumerate(case.pictures.values()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(
            states,
            cmap=ListedColormap(STATE_COLOURS),
            vmin=-0.5,
            vmax=len(STATE_COLOURS) - 0.5,
            interpolation="nearest",
        )
        # One frame for all, whatever the image's shape is, or the curves do not align.
        axes.set_box_aspect(0.7)
        axes.set_adjustable("datalim")
        axes.set_title(caption, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color("#808080")
    axes = figure.add_subplot(grid[1, :])
    for name, (label, colour, marker) in _CURVES.items():
        axes.plot(
            *(case.x, getattr(case, name)),
            color=colour,
            linewidth=2.2,
            marker=marker,
            markersize=6,
            markevery=list(case.pictures),
            label=label,
        )
    axes.set_ylim(-3, 103)
    axes.set_xlabel(case.x_label)
    axes.set_ylabel("score in percent")
    axes.grid(alpha=0.25)
    figure.suptitle(case.title, fontsize=10)
