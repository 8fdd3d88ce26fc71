#!/usr/bin/env python
r"""Build PASCAL-B: a VOC folder with about equally many objects of each class and size.

Images are chosen from the annotations of LVIS, and of COCO for what LVIS lacks (Mun et
al., WACV 2024). The published set was reviewed by hand, but its list is not the one
that comes out here. An interrupted build is resumed.

Example:
    python tools/dataset_converters/pascal_b.py data/pascal_b \
        --lvis lvis_v1_val.json \
        --coco instances_train2017.json instances_val2017.json \
        --images data/coco --place link --review data/pascal_b_review

Then `python tools/review_ood.py data/pascal_b_review/review.csv`: keep right
annotations, reject wrong ones. Build again with --exclude and that file, and --force:
other images take the rejected ones' places. Repeat until no row is unseen.
"""

import argparse
from collections import Counter
from pathlib import Path

from mmwood.converters.command import bar
from mmwood.converters.pascal_b.annotations import CLASS_TABLE
from mmwood.converters.pascal_b.build import LIST, PLACES, build
from mmwood.converters.pascal_b.choice import SIZES
from mmwood.converters.pascal_b.review import REVIEW
from mmwood.fileio.candidates import STATES, read_manifest
from mmwood.utils.command import run, script_parser
from mmwood.utils.tables import number_table
from mmwood.visualization.size_charts import save_size_distribution


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("out_dir", type=Path, help="folder to write, laid out as VOC")
    parser.add_argument(
        "--lvis",
        type=Path,
        nargs="+",
        default=(),
        metavar="JSON",
        help="annotations of LVIS v1: the images are theirs",
    )
    parser.add_argument(
        "--coco",
        type=Path,
        nargs="+",
        default=(),
        metavar="JSON",
        help="annotations of COCO (instances): with --lvis they add potted plants, and "
        "images in which they show a class that LVIS has not annotated are left out; "
        "alone they give all classes",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="folder of the images, or of val2017/ and train2017/: each chosen image "
        "must be there and have the size that its annotation says",
    )
    parser.add_argument(
        "--place",
        choices=PLACES,
        default="none",
        help="link or copy the images to JPEGImages, or leave them alone "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--number",
        type=int,
        default=1137,
        help="how many images to choose (default: %(default)s, as published)",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the choice")
    parser.add_argument(
        "--exclude",
        type=Path,
        metavar="LIST",
        help="file with the images that people rejected, an id or file name a line; "
        "or the .csv of --review: images with a rejected row are left out",
    )
    parser.add_argument(
        "--size-limits",
        nargs=2,
        type=int,
        default=(32**2, 96**2),
        metavar=("MEDIUM", "LARGE"),
        help="pixels from which on an instance is medium and large "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--class-table",
        type=Path,
        default=CLASS_TABLE,
        metavar="CSV",
        help="which categories are which class: class,source,category "
        "(default: the table of the package)",
    )
    parser.add_argument(
        "--review",
        type=Path,
        metavar="FOLDER",
        help="write pictures of the masks there, one for each class of each image, and "
        "review.csv for tools/review_ood.py (its probability: the fraction of the "
        "pixels that show the class); decisions that are there stay; needs --images",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace this data set where it was built with other parameters",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    record = build(**vars(args), progress=bar("draw"))
    images = len(record["images"])
    counts = {name: list(row.values()) for name, row in record["instances"].items()}
    save_size_distribution(
        counts,
        args.out_dir / "sizes.png",
        f"PASCAL-B, seed {args.seed}: {images:,} images",
        "small below {:,} pixels, medium below {:,}".format(*args.size_limits),
    )
    totals = [sum(column) for column in zip(*counts.values())]
    rows = [
        (name, *row, sum(row), record["images_of_class"][name])
        for name, row in counts.items()
    ]
    rows.append(("all classes", *totals, sum(totals), images))
    print(number_table(["class", *SIZES, "instances", "images"], rows))
    print(f"{images} images of {record['candidates']} that could be chosen")
    if images < args.number:
        print(f"--number {args.number} is more than there are")
    if record["not_drawn"]:
        print(
            f"{record['not_drawn']} annotated instances of them are not seen: covered, "
            "without a pixel, or named twice"
        )
    for reason, count in record["left_out"].items():
        print(f"left out: {count} images: {reason}")
    if args.lvis and not args.coco:
        print(
            "without --coco there are no potted plants, and classes that LVIS has not "
            "annotated in an image are taken to be absent"
        )
    if args.review is not None:
        manifest = args.review / REVIEW
        states = Counter(row.state for _, row in read_manifest(manifest))
        found = ", ".join(f"{states[state]} {state}" for state in STATES)
        print(f"review: {manifest}: {found}")
    print(f"list: {args.out_dir / LIST}\nfigure: {args.out_dir / 'sizes.png'}")
    print(f"numbers: {args.out_dir / 'counts.csv'}, {args.out_dir / 'pascal_b.json'}")


if __name__ == "__main__":
    run(main)
