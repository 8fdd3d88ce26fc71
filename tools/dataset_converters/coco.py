#!/usr/bin/env python
r"""Make masks, lists and tags from COCO or LVIS annotations.

The images lie in the data set's folder, in a folder of the split's name. Name all
splits at once: tags.csv has the images of all of them.

Examples:
    python tools/dataset_converters/coco.py data/coco2014 --check \
        --split train2014=data/coco2014/annotations/instances_train2014.json \
        --split val2014=data/coco2014/annotations/instances_val2014.json

    python tools/dataset_converters/coco.py data/lvis --skip-empty \
        --split train=data/lvis/lvis_v1_train.json --categories cow horse sheep
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from prettytable import PrettyTable
from tqdm import tqdm

from mmwood.converters.check import check_dataset, coco_entries
from mmwood.converters.coco import convert_coco
from mmwood.fileio.lists import bullets, read_class_names


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a split and its annotation file; repeat for more",
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="folder of the images, relative to root (default: the split's name; "
        "LVIS: what coco_url says)",
    )
    parser.add_argument(
        "--categories",
        nargs="+",
        metavar="NAME",
        help="categories in the order of their labels, or a file with one a line "
        "(default: all, by id)",
    )
    parser.add_argument("--tags-only", action="store_true", help="make no masks")
    parser.add_argument(
        "--skip-empty",
        action="store_true",
        help="leave out images without an annotation of the categories",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that hold something else",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="read every file of the finished data set; without --split, only this",
    )
    args = parser.parse_args()
    if not args.split and not args.check:
        parser.error("name a split and its annotations with --split, or add --check")
    if any("=" not in split for split in args.split):
        parser.error("--split: expected NAME=FILE")
    return args


def main() -> None:
    args = parse_args()
    splits = dict(split.split("=", 1) for split in args.split)
    try:
        categories = args.categories
        if categories and len(categories) == 1 and Path(categories[0]).is_file():
            categories = categories[0]
        if categories:
            categories = read_class_names(categories, field="--categories")
        if splits:
            done = convert_coco(
                args.root,
                {name: Path(path) for name, path in splits.items()},
                images=args.images,
                categories=categories,
                masks=not args.tags_only,
                skip_empty=args.skip_empty,
                overwrite=args.overwrite,
                progress=partial(tqdm, desc="masks", disable=None),
            )
            table = PrettyTable(["", *splits], align="r")
            table.align[""] = "l"
            for key in next(iter(done["splits"].values())):
                values = [count[key] for count in done["splits"].values()]
                table.add_row([key.replace("_", " "), *values])
            print(table)
            if done["pixelless"]:
                print(
                    f"{len(done['pixelless'])} annotations cover no pixel and are only "
                    "in the tags:" + bullets(done["pixelless"])
                )
            print(
                f"files: {done['written']} written, {done['kept']} kept, "
                f"{done['replaced']} replaced"
            )
        if args.check:
            report = check_dataset(
                *coco_entries(args.root),
                progress=partial(tqdm, desc="check", disable=None),
            )
            print(report)
            sys.exit(1 if report.errors else 0)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
