#!/usr/bin/env python
r"""Look at masks in a browser, the least confident first, class by class of each image.

Keep what is right, reject a class that is wrong, or the whole image (X). LABELS is a
folder that mmwood wrote (pseudo masks, or predictions of tools/predict.py), or any
folder of label PNGs: 0 background, c + 1 class c, 255 void. Every decision is on disk
before the page shows it. The same command continues a review.

Then tools/exclude_masks.py writes the masks without what was rejected, or
tools/run_pipeline.py --exclude takes the review.

Example:
    python tools/review_masks.py work_dirs/my_images/filter/filtered \
        --images work_dirs/my_images/data/images \
        --scores work_dirs/my_images/seeds_wood/pseudo_labels --out review.csv
"""

import argparse
from pathlib import Path

from mmwood.converters.command import add_label_folder_options, bar, class_names
from mmwood.ood.review.command import (
    add_page_options,
    find_port,
    make_cache,
    open_review,
    show_page,
)
from mmwood.utils.command import (
    add_decoding_options,
    refuse_below,
    run,
    script_parser,
)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    add_label_folder_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="CSV",
        help="the decisions; a JSON beside it says what they are about",
    )
    parser.add_argument(
        "--scores",
        type=Path,
        metavar="DIR",
        help="folder of pseudo labels with score maps of the same images: confidence "
        "is the mean score of a class over its pixels (default: maps or probabilities "
        "that LABELS has; without any the smallest masks come first)",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="masks have changed: decisions about these are lost, the others stay",
    )
    add_decoding_options(parser)
    add_page_options(parser, "masks")
    args = parser.parse_args()
    refuse_below(parser, args, ["page_size"])
    return args


def main() -> None:
    args = parse_args()
    port = find_port(args)

    from mmwood.converters.mask_review import AREA, make_mask_review, open_masks
    from mmwood.fileio.decoding import check_decoding
    from mmwood.ood.review.masks import ImageAlone, MaskPictures
    from mmwood.ood.review.session import Session
    from mmwood.ood.review.subject import masks_subject

    decoding = check_decoding(args.levels, args.bands, "--")
    classes = args.classes and class_names(args.classes, "--classes")
    masks = open_masks(args.labels, classes)
    made = make_mask_review(
        masks, args.images, args.out, args.scores, args.update, bar("masks")
    )
    print(f"{len(made.rows)} classes of masks, confidence: {made.confidence}")
    if made.empty:
        print(f"{made.empty} masks show no class: nothing to review")
    if made.without:
        print(f"{made.without} images in {args.images} have no mask: left out")
    if made.changed:
        print(f"{made.changed} decisions were about masks that have changed: lost")
    with open_review(args.out) as review:
        pictures = MaskPictures(
            review.images,
            [row.label for row in made.rows],
            [row.value for row in made.rows],
            make_cache(args, review),
            decoding,
        )
        session = Session(
            review,
            pictures,
            ImageAlone(pictures),
            page_size=args.page_size,
            subject=masks_subject(made.confidence == AREA),
        )
        show_page(session, args, port)


if __name__ == "__main__":
    run(main)
