#!/usr/bin/env python
r"""Make mini_voc from PASCAL VOC 2012: 1,299 images of its val, 320 pixels long.

Example:
    python tools/dataset_converters/mini_voc.py data/VOCdevkit/VOC2012 \
        --out data/mini_voc --check
"""

import argparse
from pathlib import Path

from mmwood.converters.check import mini_voc_entries
from mmwood.converters.command import (
    add_check_options,
    bar,
    end_with_check,
    print_files,
)
from mmwood.converters.mini_voc.build import convert_mini_voc
from mmwood.utils.command import run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument(
        "voc", nargs="?", type=Path, help="VOC2012, the folder of JPEGImages"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data/mini_voc"), help="folder of the data set"
    )
    add_check_options(parser, "VOC2012")
    args = parser.parse_args()
    if not args.voc and not args.check:
        parser.error("name the folder VOC2012, or add --check")
    return args


def main() -> None:
    args = parse_args()
    if args.voc:
        done = convert_mini_voc(args.voc, args.out, args.overwrite, bar("images"))
        print(
            f"train: {done['train']} images, val: {done['val']}; instance maps: "
            f"{'of all' if done['objects'] else 'none, VOC2012 has none'}"
        )
        print_files(done)
    if args.check:
        end_with_check(*mini_voc_entries(args.out))


if __name__ == "__main__":
    run(main)
