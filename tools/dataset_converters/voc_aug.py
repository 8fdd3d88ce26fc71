#!/usr/bin/env python
r"""Add SBD's masks to PASCAL VOC 2012: SegmentationClassAug and trainaug.txt.

With the whole of both data sets, trainaug has 10,582 images.

Example:
    python tools/dataset_converters/voc_aug.py data/VOCdevkit/VOC2012 \
        --sbd data/benchmark_RELEASE --check
"""

import argparse
from pathlib import Path

from mmwood.converters.check import voc_aug_entries
from mmwood.converters.command import (
    add_check_options,
    bar,
    end_with_check,
    print_files,
)
from mmwood.converters.voc_aug import convert_voc_aug
from mmwood.utils.command import run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("voc", type=Path, help="VOC2012, the folder of JPEGImages")
    parser.add_argument(
        "--sbd", type=Path, help="benchmark_RELEASE, or the dataset/ in it"
    )
    parser.add_argument(
        "--objects", action="store_true", help="write SegmentationObjectAug as well"
    )
    add_check_options(parser, "--sbd")
    args = parser.parse_args()
    if not args.sbd and not args.check:
        parser.error("name SBD with --sbd, or add --check")
    return args


def main() -> None:
    args = parse_args()
    if args.sbd:
        done = convert_voc_aug(
            args.voc,
            args.sbd,
            objects=args.objects,
            overwrite=args.overwrite,
            progress=bar("masks"),
        )
        print(
            f"trainaug: {done['trainaug']} images; masks of trainaug and val: "
            f"{done['voc']} from VOC, {done['sbd']} from SBD"
        )
        print_files(done)
    if args.check:
        entries = voc_aug_entries(args.voc)
        end_with_check(*entries)


if __name__ == "__main__":
    run(main)
