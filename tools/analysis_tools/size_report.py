#!/usr/bin/env python
"""How large a data set's objects are, and how runs score them by size.

Figures 1b and 6 of Mun et al., WACV 2024, and the columns IA_S, IA_M, IA_L of its
tables. Small is below 32 x 32 pixels, medium below 96 x 96, as in COCO.

Example:
    python tools/analysis_tools/size_report.py data \
        data/VOCdevkit/VOC2012/SegmentationClass \
        --instances data/VOCdevkit/VOC2012/SegmentationObject \
        --list data/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt \
        --classes voc_classes.txt --out voc_sizes.png
    python tools/analysis_tools/size_report.py runs \
        CE=work_dirs/ce/ia_iou.json SB-CE=work_dirs/sbce/ia_iou.json --out sizes.png
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
from mmwood.fileio.scores import read_instance_scores
from mmwood.functional.instance_iou import split_instances
from mmwood.utils.command import named_path, png_path, run, script_parser
from mmwood.utils.tables import number_table
from mmwood.visualization.figures import numbers_path
from mmwood.visualization.size_charts import (
    RUN_COLOURS,
    SIZE_COLOURS,
    save_size_distribution,
    save_size_scores,
)

SIZES = tuple(SIZE_COLOURS)


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
    for verb in (data, runs):
        verb.add_argument(
            "--out",
            type=png_path,
            required=True,
            help="figure (PNG) to write; its numbers go to a JSON file of the same "
            "name",
        )
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
    names = class_names(args.classes, "--classes")
    names = names[1:] if names[:1] == ("background",) else names
    if not names:
        raise ValueError(f"--classes: {args.classes} names no class")
    limits = tuple(args.size_limits)
    if not 0 < limits[0] < limits[1]:
        raise ValueError(f"--size-limits must ascend from above 0, got {limits}")
    paths = find_masks(args.masks, args.list)
    counts = np.zeros((len(names) + 1, len(SIZES)), dtype=np.int64)
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
    )
    write_json(args.numbers, numbers)


def report_runs(args: argparse.Namespace) -> None:
    """Compare the runs, print them, draw them."""
    names = [name for name, _ in args.runs]
    if len(set(names)) != len(names):
        raise ValueError(f"two runs have one name: {names}")
    if len(names) > len(RUN_COLOURS):
        raise ValueError(f"expected at most {len(RUN_COLOURS)} runs, got {len(names)}")
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
    args.numbers = numbers_path(args.out)
    (report_data if args.verb == "data" else report_runs)(args)
    print(f"figure: {args.out}\nnumbers: {args.numbers}")


if __name__ == "__main__":
    run(main)
