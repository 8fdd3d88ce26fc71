#!/usr/bin/env python
"""Draw docs/images/ia_iou_cases.png: where mIoU and IA-mIoU differ.

Corner cases of Mun et al., WACV 2024. Twice a prediction grows over one of two
instances only, a large and a small one. Then a prediction equal to the ground truth
loses all sheep of the built-in data, the smallest first. Below, a prediction of both
instances grows until one component covers them; the large instance falls into pieces;
and a component grows that touches no instance. Scores are those of the one class;
pixels that are void, or on which label and instance map disagree, count in none.

Example:
    python tools/dataset_converters/context_shapes.py data/context_shapes
    python docs/figures/ia_iou_cases.py data/context_shapes
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import SubFigure
from matplotlib.patches import Patch
from prettytable import PrettyTable

from mmwood.fileio.files import files_by_id
from mmwood.fileio.labels import read_label_png
from mmwood.functional.instance_iou import Instances, score_instances, split_instances
from mmwood.utils.command import run, script_parser
from mmwood.visualization.figures import add_title, new_figure, save_figure

FIGURE = Path(__file__).parents[1] / "images/ia_iou_cases.png"
#: The class of the built-in data that loses its instances.
NAME, LABEL = "sheep", 5
#: Rows and columns of the two instances of the drawn cases.
PLACES = dict(
    large=(slice(8, 56), slice(6, 70)),
    small=(slice(28, 36), slice(80, 88)),
)
DRAWN_SIZE = (64, 94)
DRAWN_STEPS = 8
#: Rows and columns of a component that touches none of them.
STRAY = (slice(40, 64), slice(72, 94))
#: Columns of a cut that the large instance falls apart at.
CUT = 4
#: Cases in a row of the figure.
COLUMNS = 3
#: Fractions of the steps of a removal that are drawn.
SHOWN = (0, 0.25, 0.5, 0.75)
#: What a pixel of a picture is, and its colour; what is not predicted is pale.
BACKGROUND, FOUND, MISSED, VOID, WRONG = range(5)
STATE_COLOURS = ("#eeeeee", "#4d4d4d", "#f2c9a1", "#ffffff", "#cc79a7")
STATE_NAMES = {
    FOUND: "predicted",
    MISSED: "missed",
    VOID: "void",
    WRONG: "predicted wrongly",
}
#: Okabe and Ito's colours, which the colour-blind can tell apart.
CURVES = dict(
    iou=("mIoU: counts pixels", "#0072b2", "s"),
    ia_iou=("IA-mIoU: counts instances", "#d55e00", "o"),
)


class Case(NamedTuple):
    """A prediction that changes step by step, and its scores in percent.

    ``pictures`` has, by step, a caption and an (H, W) map of the states.
    """

    title: str
    x_label: str
    x: Sequence[float]
    iou: np.ndarray
    ia_iou: np.ndarray
    pictures: Mapping[int, tuple[str, np.ndarray]]


def class_pixels(truth: Instances, label: int) -> np.ndarray:
    """The pixels of the class's instances; (H, W) bool."""
    return np.append(-1, truth.class_ids)[truth.index] == label


def class_sums(pred: np.ndarray, truth: Instances, label: int) -> np.ndarray:
    """Sum of the class's IoUs, pixels of its intersection, of its union; (3,)."""
    own = class_pixels(truth, label)
    shown = (pred == label) & ~truth.void
    ious = score_instances(pred, truth)[truth.class_ids == label]
    return np.array([ious.sum(), (shown & own).sum(), (shown | own).sum()])


def curves(sums: Sequence[np.ndarray], instances: int) -> dict[str, np.ndarray]:
    """IoU and IA-IoU in percent at every step."""
    ious, intersection, union = np.transpose(sums)
    return dict(iou=100 * intersection / union, ia_iou=100 * ious / instances)


def picture(pred: np.ndarray, truth: Instances, label: int) -> np.ndarray:
    """What each pixel of the picture of a prediction is; (H, W)."""
    own, shown = class_pixels(truth, label), pred == label
    conditions = [truth.void, own & shown, own, shown]
    return np.select(conditions, [VOID, FOUND, MISSED, WRONG], BACKGROUND)


def two_instances() -> np.ndarray:
    """Label map of the two instances of ``PLACES``, of class 1."""
    gt = np.zeros(DRAWN_SIZE, dtype=np.uint8)
    for place in PLACES.values():
        gt[place] = 1
    return gt


def drawn_case(
    title: str,
    x_label: str,
    x: Sequence[float],
    preds: Sequence[np.ndarray],
    unit: str,
) -> Case:
    """Predictions of the two instances, one a step; every second one has a picture."""
    truth = split_instances(two_instances(), background="ignore")
    sums = [class_sums(pred, truth, 1) for pred in preds]
    pictures = {
        step: (f"{x[step]:,.0f} {unit}", picture(preds[step], truth, 1))
        for step in range(2, len(preds), 2)
    }
    return Case(title, x_label, x, **curves(sums, len(PLACES)), pictures=pictures)


def growth(name: str) -> Case:
    """The prediction grows over one instance of ``PLACES`` only."""
    gt = two_instances()
    rows, columns = PLACES[name]
    preds = []
    for step in range(DRAWN_STEPS + 1):
        width = (columns.stop - columns.start) * step // DRAWN_STEPS
        preds.append(np.zeros_like(gt))
        preds[-1][rows, columns.start : columns.start + width] = 1
    return drawn_case(
        f"The prediction covers the {name} instance only\n"
        f"{gt[PLACES[name]].sum():,} of the class's {gt.sum():,} pixels",
        f"covered share of the {name} instance in percent",
        [100 * step / DRAWN_STEPS for step in range(DRAWN_STEPS + 1)],
        preds,
        "%",
    )


def spill(title: str, rows: slice, columns: slice) -> Case:
    """A perfect prediction grows over background, column after column."""
    gt = two_instances()
    preds = []
    for step in range(DRAWN_STEPS + 1):
        width = (columns.stop - columns.start) * step // DRAWN_STEPS
        preds.append(gt.copy())
        preds[-1][rows, columns.start : columns.start + width] = 1
    wrong = [int((pred > gt).sum()) for pred in preds]
    return drawn_case(title, "wrongly predicted pixels", wrong, preds, "pixels")


def merging() -> Case:
    """One component comes to cover both instances and shares its pixels among them."""
    rows, columns = PLACES["large"]
    return spill(
        "One component grows over both instances\n"
        "each then pays for its share of what is wrong",
        rows,
        slice(columns.stop, DRAWN_SIZE[1]),
    )


def stray() -> Case:
    """A component that touches no instance is in no instance's score."""
    return spill(
        "A component that touches no instance grows\n"
        "no instance of the class pays for it",
        *STRAY,
    )


def pieces() -> Case:
    """Several components cover the large instance: they count together."""
    gt = two_instances()
    rows, columns = PLACES["large"]
    preds = []
    for cuts in range(DRAWN_STEPS + 1):
        preds.append(gt.copy())
        for cut in range(1, cuts + 1):
            width = columns.stop - columns.start
            start = columns.start + width * cut // (cuts + 1) - CUT // 2
            preds[-1][rows, start : start + CUT] = 0
    return drawn_case(
        "The large instance is predicted in pieces\n"
        "they count together, whatever their number",
        "pieces of the large instance",
        range(1, DRAWN_STEPS + 2),
        preds,
        "pieces",
    )


def removal(images: Sequence[tuple[np.ndarray, np.ndarray]]) -> Case:
    """A perfect prediction loses the instances of ``LABEL``, the smallest first."""
    truths = [split_instances(*maps, background="ignore") for maps in images]
    preds = [gt.copy() for gt, _ in images]
    # Area, image and number of each instance, in the order of their removal.
    instances = sorted(
        (int(truth.areas[number]), image, number + 1)
        for image, truth in enumerate(truths)
        for number in np.flatnonzero(truth.class_ids == LABEL).tolist()
    )
    steps = sorted({round(part * len(instances)) for part in SHOWN})
    shown = most_visible(instances, steps)
    sums = [class_sums(*pair, LABEL) for pair in zip(preds, truths)]
    totals, pictures = [np.sum(sums, axis=0)], {}
    for step in range(len(instances) + 1):
        if step:
            _, image, number = instances[step - 1]
            preds[image][truths[image].index == number] = 0
            sums[image] = class_sums(preds[image], truths[image], LABEL)
            totals.append(np.sum(sums, axis=0))
        if step in steps:
            drawn = picture(preds[shown], truths[shown], LABEL)
            pictures[step] = f"{step:,} gone", drawn
    areas, of_images, _ = zip(*instances)
    return Case(
        f"{NAME}: {len(areas):,} instances in {len(set(of_images)):,} images\n"
        f"{areas[0]:,} to {areas[-1]:,} pixels, median {int(np.median(areas)):,}; "
        "pictures: one image",
        "removed instances of all images, the smallest first",
        range(len(areas) + 1),
        **curves(totals, len(areas)),
        pictures=pictures,
    )


def most_visible(instances: Sequence[tuple[int, int, int]], steps: list[int]) -> int:
    """The image that changes most often between the steps that are drawn.

    Of several the one whose least change is the largest.
    """

    def rank(image: int) -> tuple[int, int]:
        lost = [
            sum(area for area, own, _ in instances[start:stop] if own == image)
            for start, stop in pairwise(steps)
        ]
        return np.count_nonzero(lost), min(filter(None, lost), default=0)

    return max(sorted({image for _, image, _ in instances}), key=rank)


def save_cases(cases: Sequence[Case], path: Path) -> None:
    """Draw the cases in rows: of each pictures of a few steps above, curves below.

    The steps that have a picture are marked on the curves.
    """
    rows = -(-len(cases) // COLUMNS)
    figure = new_figure(4.6 * COLUMNS, 0.7 + 4.7 * rows)
    gaps = dict(wspace=0.04, hspace=0.04)
    parts = figure.subfigures(rows, COLUMNS, squeeze=False, **gaps).ravel()
    for case, part in zip(cases, parts):
        draw(case, part)
    handles, labels = parts[0].axes[-1].get_legend_handles_labels()
    used = {state for c in cases for _, m in c.pictures.values() for state in {*m.flat}}
    for state in sorted(used & set(STATE_NAMES)):
        handles.append(Patch(facecolor=STATE_COLOURS[state], edgecolor="#808080"))
        labels.append(STATE_NAMES[state])
    place = dict(loc="outside lower center", ncols=len(labels))
    figure.legend(handles, labels, fontsize=9, frameon=False, **place)
    note = "scores of the one class, without background"
    add_title(figure, "mIoU counts pixels, IA-mIoU counts instances", note)
    save_figure(figure, path)


def draw(case: Case, figure: SubFigure) -> None:
    """One case: a row of pictures above the curves."""
    grid = figure.add_gridspec(2, len(case.pictures), height_ratios=[1, 2.6])
    limits = dict(vmin=-0.5, vmax=len(STATE_COLOURS) - 0.5)
    colours = dict(cmap=ListedColormap(STATE_COLOURS), **limits)
    for column, (caption, states) in enumerate(case.pictures.values()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(states, interpolation="nearest", **colours)
        # One frame for all, whatever the image's shape is, or the curves do not align.
        axes.set_box_aspect(0.7)
        axes.set_adjustable("datalim")
        axes.set_title(caption, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color("#808080")
    axes = figure.add_subplot(grid[1, :])
    marks = dict(linewidth=2.2, markersize=6, markevery=list(case.pictures))
    for name, (text, colour, marker) in CURVES.items():
        values = getattr(case, name)
        axes.plot(case.x, values, color=colour, marker=marker, label=text, **marks)
    axes.set_ylim(-3, 103)
    axes.set_xlabel(case.x_label)
    axes.set_ylabel("score in percent")
    axes.grid(alpha=0.25)
    figure.suptitle(case.title, fontsize=10)


def read_images(data: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Label map and instance map of each image."""
    masks = files_by_id(data / "SegmentationClass")
    if not masks:
        raise FileNotFoundError(f"{data}/SegmentationClass holds no PNG file")
    return [
        (
            read_label_png(path),
            read_label_png(data / f"SegmentationObject/{name}.png", wide=True),
        )
        for name, path in masks.items()
    ]


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("data", type=Path, help="folder of the built-in data")
    parser.add_argument("--out", type=Path, default=FIGURE, help="PNG to write")
    args = parser.parse_args()
    cases = {f"growth over the {name} one": growth(name) for name in PLACES}
    cases["removal"] = removal(read_images(args.data))
    cases |= dict(merging=merging(), pieces=pieces(), stray=stray())
    save_cases(list(cases.values()), args.out)
    table = PrettyTable(["case", "step", "mIoU", "IA-mIoU"])
    for name, case in cases.items():
        for step, (caption, _) in case.pictures.items():
            scores = (f"{curve[step]:.2f}" for curve in (case.iou, case.ia_iou))
            table.add_row([name, caption, *scores])
    print(table)


if __name__ == "__main__":
    run(main)
