#!/usr/bin/env python
"""A picture of the seeds of several runs side by side."""

import argparse

from mmwood.fileio.decoding import check_decoding
from mmwood.fileio.images import save_picture
from mmwood.utils.command import add_decoding_options, named_path, png_path, run
from mmwood.visualization.comparison import one_image_per_class, seed_comparison


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        type=named_path,
        metavar="NAME=FOLDER",
        help="what to call a run, and its pseudo_labels folder (with strided maps)",
    )
    parser.add_argument("--images", required=True, help="folder of the images")
    parser.add_argument("--masks", help="folder of the masks")
    parser.add_argument("--suffix", default=".jpg", help="suffix of the images")
    parser.add_argument(
        "--ids",
        nargs="+",
        help="image ids (default: for each class the first image that shows it alone)",
    )
    parser.add_argument(
        "--maps-only", action="store_true", help="leave out the seeds' labels"
    )
    parser.add_argument(
        "--out", type=png_path, default="comparison.png", help="PNG to write"
    )
    add_decoding_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runs = dict(args.runs)
    ids = args.ids or one_image_per_class(next(iter(runs.values())))
    if not ids:
        raise ValueError("no image shows one class alone: name images with --ids")
    sheet = seed_comparison(
        runs,
        ids,
        args.images,
        args.masks,
        args.suffix,
        with_labels=not args.maps_only,
        decoding=check_decoding(args.levels, args.bands, "--"),
    )
    save_picture(sheet, args.out)
    print(f"{len(ids)} images: {args.out}")


if __name__ == "__main__":
    run(main)
