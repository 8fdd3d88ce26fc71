#!/usr/bin/env python
r"""Write masks without what a person rejected in tools/review_masks.py.

Pixels of rejected classes become void (255), never background. Images of which all
classes are rejected are not in OUT/images.txt, and void everywhere. The masks that were
reviewed stay as they are.

Example:
    python tools/exclude_masks.py work_dirs/my_images/filter/filtered \
        --exclude review.csv --out reviewed_masks
"""

from pathlib import Path

from mmwood.converters.command import bar
from mmwood.utils.command import run, script_parser


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument(
        "labels", type=Path, metavar="LABELS", help="the masks that were reviewed"
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        required=True,
        metavar="CSV",
        help="the decisions, of tools/review_masks.py",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to"
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="the training's list of images: images.txt has those of it that stay "
        "(default: of all images with a mask)",
    )
    args = parser.parse_args()

    from mmwood.converters.excluded_masks import IMAGES, exclude_masks

    done = exclude_masks(args.labels, args.exclude, args.out, args.list, bar("masks"))
    classes = sum(map(len, done.wrong.values()))
    print(
        f"{args.out}: {len(done.leave)} images left out, {classes} classes void in "
        f"{len(done.wrong)} others; {IMAGES} lists those that stay"
    )
    if done.unseen:
        print(f"{done.unseen} rows were not looked at: their masks stay")
    if done.changed:
        print(f"{done.changed} kept masks have changed since: they stay")


if __name__ == "__main__":
    run(main)
