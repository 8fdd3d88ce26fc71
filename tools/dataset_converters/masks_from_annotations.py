#!/usr/bin/env python
r"""Make label PNGs of annotations that people drew or corrected in their tool.

ANNOTATIONS is COCO JSON (polygons, run lengths), Label Studio's JSON (BrushLabels,
PolygonLabels) or CVAT for images 1.1 (masks, polygons). 0 is background, c + 1 class c.
Regions of the label void are 255, those of background 0.

Where regions overlap, the later one is seen, in CVAT after the layer (z_order), and in
COCO the smaller one.

Example:
    python tools/dataset_converters/masks_from_annotations.py export.json \
        --images photos --classes to_correct/classes.txt --out corrected
"""

import argparse
from pathlib import Path

from mmwood.converters.command import bar, class_names, print_files
from mmwood.converters.regions import read_regions, regions_to_masks
from mmwood.fileio.lists import bullets
from mmwood.utils.command import run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument(
        "annotations", type=Path, metavar="ANNOTATIONS", help="a .json or .xml file"
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the images; masks have their paths from here, with the suffix .png",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        required=True,
        metavar="NAME",
        help="classes in the order of their labels, or a file with one a line, such as "
        "the classes.txt beside the annotations that mmwood wrote",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace masks that hold something else",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    classes = class_names(args.classes, "--classes")
    source = read_regions(args.annotations)
    done = regions_to_masks(
        source, args.images, classes, args.out, args.overwrite, bar("masks")
    )
    for note in source.notes:
        print(note)
    if shared := done["overlapping"]:
        rule = "the smaller one" if source.small_on_top else "the later one"
        print(
            f"{len(shared)} images have regions of different labels that overlap; "
            f"{rule} is seen:"
            + bullets([f"{name}: {count} pixels" for name, count in shared.items()])
        )
    if done["pixelless"]:
        count = len(done["pixelless"])
        print(f"{count} regions cover no pixel:" + bullets(done["pixelless"]))
    print(f"{args.out}: masks of {done['images']} images")
    print_files(done)


if __name__ == "__main__":
    run(main)
