#!/usr/bin/env python
"""Where mIoU and IA-mIoU part: corner cases of Mun et al., WACV 2024, as a figure.

Two instances of one class, a large and a small one: the prediction grows over one of
them only. With --masks, a prediction equal to the ground truth then loses the instances
of one class, the smallest of all images first. Scores are those of the one class;
pixels that are void or in dispute between class and instance map count in neither.

Example:
    python tools/analysis_tools/ia_iou_cases.py --out cases.png
    python tools/analysis_tools/ia_iou_cases.py \
        --masks data/VOCdevkit/VOC2012/SegmentationClass \
        --instances data/VOCdevkit/VOC2012/SegmentationObject \
        --list data/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt \
        --classes voc_classes.txt --class-name sheep --out cases.png
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from prettytable import PrettyTable
from tqdm import tqdm

from mmwood.fileio.files import files_by_id, write_json
from mmwood.fileio.images import check_there
from mmwood.fileio.labels import read_label_png
from mmwood.fileio.lists import TaggedImage, read_class_names, read_id_list
from mmwood.functional.instance_iou import Instances, score_instances, split_instances
from mmwood.visualization.charts import png_path
from mmwood.visualization.figures import numbers_path
from mmwood.visualization.ia_iou_cases import (
    BACKGROUND,
    FOUND,
    MISSED,
    VOID,
    Case,
    save_cases,
)

#: Rows and columns of the instances that a prediction grows over, in steps of columns.
PLACES = dict(
    large=(slice(8, 56), slice(6, 70)),
    small=(slice(28, 36), slice(80, 88)),
)
GROWTH_SIZE = (64, 94)
GROWTH_STEPS = 8
#: Shares of the steps of a removal that are drawn.
SHOWN = (0, 0.25, 0.5, 0.75)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=Path, help="folder of label maps (PNG)")
    parser.add_argument(
        "--instances",
        type=Path,
        help="folder of instance maps of the same names, such as SegmentationObject; "
        "without it instances are connected components",
    )
    parser.add_argument(
        "--list", type=Path, help="file with one image id a line (default: all masks)"
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="names of the labels from 1 on, or a file with one a line; a first name "
        "'background' is left out",
    )
    parser.add_argument(
        "--class-name", metavar="NAME", help="the class that loses its instances"
    )
    parser.add_argument(
        "--out",
        type=png_path,
        required=True,
        help="figure (PNG) to write; its numbers go to a JSON file of the same name",
    )
    args = parser.parse_args()
    needed = dict(classes=args.classes, class_name=args.class_name)
    others = dict(needed, instances=args.instances, list=args.list)
    given = [name for name, value in others.items() if value is not None]
    if args.masks is None and given:
        parser.error(f"--{given[0].replace('_', '-')} needs --masks")
    if args.masks is not None and None in needed.values():
        parser.error("--masks needs --classes and --class-name")
    return args


def own_pixels(truth: Instances, class_id: int) -> np.ndarray:
    """The pixels of the class's instances; (H, W) bool."""
    return np.append(-1, truth.class_ids)[truth.index] == class_id


def class_sums(pred: np.ndarray, truth: Instances, class_id: int) -> np.ndarray:
    """Sum of the instances' IoU, pixels of the intersection, pixels of the union.

    They are of one class and can be added up over images.

    Shape:
        - pred: (H, W); output: (3,) float64
    """
    own = own_pixels(truth, class_id)
    shown = (pred == class_id) & ~truth.void
    ious = score_instances(pred, truth)[truth.class_ids == class_id]
    return np.array([ious.sum(), (shown & own).sum(), (shown | own).sum()])


def scores(sums: np.ndarray, instances: int) -> dict[str, list[float]]:
    """IoU and IA-IoU in percent, from the (S, 3) sums of each step."""
    return dict(
        iou=(100 * sums[:, 1] / sums[:, 2]).round(4).tolist(),
        ia_iou=(100 * sums[:, 0] / instances).round(4).tolist(),
    )


def states(pred: np.ndarray, truth: Instances, class_id: int) -> np.ndarray:
    """The picture of a prediction without false positives; (H, W)."""
    own = own_pixels(truth, class_id)
    found = own & (pred == class_id)
    return np.select([truth.void, found, own], [VOID, FOUND, MISSED], BACKGROUND)


def growth(name: str) -> tuple[Case, dict]:
    """The prediction grows over one of the two instances only.

    Args:
        name: Which one of ``PLACES``.

    Returns:
        What is drawn, and the numbers.
    """
    gt = np.zeros(GROWTH_SIZE, dtype=np.uint8)
    for place in PLACES.values():
        gt[place] = 1
    truth = split_instances(gt, background="ignore")
    rows, columns = PLACES[name]
    pred = np.zeros_like(gt)
    covered, sums, pictures = [], [], {}
    for step in range(GROWTH_STEPS + 1):
        width = (columns.stop - columns.start) * step // GROWTH_STEPS
        pred[rows, columns.start : columns.start + width] = 1
        covered.append(100 * step / GROWTH_STEPS)
        sums.append(class_sums(pred, truth, 1))
        if step and step % 2 == 0:
            pictures[step] = f"{covered[-1]:.0f} %", states(pred, truth, 1)
    area, total = int(gt[PLACES[name]].sum()), int(gt.sum())
    values = scores(np.array(sums), len(truth.areas))
    case = Case(
        f"The prediction covers the {name} instance only\n"
        f"{area:,} of the class's {total:,} pixels",
        f"covered share of the {name} instance in percent",
        covered,
        **values,
        pictures=pictures,
    )
    return case, dict(area=area, class_area=total, covered=covered, **values)


class Source(NamedTuple):
    """Where the images' instances are.

    Attributes:
        paths: Label maps.
        instance_paths: Instance maps, or None for each label map.
        class_id: Label of the class that is looked at.
        num_classes: With background.
    """

    paths: list[Path]
    instance_paths: list[Path | None]
    class_id: int
    num_classes: int

    def read(self, image: int) -> tuple[np.ndarray, Instances, np.ndarray]:
        """Label map, instances, and the numbers of the class's, the smallest first.

        Raises:
            ValueError: A map does not fit the classes or the other map.
        """
        path, own_path = self.paths[image], self.instance_paths[image]
        gt = read_label_png(path)
        try:
            truth = split_instances(
                gt,
                None
                if own_path is None
                else read_label_png(own_path, "instance map", wide=True),
                self.num_classes,
                background="ignore",
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        own = np.flatnonzero(truth.class_ids == self.class_id)
        return gt, truth, own[np.argsort(truth.areas[own], kind="stable")] + 1


def find_source(args: argparse.Namespace) -> Source:
    """The files that the arguments name.

    Raises:
        FileNotFoundError: One is missing.
        ValueError: There is no such class, or no mask.
    """
    classes = args.classes
    if len(classes) == 1 and Path(classes[0]).is_file():
        classes = classes[0]
    names = read_class_names(classes, field="--classes")
    names = names[1:] if names[:1] == ("background",) else names
    if args.class_name not in names:
        raise ValueError(
            f"--class-name: {args.class_name!r} is none of the classes {list(names)}"
        )
    for name in ("masks", "instances"):
        folder = getattr(args, name)
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"--{name}: there is no folder {folder}")
    if args.list is None:
        found = files_by_id(args.masks)
        items = [TaggedImage(name, None, str(path)) for name, path in found.items()]
    elif args.list.is_file():
        items = read_id_list(args.list)
    else:
        raise FileNotFoundError(f"--list: there is no file {args.list}")
    if not items:
        raise ValueError(
            f"--masks: {args.masks} holds no PNG file"
            if args.list is None
            else f"--list: {args.list} lists no image"
        )
    paths = [args.masks / f"{item.image}.png" for item in items]
    check_there(items, paths, "--masks")
    instance_paths = [None] * len(paths)
    if args.instances is not None:
        # By the whole id, which may hold folders.
        instance_paths = [
            args.instances / path.relative_to(args.masks) for path in paths
        ]
        check_there(items, instance_paths, "--instances")
    return Source(
        paths, instance_paths, names.index(args.class_name) + 1, len(names) + 1
    )


def removal(args: argparse.Namespace) -> tuple[Case, dict]:
    """A perfect prediction loses the instances of a class, the smallest first.

    A removed instance is background in the prediction. It changes its own image only,
    so each image is gone through once, and the steps of all are put in order.

    Returns:
        What is drawn, and the numbers.

    Raises:
        FileNotFoundError, ValueError: As :func:`find_source`; no image has an instance
            of the class.
    """
    source = find_source(args)
    start, images, areas, changes, disputed = np.zeros(3), [], [], [], 0
    for image in tqdm(range(len(source.paths)), desc="remove", disable=None):
        pred, truth, own = source.read(image)
        disputed += truth.conflicting
        if not len(own):
            continue
        sums = [class_sums(pred, truth, source.class_id)]
        for number in own:
            pred[truth.index == number] = 0
            sums.append(class_sums(pred, truth, source.class_id))
        start += sums[0]
        images += [image] * len(own)
        areas += truth.areas[own - 1].tolist()
        changes += np.diff(sums, axis=0).tolist()
    if not areas:
        raise ValueError(
            f"--class-name: no image of {args.list or args.masks} has an instance of "
            f"{args.class_name!r}"
        )
    if disputed:
        print(f"{disputed} pixels are left out: label and instance maps disagree")
    # Stable: instances of one image stay in the order in which they were removed.
    order = np.argsort(areas, kind="stable")
    images, areas = np.array(images)[order], np.array(areas)[order]
    sums = np.cumsum([start, *np.array(changes)[order]], axis=0)
    shown = sorted({round(share * len(areas)) for share in SHOWN})
    shown_image = choose_image(images, areas, shown)
    pred, truth, own = source.read(shown_image)
    pictures = {}
    for step in shown:
        gone = own[: (images[:step] == shown_image).sum()]
        pred[np.isin(truth.index, gone)] = 0
        pictures[step] = f"{step:,} gone", states(pred, truth, source.class_id)
    values = scores(sums, len(areas))
    total = len(set(images.tolist()))
    case = Case(
        f"{args.class_name}: {len(areas):,} instances in {total:,} images\n"
        f"{areas[0]:,} to {areas[-1]:,} pixels, median {int(np.median(areas)):,}; "
        "pictures: one image",
        "removed instances of all images, the smallest first",
        range(len(areas) + 1),
        **values,
        pictures=pictures,
    )
    numbers = dict(
        class_name=args.class_name,
        masks=str(args.masks),
        instance_source=(
            "connected components" if args.instances is None else str(args.instances)
        ),
        list=None if args.list is None else str(args.list),
        images=total,
        disputed_pixels=disputed,
        areas=areas.tolist(),
        shown_image=source.paths[shown_image].stem,
        removed=list(case.x),
        **values,
    )
    return case, numbers


def choose_image(images: np.ndarray, areas: np.ndarray, shown: list[int]) -> int:
    """The image that changes most visibly between the steps that are drawn.

    It is the one that changes most often; of several, the one whose least change is
    the largest.

    Args:
        images, areas: Of each instance in the order of removal. Shape: (N,).
        shown: The steps.
    """

    def rank(image: int) -> tuple[int, int]:
        own = np.where(images == image, areas, 0)
        lost = [own[a:b].sum() for a, b in pairwise(shown)]
        return np.count_nonzero(lost), min(filter(None, lost), default=0)

    return max(np.unique(images).tolist(), key=rank)


def main() -> None:
    args = parse_args()
    try:
        numbers = numbers_path(args.out)
        results = {f"growth_{name}": growth(name) for name in PLACES}
        if args.masks is not None:
            results["removal"] = removal(args)
        cases = [case for case, _ in results.values()]
        save_cases(cases, args.out, "scores of the one class, without background")
        write_json(numbers, {name: values for name, (_, values) in results.items()})
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    table = PrettyTable(["case", "step", "mIoU", "IA-mIoU"])
    table.align = "r"
    table.align["case"] = "l"
    for name, (case, _) in results.items():
        for step, (caption, _) in case.pictures.items():
            row = (f"{values[step]:.2f}" for values in (case.iou, case.ia_iou))
            table.add_row([name, caption, *row])
    print(table)
    print(f"figure: {args.out}\nnumbers: {numbers}")


if __name__ == "__main__":
    main()
