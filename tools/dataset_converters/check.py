#!/usr/bin/env python
r"""Read every file of a data set and compare images, masks and tags.

Exits with 1 if there are errors. Data sets of the converters in this folder are
checked by these: --check.

Examples:
    python tools/dataset_converters/check.py data/mini_voc \
        --list ImageSets/Segmentation/train.txt --masks SegmentationClass \
        --classes classes.txt

    python tools/dataset_converters/check.py my_images --tags tags.csv \
        --classes train boat
"""

import argparse
from pathlib import Path

from mmwood.converters.check import list_entries, tag_entries
from mmwood.converters.command import class_names, end_with_check
from mmwood.utils.command import run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="list with one image id a line; repeat for more",
    )
    parser.add_argument(
        "--tags",
        action="append",
        default=[],
        metavar="FILE",
        help="CSV with the columns image and labels; repeat for more",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        required=True,
        metavar="NAME",
        help="class names in the order of their labels, or a file with one a line",
    )
    parser.add_argument(
        "--images", default="JPEGImages", help="folder of a list's images"
    )
    parser.add_argument(
        "--img-suffix", default=".jpg", help="what ids lack (default: .jpg)"
    )
    parser.add_argument("--masks", help="folder of the masks")
    parser.add_argument("--annotations", help="folder of VOC annotations, for the tags")
    parser.add_argument(
        "--ignore-index", type=int, default=255, help="void in masks (default: 255)"
    )
    args = parser.parse_args()
    if not args.list and not args.tags:
        parser.error("name a --list or --tags")
    return args


def main() -> None:
    args = parse_args()
    root = args.root
    masks = root / args.masks if args.masks else None
    annotations = root / args.annotations if args.annotations else None
    lists = {
        name: list_entries(
            root / name,
            root / args.images,
            args.img_suffix,
            masks,
            annotations=annotations,
        )
        for name in args.list
    }
    lists |= {name: tag_entries(root / name, root, masks) for name in args.tags}
    classes = class_names(args.classes, "--classes", root)
    end_with_check(lists, classes, args.ignore_index)


if __name__ == "__main__":
    run(main)
