#!/usr/bin/env python
r"""Write label PNGs as annotations that people can correct in their tool.

LABELS is a folder that mmwood wrote (pseudo masks, predictions), or any folder of label
PNGs: 0 background, c + 1 class c, 255 void. masks_from_annotations.py is the way back.

Examples:
    python tools/dataset_converters/masks_to_annotations.py \
        work_dirs/my_images/masks_wood/pseudo_labels \
        --images work_dirs/my_images/data/images --format label-studio --out to_correct

    python tools/dataset_converters/masks_to_annotations.py masks --images photos \
        --classes boat train --format coco,cvat --out to_correct
"""

import argparse
import os
from pathlib import Path

from mmwood.converters.command import (
    FORMATS,
    add_address_option,
    add_label_folder_options,
    bar,
    class_names,
    formats,
)
from mmwood.utils.command import run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    add_label_folder_options(parser)
    parser.add_argument(
        "--format",
        type=formats,
        required=True,
        metavar="NAMES",
        help=f"{', '.join(FORMATS)}; several with commas",
    )
    add_address_option(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that mmwood did not write, or that were changed since",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmwood.converters.annotations import (
        find_label_files,
        folder_of_labels,
        refuse_changed,
        write_annotations,
    )
    from mmwood.converters.label_studio import local_address

    classes = args.classes and class_names(args.classes, "--classes")
    folder, labels = folder_of_labels(args.labels, classes)
    refuse_changed(args.out, args.format, args.overwrite)
    images, without = find_label_files(folder, args.images, labels)
    address = args.image_url or local_address(Path(os.path.abspath(args.images)).name)
    written = write_annotations(
        args.out, images, labels, args.format, address, args.overwrite, bar("formats")
    )
    print(f"{len(images)} label maps in {', '.join(map(str, written))}")
    if without:
        print(f"{without} images in {args.images} have no label map: left out")


if __name__ == "__main__":
    run(main)
