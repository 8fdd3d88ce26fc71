#!/usr/bin/env python
"""Copy one's own images at one scale, with their tags, for the stages of a pipeline.

The first stage of configs/pipelines/own_images.py. The images are only read.

Example:
    python tools/dataset_converters/own_images.py my_images \
        --out work_dirs/my_images/data --long-side 320
"""

import os
from pathlib import Path

from mmwood.fileio.decoding import check_decoding
from mmwood.own_images.command import add_source_options
from mmwood.utils.command import run, script_parser
from mmwood.utils.processes import end_children_with_this


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("data", type=Path, help="folder of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--long-side", type=int, required=True, help="of the copies, in pixels"
    )
    add_source_options(parser)
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes (default: one per processor)",
    )
    args = parser.parse_args()
    if args.long_side < 1 or args.workers < 1:
        parser.error("--long-side and --workers must be at least 1")
    decoding = check_decoding(args.levels, args.bands, "--")
    end_children_with_this()

    from mmwood.own_images.prepare import prepare
    from mmwood.own_images.source import read_own_images

    own = read_own_images(
        args.data,
        args.tags,
        args.candidates,
        args.masks,
        args.untagged,
        args.corrected,
    )
    for note in own.notes:
        print(note)
    done = prepare(own, args.out, args.long_side, args.workers, decoding)
    print(
        f"{args.out}: {done['images']} tagged images, {done['ood']} without a tag, "
        f"{done['candidates']} candidates, {done['masks']} masks, {done['corrected']} "
        f"corrected ones; {done['written']} copies written, the others were there"
    )


if __name__ == "__main__":
    run(main)
