#!/usr/bin/env python
r"""Make tags.csv for a folder of images from a table, Label Studio or CVAT.

Examples:
    python tools/dataset_converters/tags.py my_images --table labels.csv \
        --image-column file --label-column species --images jpg --check

    python tools/dataset_converters/tags.py my_images --label-studio export.json

    python tools/dataset_converters/tags.py my_images --cvat annotations.xml
"""

import argparse
from pathlib import Path

from mmwood.converters.check import tag_entries
from mmwood.converters.command import (
    add_check_options,
    end_with_check,
)
from mmwood.converters.cvat import read_cvat
from mmwood.converters.label_studio import read_label_studio
from mmwood.converters.source import TagSource
from mmwood.converters.table import read_table
from mmwood.converters.tags import convert_tags
from mmwood.fileio.lists import read_class_names
from mmwood.utils.command import run, script_parser
from mmwood.utils.tables import number_table


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("root", type=Path, help="folder of the data set")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--table", type=Path, help="CSV: a row an image, or a row an image and label"
    )
    source.add_argument(
        "--label-studio", type=Path, help="export of Label Studio: JSON, JSON-MIN, CSV"
    )
    source.add_argument(
        "--cvat", type=Path, help="annotations.xml of 'CVAT for images 1.1'"
    )
    parser.add_argument(
        "--images",
        default="",
        metavar="FOLDER",
        help="folder that names of images start from, relative to root (default: root)",
    )
    parser.add_argument(
        "--classes",
        help="file with the class names, one a line, in the order of their labels "
        "(default: CVAT's order, or the alphabet)",
    )
    add_check_options(parser, "a source")
    table = parser.add_argument_group("tables")
    table.add_argument("--image-column", default="image", metavar="NAME")
    table.add_argument("--label-column", default="labels", metavar="NAME")
    table.add_argument(
        "--separator", default=";", help="between the labels of a field (default: ;)"
    )
    table.add_argument(
        "--delimiter", help="between fields (default: comma, semicolon or tab)"
    )
    table.add_argument("--encoding", default="utf-8-sig", help="default: UTF-8")
    studio = parser.add_argument_group("Label Studio")
    studio.add_argument(
        "--control", help="name of the <Choices> (default: the only one, or 'choice')"
    )
    studio.add_argument(
        "--image-key", default="image", help="name of the image (default: image)"
    )
    args = parser.parse_args()
    if not (args.table or args.label_studio or args.cvat or args.check):
        parser.error("name a --table, a --label-studio or --cvat export, or --check")
    return args


def read_source(args: argparse.Namespace) -> TagSource | None:
    if args.table:
        return read_table(
            args.table,
            args.image_column,
            args.label_column,
            args.separator,
            args.delimiter,
            args.encoding,
        )
    if args.label_studio:
        return read_label_studio(args.label_studio, args.control, args.image_key)
    return read_cvat(args.cvat) if args.cvat else None


def refuse_own_table(args: argparse.Namespace) -> None:
    """Keep the table, which may have more columns, from being written over."""
    written = args.root / "tags.csv"
    if args.table and args.overwrite and written.resolve() == args.table.resolve():
        raise ValueError(
            f"--table: {args.table} is the file that --overwrite would replace: rename "
            "it first"
        )


def main() -> None:
    args = parse_args()
    source = read_source(args)
    if source is not None:
        refuse_own_table(args)
        done = convert_tags(
            args.root,
            source,
            images=args.images,
            classes=args.classes and read_class_names(args.classes),
            # The names in a table are the user's own, those of a tool are not.
            search=not args.table,
            overwrite=args.overwrite,
        )
        for note in source.notes:
            print(note)
        print(number_table(["class", "images"], done["classes"].items()))
        print(f"{done['images']} images, {done['untagged']} of them without a tag")
    if args.check:
        lists = {"tags.csv": tag_entries(args.root / "tags.csv", args.root)}
        classes = read_class_names("classes.txt", args.root, "data set")
        end_with_check(lists, classes)


if __name__ == "__main__":
    run(main)
