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
from pathlib import Path

from mmwood.converters.check import coco_entries
from mmwood.converters.coco import convert_coco
from mmwood.converters.command import (
    add_check_options,
    bar,
    class_names,
    end_with_check,
    print_files,
)
from mmwood.fileio.lists import bullets
from mmwood.utils.command import named_path, run, script_parser
from mmwood.utils.tables import number_table


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        type=named_path,
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
    add_check_options(parser, "--split")
    args = parser.parse_args()
    if not args.split and not args.check:
        parser.error("name a split and its annotations with --split, or add --check")
    return args


def convert(args: argparse.Namespace) -> None:
    splits = {name: Path(path) for name, path in args.split}
    done = convert_coco(
        args.root,
        splits,
        images=args.images,
        categories=args.categories and class_names(args.categories, "--categories"),
        masks=not args.tags_only,
        skip_empty=args.skip_empty,
        overwrite=args.overwrite,
        progress=bar("masks"),
    )
    counts = done["splits"].values()
    keys = next(iter(counts))
    rows = [(key.replace("_", " "), *(count[key] for count in counts)) for key in keys]
    print(number_table(["", *splits], rows))
    if done["pixelless"]:
        print(
            f"{len(done['pixelless'])} annotations cover no pixel and are only in the "
            "tags:" + bullets(done["pixelless"])
        )
    print_files(done)


def main() -> None:
    args = parse_args()
    if args.split:
        convert(args)
    if args.check:
        entries = coco_entries(args.root)
        end_with_check(*entries)


if __name__ == "__main__":
    run(main)
