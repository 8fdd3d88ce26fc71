#!/usr/bin/env python
r"""Add SBD's masks to PASCAL VOC 2012: SegmentationClassAug and trainaug.txt.

With the whole of both data sets, trainaug has 10,582 images.

Example:
    python tools/dataset_converters/voc_aug.py data/VOCdevkit/VOC2012 \
        --sbd data/benchmark_RELEASE --check
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from tqdm import tqdm

from mmwood.converters.check import check_dataset, voc_aug_entries
from mmwood.converters.voc_aug import convert_voc_aug


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voc", type=Path, help="VOC2012, the folder of JPEGImages")
    parser.add_argument(
        "--sbd", type=Path, help="benchmark_RELEASE, or the dataset/ in it"
    )
    parser.add_argument(
        "--objects", action="store_true", help="write SegmentationObjectAug as well"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that hold something else",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="read every file of the finished data set; without --sbd, only this",
    )
    args = parser.parse_args()
    if not args.sbd and not args.check:
        parser.error("name SBD with --sbd, or add --check")
    return args


def main() -> None:
    args = parse_args()
    try:
        if args.sbd:
            done = convert_voc_aug(
                args.voc,
                args.sbd,
                objects=args.objects,
                overwrite=args.overwrite,
                progress=partial(tqdm, desc="masks", disable=None),
            )
            print(
                f"trainaug: {done['trainaug']} images; masks of trainaug and val: "
                f"{done['voc']} from VOC, {done['sbd']} from SBD"
            )
            print(
                f"files: {done['written']} written, {done['kept']} kept, "
                f"{done['replaced']} replaced"
            )
        if args.check:
            report = check_dataset(
                *voc_aug_entries(args.voc),
                progress=partial(tqdm, desc="check", disable=None),
            )
            print(report)
            sys.exit(1 if report.errors else 0)
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
