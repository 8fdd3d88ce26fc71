"""The options that say what one's own images come with."""

from argparse import ArgumentParser, _ArgumentGroup
from pathlib import Path
from typing import Literal, get_args

from mmwood.utils.command import add_decoding_options

#: Which images without a tag serve as OoD images: all, those that the tags list with an
#: empty field, or none.
Untagged = Literal["use", "listed", "leave-out"]


def add_source_options(parser: ArgumentParser | _ArgumentGroup) -> None:
    """Add ``--tags`` and the others that say what comes with the images."""
    parser.add_argument(
        "--tags",
        type=Path,
        metavar="FILE",
        help="the tags: a table with the columns image,labels, or an export of Label "
        "Studio or CVAT (default: tags.csv in the folder)",
    )
    parser.add_argument(
        "--candidates",
        type=Path,
        metavar="FOLDER",
        help="images that should show no class, to find hard OoD images among",
    )
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="FOLDER",
        help="true masks of tagged images, of all or of some: label PNGs (0 "
        "background, c + 1 class c, 255 void) to measure with, and for nothing else",
    )
    parser.add_argument(
        "--corrected",
        type=Path,
        metavar="FOLDER",
        help="masks that a person corrected, of some tagged images: label PNGs, which "
        "the network learns from in place of the pseudo masks",
    )
    parser.add_argument(
        "--untagged",
        choices=get_args(Untagged),
        default="use",
        help="images without a tag show no class and are OoD images; 'listed': only "
        "those that the tags list with an empty field (default: use)",
    )
    add_decoding_options(
        parser, " (default: a pipeline finds them; a copy by hand needs them)"
    )
