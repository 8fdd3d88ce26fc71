#!/usr/bin/env python
r"""Give reviewed OoD images to another trainer, as images that show no object.

These are the images that a row of the manifest keeps and none rejects: YOLO's
background images, COCO images without an annotation, nnU-Net's and MMSegmentation's
images with masks of zeros, or a list.

Example:
    python tools/export_ood.py ood.csv --format yolo --out hard_negatives
"""

import argparse
from pathlib import Path
from typing import get_args

from mmwood.converters.command import bar, class_names, print_files
from mmwood.converters.hard_negatives import Trainer, export_hard_negatives
from mmwood.ood.results import read_summary
from mmwood.utils.command import run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("manifest", help="the .csv of mining, reviewed")
    parser.add_argument(
        "--format", required=True, choices=get_args(Trainer), help="whose data"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a new or empty folder"
    )
    parser.add_argument(
        "--link", action="store_true", help="symbolic links instead of copies of images"
    )
    parser.add_argument(
        "--like",
        type=Path,
        metavar="JSON",
        help="of the data set that the images go to: coco: its annotations, for "
        "categories and free ids; nnunet: its dataset.json, for labels, channels and "
        "the file ending",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="for coco and nnunet without --like: the classes, or a file with one a "
        "line (default: those of the manifest's summary)",
    )
    parser.add_argument(
        "--part",
        choices=("train", "held-out"),
        help="a part alone: held-out are about one in five images, the same ones every "
        "time, to measure with (default: all)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmwood.datasets.ood import OoDDataset

    if not args.manifest.endswith(".csv"):
        raise ValueError(f"MANIFEST must be a .csv file, got {args.manifest}")
    dataset = OoDDataset(ann_file=args.manifest, part=args.part)
    if args.classes:
        classes = class_names(args.classes, "--classes")
    else:
        classes = tuple(read_summary(args.manifest).get("classes") or ())
        classes = classes or tuple(sorted(dataset.class_sources))
    images = [
        dataset.get_data_info(number)["img_path"] for number in range(len(dataset))
    ]
    done = export_hard_negatives(
        images, args.out, args.format, classes, args.like, args.link, bar("images")
    )
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in done["suffixes"].items())
    print(f"{args.out}: {done['images']} images without an object ({kinds})")
    print_files(done)


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv"))
