#!/usr/bin/env python
"""Draw the data set "context shapes": objects that come with their contexts.

Example:
    python tools/dataset_converters/context_shapes.py data/context_shapes \
        --preview context_shapes.png
"""

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image

from mmwood.converters.command import bar
from mmwood.converters.context_shapes import generate
from mmwood.fileio.files import atomic_write
from mmwood.fileio.images import read_picture
from mmwood.fileio.labels import read_label_png
from mmwood.fileio.tables import read_rows
from mmwood.utils.command import run, script_parser
from mmwood.utils.processes import end_children_with_this
from mmwood.visualization.contact_sheet import contact_sheet
from mmwood.visualization.panels import overlay_label


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("out_dir", type=Path, help="folder to write, laid out as VOC")
    parser.add_argument("--train", type=int, default=600, help="training images")
    parser.add_argument("--val", type=int, default=150, help="validation images")
    parser.add_argument("--ood", type=int, default=200, help="images without objects")
    parser.add_argument("--size", type=int, default=128, help="long side in pixels")
    parser.add_argument(
        "--correlation",
        type=float,
        default=0.95,
        help="probability that a class stands on its own context",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes that draw (default: one per processor)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace this data set where it was drawn with other parameters",
    )
    parser.add_argument(
        "--preview",
        type=Path,
        help="write a contact sheet (PNG) of images, their masks and OoD images",
    )
    return parser.parse_args()


def preview(root: Path, images: int = 24, ood: int = 12) -> np.ndarray:
    """The first training images, each beside its mask, then the first OoD images."""
    columns = ("image", "split", "class", "context")
    table = read_rows(root / "contexts.csv", columns)
    rows = [dict(zip(columns, row)) for _, row in table]
    pictures, captions = [], []
    for name in dict.fromkeys(r["image"] for r in rows if r["split"] == "train"):
        if len(captions) == 2 * images:
            break
        image = read_picture(root / f"JPEGImages/{name}.jpg")
        classes = read_label_png(root / f"SegmentationClass/{name}.png")
        pictures += [image, overlay_label(image, classes)]
        pairs = [f"{r['class']}/{r['context']}" for r in rows if r["image"] == name]
        captions += [" + ".join(pairs), ""]
    for row in [r for r in rows if r["split"] == "ood"][:ood]:
        pictures.append(read_picture(root / f"OoD/{row['image']}.jpg"))
        captions.append(f"OoD: {row['context']}")
    return contact_sheet(pictures, captions, columns=8, cell=(224, 192))


def main() -> None:
    args = parse_args()
    end_children_with_this()
    fields = {key: value for key, value in vars(args).items() if key != "preview"}
    record = generate(**fields, progress=bar("draw"))
    if args.preview:
        sheet = preview(args.out_dir)
        with atomic_write(args.preview) as temporary:
            Image.fromarray(sheet).save(temporary, format="PNG")
    counts = record["counts"]
    images = ", ".join(f"{split} {n}" for split, n in counts["images"].items())
    print(f"{args.out_dir}: {images} images")
    for name, instances in counts["instances_of_class"].items():
        print(f"  {name}: {instances} in {counts['images_of_class'][name]} images")


if __name__ == "__main__":
    run(main)
