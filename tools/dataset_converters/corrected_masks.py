#!/usr/bin/env python
r"""Put masks that a person corrected in the places of pseudo masks.

Both are of one size. The folder that is written has the form of the pseudo masks'.

Example:
    python tools/dataset_converters/corrected_masks.py \
        work_dirs/my_images/masks_wood/pseudo_labels --corrected corrected \
        --out work_dirs/my_images/corrected
"""

from pathlib import Path

from mmwood.converters.corrected import replace_corrected
from mmwood.utils.command import run, script_parser


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument(
        "labels", type=Path, metavar="LABELS", help="folder of the pseudo masks"
    )
    parser.add_argument(
        "--corrected",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="label PNGs with the names of some of them",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to"
    )
    args = parser.parse_args()
    done = replace_corrected(args.labels, args.corrected, args.out)
    print(f"{args.out}: {done['images']} masks, {done['corrected']} of them corrected")


if __name__ == "__main__":
    run(main)
