#!/usr/bin/env python
r"""Cut big images into tiles with tags of their own, and stitch masks of tiles.

FOLDER is what configs/pipelines/own_images.py takes. Tiles are squares; the last row
and column of an image are shifted inward, so that each pixel is in a tile and none is
padded. Tags come from regions that people drew, or from a table of tiles: cut without
tags, look at the tiles, and write a table with the columns image,labels, the image
being a tile's file name.

With --stitch, masks of the tiles become masks of the whole images; where tiles overlap,
the tile counts whose centre is nearer to the pixel.

Examples:
    python tools/dataset_converters/tiles.py scans --size 512 --overlap 64 \
        --regions annotations.xml --out scan_tiles

    python tools/dataset_converters/tiles.py scan_tiles \
        --stitch work_dirs/scan_tiles/masks_wood/pseudo_labels --out scan_masks
"""

import argparse
from pathlib import Path

from mmwood.converters.command import bar, class_names, print_files
from mmwood.utils.command import run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        metavar="IMAGES",
        help="folder of the big images; with --stitch, that of their tiles",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder to write to"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that hold something else",
    )
    cut = parser.add_argument_group("cutting")
    cut.add_argument(
        "--size", type=int, default=512, help="side of a tile in pixels (default: 512)"
    )
    cut.add_argument(
        "--overlap",
        type=int,
        default=0,
        metavar="PIXELS",
        help="what neighbours share at least (default: 0)",
    )
    tags = cut.add_mutually_exclusive_group()
    tags.add_argument(
        "--regions",
        type=Path,
        metavar="FILE",
        help="polygons, masks or boxes: COCO JSON, Label Studio's JSON or CVAT for "
        "images 1.1. A tile has the classes whose regions touch it; those of an "
        "annotated image that none touches show no class",
    )
    tags.add_argument(
        "--tile-tags",
        type=Path,
        metavar="TABLE",
        help="a table with the columns image,labels (labels separated by semicolons), "
        "the image being a tile's file name",
    )
    cut.add_argument(
        "--min-pixels",
        type=int,
        default=1,
        metavar="N",
        help="pixels of a tile that regions of a class must cover (default: 1); a tile "
        "that shows fewer, and no other class, is left out",
    )
    cut.add_argument(
        "--image-tags",
        type=Path,
        metavar="TABLE",
        help="tags of whole images, columns image,labels. Tiles of an image without "
        "tags show no class. Those of a tagged image are left out unless other tags "
        "are known of them: what a whole image shows is not in each of its tiles, and "
        "a tile with a tag that it does not show teaches a classifier what is wrong",
    )
    cut.add_argument(
        "--inherit",
        action="store_true",
        help="give tiles the tags of their image all the same; only where each class "
        "is nearly everywhere in its images",
    )
    cut.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="classes in the order of their labels, or a file with one a line "
        "(default: all tags, by the alphabet)",
    )
    parser.add_argument_group("the way back").add_argument(
        "--stitch",
        type=Path,
        metavar="LABELS",
        help="label PNGs of the tiles: a folder that mmwood wrote (pseudo masks, "
        "predictions), or any folder of label PNGs with the tiles' names",
    )
    args = parser.parse_args()
    if args.inherit and not args.image_tags:
        parser.error("--inherit: name the tags of the images with --image-tags")
    if args.min_pixels != 1 and not args.regions:
        parser.error("--min-pixels is for --regions")
    if args.stitch and (args.regions or args.tile_tags or args.image_tags):
        parser.error("--stitch takes no tags: cut in one command, stitch in another")
    return args


def cut(args: argparse.Namespace) -> None:
    from mmwood.converters.regions import read_regions
    from mmwood.converters.table import read_table
    from mmwood.converters.tiles.cut import cut_images
    from mmwood.converters.tiles.grid import find_big_images
    from mmwood.converters.tiles.tags import resolve_tile_tags

    images = find_big_images(args.folder, args.size, args.overlap)
    tags = None
    if args.regions or args.tile_tags or args.image_tags:
        tags = resolve_tile_tags(
            args.folder,
            images,
            args.regions and read_regions(args.regions, True, "--regions"),
            args.min_pixels,
            args.tile_tags and read_table(args.tile_tags),
            args.image_tags and read_table(args.image_tags),
            args.inherit,
            args.classes and class_names(args.classes, "--classes"),
        )
    done = cut_images(
        args.folder, images, args.out, tags, args.overwrite, bar("images")
    )
    for note in tags.notes if tags else ():
        print(note)
    print(f"{args.out}: {done['tiles']} tiles of {done['images']} images", end="")
    if tags is None:
        print(". Nothing is known of them: write a table for --tile-tags")
    else:
        print(
            f", {done['tagged']} with a tag, {done['untagged']} that show no class; "
            f"{done['unknown']} unknown ones are left out"
        )
    print_files(done)


def stitch(args: argparse.Namespace) -> None:
    from mmwood.converters.tiles.stitch import stitch_masks

    done = stitch_masks(
        args.folder, args.stitch, args.out, args.overwrite, bar("images")
    )
    for count, what in (
        (done["background"], "tiles that show no class have no mask: background (0)"),
        (done["void"], "unknown tiles: void (255)"),
        (done["resized"], "masks are resized to their tiles, to the nearest pixel"),
        (done["others"], "label maps are of no tile: left out"),
        (done["left_out"], "images have no tile that was written: left out"),
    ):
        if count:
            print(f"{count} {what}")
    print(f"{args.out}: masks of {done['images']} images")
    print_files(done)


def main() -> None:
    args = parse_args()
    if args.stitch:
        stitch(args)
    else:
        cut(args)


if __name__ == "__main__":
    run(main)
