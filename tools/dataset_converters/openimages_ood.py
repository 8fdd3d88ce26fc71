#!/usr/bin/env python
r"""List the images of Open Images that show none of the foreground classes.

The list is for tools/mine_ood.py --candidates. With --image-ids, --download says where
those that are not in --images yet can be had; run again to see what is left.

Example:
    python tools/dataset_converters/openimages_ood.py --classes voc \
        --descriptions oidv6-class-descriptions.csv \
        --hierarchy bbox_labels_600_hierarchy.json \
        --labels train-annotations-human-imagelabels.csv \
        train-annotations-machine-imagelabels.csv \
        --out data/openimages/candidates.txt --images data/openimages/train \
        --image-ids train-images-with-labels-with-rotation.csv \
        --download data/openimages/download.csv
"""

import argparse
from pathlib import Path

from mmwood.converters.command import bar
from mmwood.converters.openimages.candidates import summary_tables, write_candidates
from mmwood.converters.openimages.foreground import read_foreground
from mmwood.utils.command import run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--classes",
        required=True,
        metavar="voc|coco|CSV",
        help="foreground classes and the classes of Open Images that show them, a CSV "
        "file with the columns class,name (and label, descendants) or one that comes "
        "with mmwood",
    )
    parser.add_argument(
        "--descriptions", required=True, help="CSV file: the names of all labels"
    )
    parser.add_argument(
        "--hierarchy", required=True, help="JSON file: what is below a label"
    )
    parser.add_argument(
        "--labels",
        required=True,
        nargs="+",
        help="CSV files: image-level labels, human-verified and machine-generated",
    )
    parser.add_argument("--out", required=True, help="the list to write, a .txt")
    parser.add_argument(
        "--images", help="folder of the images, ImageID.jpg (default: the list's)"
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.5,
        help="least confidence of a machine-generated label (default: 0.5)",
    )
    parser.add_argument(
        "--no-parts",
        action="store_true",
        help="keep images that show only a part of a foreground class that the "
        "hierarchy has: a face, a bicycle's wheel",
    )
    parser.add_argument(
        "--image-ids", nargs="+", default=[], help="CSV files: the images' URLs"
    )
    parser.add_argument(
        "--download", help="CSV file to write: the URLs of candidates still missing"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    foreground = read_foreground(
        args.classes, args.descriptions, args.hierarchy, parts=not args.no_parts
    )
    summary = write_candidates(
        foreground,
        args.labels,
        args.out,
        images=args.images,
        confidence=args.confidence,
        image_ids=args.image_ids,
        download=args.download,
        progress=bar("read"),
    )
    for text in foreground.renamed:
        print(f"note: {text}")
    print(summary_tables(summary))
    print(f"wrote {args.out} and {Path(args.out).with_suffix('.json')}")
    if args.download:
        print(f"wrote {args.download}")


if __name__ == "__main__":
    run(main)
