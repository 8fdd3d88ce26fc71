#!/usr/bin/env python
"""How large a data set's objects are, and how runs score them by size.

Figures 1b and 6 of Mun et al., WACV 2024, the columns IA_S, IA_M, IA_L of its
tables, and whether mIoU and IA-mIoU rank methods alike. Small is below 32 x 32 pixels,
medium below 96 x 96, as in COCO.

Example:
    python tools/analysis_tools/size_report.py data \
        data/VOCdevkit/VOC2012/SegmentationClass \
        --instances data/VOCdevkit/VOC2012/SegmentationObject \
        --list data/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt \
        --classes voc_classes.txt --out voc_sizes.png
    python tools/analysis_tools/size_report.py runs \
        CE=work_dirs/ce/ia_iou.json SB-CE=work_dirs/sbce/ia_iou.json --out sizes.png
    python tools/analysis_tools/size_report.py boxes \
        VOC=voc_sizes.json PASCAL-B=pascal_b_sizes.json --out boxes.png
    python tools/analysis_tools/size_report.py rank \
        IRN=irn.json AdvCAM=advcam.json SEAM=seam.json
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmwood.converters.command import class_names
from mmwood.fileio.files import files_by_id, write_json
from mmwood.fileio.images import check_there
from mmwood.fileio.labels import read_label_png
from mmwood.fileio.lists import read_id_list
from mmwood.fileio.scores import (
    AREA_QUANTILES,
    read_instance_areas,
    read_instance_scores,
    read_metrics,
)
from mmwood.utils.command import add_figure_option, named_path, run, script_parser
from mmwood.utils.tables import number_table
from mmwood.visualization.figures import numbers_path
from mmwood.visualization.size_charts import (
    RUN_COLOURS,
    SIZE_COLOURS,
    save_size_boxes,
    save_size_distribution,
    save_size_scores,
)

SIZES = tuple(SIZE_COLOURS)
#: What the verb rank compares with the first; the last three where all runs have them.
RANKED = ("mIoU", "IA-mIoU", "IA_S", "IA_M", "IA_L")


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    data = verbs.add_parser("data", help="sizes of the instances of each class")
    data.add_argument("masks", type=Path, help="folder of label maps (PNG)")
    data.add_argument(
        "--instances",
        type=Path,
        help="folder of instance maps of the same names, such as SegmentationObject; "
        "without it instances are connected components",
    )
    data.add_argument(
        "--list", type=Path, help="file with one image id a line (default: all masks)"
    )
    data.add_argument(
        "--classes",
        nargs="+",
        required=True,
        metavar="NAME",
        help="names of the labels from 1 on, or a file with one a line; a first name "
        "'background' is left out",
    )
    data.add_argument(
        "--size-limits",
        nargs=2,
        type=int,
        default=(32**2, 96**2),
        metavar=("MEDIUM", "LARGE"),
        help="pixels from which on an instance is medium and large "
        "(default: %(default)s)",
    )
    runs = verbs.add_parser("runs", help="scores of several runs by size")
    runs.add_argument(
        "runs",
        nargs="+",
        type=named_path,
        metavar="NAME=ia_iou.json",
        help="name of a run and the out file of its mmwood.IAIoUMetric",
    )
    boxes = verbs.add_parser("boxes", help="areas of several data sets' instances")
    boxes.add_argument(
        "runs",
        nargs="+",
        type=named_path,
        metavar="NAME=sizes.json",
        help="name of a data set and the numbers that the verb data wrote of it",
    )
    rank = verbs.add_parser(
        "rank", help="Spearman's rho of the runs' mIoU and their IA-mIoU"
    )
    rank.add_argument(
        "runs",
        nargs="+",
        type=named_path,
        metavar="NAME=metrics.json",
        help="name of a run and what tools/test.py --out wrote of it, with mIoU and "
        "IA-mIoU; three runs or more",
    )
    for verb in (data, runs, boxes):
        add_figure_option(verb)
    return parser.parse_args()


def find_masks(folder: Path, list_path: Path | None) -> list[Path]:
    """The masks of a folder, or those that a list names."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder of masks {folder}")
    if list_path is None:
        paths = list(files_by_id(folder).values())
        if not paths:
            raise FileNotFoundError(f"{folder} holds no PNG file")
        return paths
    if not list_path.is_file():
        raise FileNotFoundError(f"--list: there is no file {list_path}")
    items = read_id_list(list_path)
    if not items:
        raise ValueError(f"--list: {list_path} lists no image")
    paths = [folder / f"{item.image}.png" for item in items]
    check_there(items, paths, "--list")
    return paths


def report_data(args: argparse.Namespace) -> None:
    """Count the instances, print them, draw them."""
    from mmwood.functional.instance_iou import split_instances

    names = class_names(args.classes, "--classes")
    names = names[1:] if names[:1] == ("background",) else names
    if not names:
        raise ValueError(f"--classes: {args.classes} names no class")
    limits = tuple(args.size_limits)
    if not 0 < limits[0] < limits[1]:
        raise ValueError(f"--size-limits must ascend from above 0, got {limits}")
    paths = find_masks(args.masks, args.list)
    counts = np.zeros((len(names) + 1, len(SIZES)), dtype=np.int64)
    areas: list[list[int]] = [[] for _ in counts]
    conflicting = 0
    for path in tqdm(paths, desc="sizes", disable=None):
        instances = None
        if args.instances is not None:
            # By the whole id, which may hold folders.
            own = args.instances / path.relative_to(args.masks)
            if not own.is_file():
                raise FileNotFoundError(
                    f"--instances: {path} has no instance map {own} (--list can leave "
                    "images out)"
                )
            instances = read_label_png(own, "instance map", wide=True)
        try:
            found = split_instances(
                read_label_png(path), instances, len(counts), background="ignore"
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        np.add.at(counts, (found.class_ids, np.digitize(found.areas, limits)), 1)
        for label, area in zip(found.class_ids, found.areas.tolist()):
            areas[label].append(area)
        conflicting += found.conflicting
    source = "connected components"
    if args.instances is not None:
        source = f"instance maps {args.instances.name}"
    rows = []
    by_class = {name: row.tolist() for name, row in zip(names, counts[1:])}
    for name, row in (*by_class.items(), ("all classes", counts.sum(axis=0).tolist())):
        cells = (f"{n} ({100 * n / max(1, sum(row)):.0f} %)" for n in row)
        rows.append([name, sum(row), *cells])
    print(
        f"{args.masks}: {len(paths)} images; instances: {source}; small: below "
        f"{limits[0]} pixels, medium: below {limits[1]}"
    )
    if conflicting:
        print(f"{conflicting} pixels are left out: label and instance maps disagree")
    print(number_table(["class", "instances", *SIZES], rows))
    save_size_distribution(
        by_class,
        args.out,
        f"Sizes of the instances of {len(paths):,} images",
        f"small below {limits[0]:,} pixels, medium below {limits[1]:,}; {source}",
    )
    numbers = dict(
        masks=str(args.masks),
        instance_source=source,
        images=len(paths),
        size_limits=list(limits),
        disputed_pixels=conflicting,
        classes={name: dict(zip(SIZES, row)) for name, row in by_class.items()},
        area_quantiles=AREA_QUANTILES,
        areas={
            name: np.quantile(own, AREA_QUANTILES).tolist() if own else None
            for name, own in zip(names, areas[1:])
        },
    )
    write_json(args.numbers, numbers)


def check_names(args: argparse.Namespace, most: int | None = len(RUN_COLOURS)) -> None:
    """Refuse runs of one name, and more than can be told apart by colour."""
    names = [name for name, _ in args.runs]
    if len(set(names)) != len(names):
        raise ValueError(f"two runs have one name: {names}")
    if most is not None and len(names) > most:
        raise ValueError(f"expected at most {most} runs, got {len(names)}")


def report_boxes(args: argparse.Namespace) -> None:
    """Compare the areas of data sets, draw them."""
    check_names(args)
    data = {name: read_instance_areas(path) for name, path in args.runs}
    first = data[args.runs[0][0]].size_limits
    for name, path in args.runs:
        if data[name].size_limits != first:
            raise ValueError(
                f"{path} has size_limits {data[name].size_limits}, {args.runs[0][1]} "
                f"has {first}"
            )
    save_size_boxes(data, args.out)
    numbers = {
        name: dict(file=path, areas=data[name].quantiles) for name, path in args.runs
    }
    write_json(args.numbers, dict(area_quantiles=AREA_QUANTILES, data=numbers))


def report_rank(args: argparse.Namespace) -> None:
    """Print the runs' scores, and how alike these rank the runs."""
    from scipy.stats import spearmanr

    check_names(args, most=None)
    if len(args.runs) < 3:
        raise ValueError(f"expected three runs or more, got {len(args.runs)}")
    runs = {name: read_metrics(path) for name, path in args.runs}
    for name, path in args.runs:
        for key in RANKED[:2]:
            if runs[name].get(key) is None:
                raise ValueError(f"{path} has no {key}: it has {list(runs[name])}")
    columns = {key: [run.get(key) for run in runs.values()] for key in RANKED}
    columns = {key: values for key, values in columns.items() if None not in values}
    table = number_table(["run", *columns], zip(runs, *columns.values()))
    # A score that is the same in all runs ranks nothing.
    rho = [
        f"{spearmanr(columns['mIoU'], values).statistic:.2f}"
        if min(len(set(values)), len(set(columns["mIoU"]))) > 1
        else "-"
        for values in columns.values()
    ]
    table.add_row(["Spearman's rho with mIoU", *rho])
    print(table)


def report_runs(args: argparse.Namespace) -> None:
    """Compare the runs, print them, draw them."""
    check_names(args)
    names = [name for name, _ in args.runs]
    runs = {name: read_instance_scores(path) for name, path in args.runs}
    first = runs[names[0]].settings
    for name, path in args.runs:
        for key, value in runs[name].settings.items():
            if value != first[key]:
                raise ValueError(
                    f"{path} has {key} {value}, {args.runs[0][1]} has {first[key]}: "
                    "expected runs on one data set with one setting"
                )
    rows = []
    for name, scores in runs.items():
        ious = ("-" if iou is None else f"{iou:.2f}" for iou in scores.iou.values())
        rows.append([name, *ious])
    print(number_table(["run", "IA-mIoU", "IA_S", "IA_M", "IA_L"], rows))
    low, high = first["size_limits"]
    note = f"small below {low:,} pixels, medium below {high:,}"
    if first["background"] == "ignore":
        note += "; without background"
    save_size_scores(runs, args.out, note)
    numbers = dict(
        settings=first,
        runs={name: dict(file=path, iou=runs[name].iou) for name, path in args.runs},
    )
    write_json(args.numbers, numbers)


def main() -> None:
    args = parse_args()
    if args.verb == "rank":
        report_rank(args)
        return
    args.numbers = numbers_path(args.out)
    reports = dict(data=report_data, runs=report_runs, boxes=report_boxes)
    reports[args.verb](args)
    print(f"figure: {args.out}\nnumbers: {args.numbers}")


if __name__ == "__main__":
    run(main)
