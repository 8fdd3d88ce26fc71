#!/usr/bin/env python
"""Look at mined candidates in a browser and keep or reject them, class by class.

Kept are images that show no object of any class; of PASCAL-B's pictures (pascal_b.py
--review), those whose annotation is right. Every decision is on disk before the
page shows it, and moves into the manifest by itself. A review that was ended
continues where it was.

Without a person, --auto rejects and keeps by rules, and logs that nobody looked.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from mmwood.fileio.lists import bullets
from mmwood.fileio.mask_review import refuse_mask_review
from mmwood.ood.results import mined_decoding
from mmwood.ood.review.command import (
    add_page_options,
    find_port,
    make_cache,
    open_review,
    show_page,
)
from mmwood.ood.review.decisions import Review
from mmwood.ood.review.pictures import Pictures
from mmwood.utils.command import refuse_below, run

if TYPE_CHECKING:
    from mmwood.ood.auto import Rules

RULES = ("duplicates", "in_distribution", "max_bits", "max_probability", "keep_rest")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", help="the .csv that tools/mine_ood.py wrote")
    parser.add_argument(
        "--config", help="config of the classifier that mined: shows where it looked"
    )
    parser.add_argument("--checkpoint", help="its checkpoint; needed with --config")
    parser.add_argument(
        "--size",
        type=int,
        metavar="S",
        help="long side of what the classifier sees (default: that of mining)",
    )
    parser.add_argument(
        "--wanted", type=int, default=500, help="how many usable images are wanted"
    )
    add_page_options(parser, "candidates")
    auto = parser.add_argument_group(
        "without a person", "no page is shown; what is decided already never changes"
    )
    auto.add_argument(
        "--auto", action="store_true", help="decide by the rules that are named"
    )
    auto.add_argument(
        "--duplicates",
        action="store_true",
        help="reject images that look like another; the most probable one stays",
    )
    auto.add_argument(
        "--in-distribution",
        metavar="FOLDER",
        help="reject images that look like one of the training images in this folder",
    )
    auto.add_argument(
        "--max-bits",
        type=int,
        metavar="N",
        help="images look the same when at most N of the 64 bits of their hashes "
        "differ (default: 2)",
    )
    auto.add_argument(
        "--max-probability",
        type=float,
        metavar="P",
        help="reject rows above P: the very sure ones mostly do show the object",
    )
    auto.add_argument(
        "--keep-rest", action="store_true", help="keep all other unseen rows"
    )
    args = parser.parse_args()
    for name in RULES:
        if not args.auto and getattr(args, name) not in (None, False):
            parser.error(f"--{name.replace('_', '-')} needs --auto")
    if (args.config is None) != (args.checkpoint is None):
        parser.error("--config and --checkpoint belong together")
    refuse_below(parser, args, ["wanted", "page_size", "size"])
    return args


def named_rules(args: argparse.Namespace) -> "Rules":
    """The rules that are named.

    Raises:
        ValueError: There is none, or a limit is out of its bounds.
    """
    from mmwood.ood.auto import Rules

    given = {name: getattr(args, name) for name in RULES}
    return Rules(**{name: v for name, v in given.items() if v is not None})


def decide(review: Review, rules: "Rules") -> None:
    """Decide by rules, without the app."""
    from mmwood.ood.auto import apply_rules, rules_table

    entry, faults = apply_rules(review, rules)
    print(rules_table(entry))
    if faults:
        lines = [f"{image}: {reason}" for image, reason in faults.items()]
        text = f"images that cannot be read: {len(faults)}{bullets(lines)}"
        print(text, file=sys.stderr)


def show(args: argparse.Namespace, review: Review, port: int) -> None:
    """Serve the app until its end."""
    from mmwood.ood.review.session import Session

    pictures = Pictures(
        review.images, make_cache(args, review), mined_decoding(review.path)
    )
    explainer = None
    if args.config is not None:
        from mmwood.ood.review.explain import Explainer

        explainer = Explainer(
            config=args.config,
            checkpoint=args.checkpoint,
            manifest=args.manifest,
            classes=review.classes,
            pictures=pictures,
            size=args.size,
        )
    session = Session(review, pictures, explainer, args.wanted, args.page_size)
    show_page(session, args, port)


def main() -> None:
    args = parse_args()
    refuse_mask_review(args.manifest)
    if args.auto:
        rules = named_rules(args)
    else:
        port = find_port(args)
    with open_review(args.manifest) as review:
        if args.auto:
            decide(review, rules)
        else:
            show(args, review, port)


if __name__ == "__main__":
    run(main)
