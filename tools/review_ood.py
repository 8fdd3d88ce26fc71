#!/usr/bin/env python
"""Look at mined candidates in a browser and keep or reject them, class by class.

Kept are images that show no object of any class; of PASCAL-B's pictures (pascal_b.py
--review), those whose annotation is right. Every decision is on disk before the
page shows it, and moves into the manifest by itself. A review that was ended goes on
where it was.

Without a person, --auto rejects and keeps by rules, and logs that nobody looked.
"""

import argparse
import os
import sys
from pathlib import Path

RULES = ("duplicates", "in_distribution", "max_bits", "max_probability", "keep_rest")
NAMED_FAULTS = 10


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", help="the .csv that tools/mine_ood.py wrote")
    parser.add_argument(
        "--config", help="config of the classifier that mined: shows where it looked"
    )
    parser.add_argument("--checkpoint", help="its checkpoint; needed with --config")
    parser.add_argument(
        "--size", type=int, metavar="S", help="--size of mining, if it had one"
    )
    parser.add_argument(
        "--wanted", type=int, default=500, help="how many usable images are wanted"
    )
    parser.add_argument(
        "--page-size", type=int, default=48, help="candidates a page (default: 48)"
    )
    parser.add_argument(
        "--cache", help="folder of small pictures (default: MANIFEST.cache)"
    )
    parser.add_argument(
        "--cache-size",
        type=float,
        default=2000,
        metavar="MB",
        help="its largest size (default: 2000)",
    )
    parser.add_argument(
        "--host",
        help="let other machines in, by an address with a token; an address of this "
        "machine, as 0.0.0.0 (default: this machine only, without a token)",
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="default: 8080; 0: any that is free"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="do not open a browser"
    )
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
    for name in ("wanted", "page_size", "size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = name.replace("_", "-")
            parser.error(f"--{option} must be at least 1, got {value}")
    return args


def decide(args: argparse.Namespace) -> None:
    """Review by rules, without the app."""
    from mmwood.fileio.journal import LockedError, SaveError
    from mmwood.ood.auto import Rules, apply_rules, rules_table
    from mmwood.ood.review.counts import Table
    from mmwood.ood.review.decisions import Review

    given = {name: getattr(args, name) for name in RULES}
    try:
        rules = Rules(**{name: v for name, v in given.items() if v is not None})
        review = Review(args.manifest)
    except (FileNotFoundError, ValueError, LockedError) as error:
        sys.exit(f"--auto: {error}")
    if review.replayed:
        print(f"{review.replayed} decisions of a review that was cut off are back")
    try:
        try:
            entry, faults = apply_rules(review, rules)
        finally:
            review.close()
    except (OSError, ValueError) as error:
        sys.exit(f"--auto: {error}")
    except SaveError as error:
        where = f"; decisions are in {review.journal.path}" if review.pending else ""
        sys.exit(f"not saved: {error}{where}")
    print(rules_table(entry))
    if faults:
        print(f"images that cannot be read: {len(faults)}", file=sys.stderr)
        for image, reason in list(faults.items())[:NAMED_FAULTS]:
            print(f"  {image}: {reason}", file=sys.stderr)
        if len(faults) > NAMED_FAULTS:
            print("  ...", file=sys.stderr)
    counts = Table(review).counts()
    print(
        f"wrote {Path(args.manifest)}: {counts.kept} kept, "
        f"{counts.rejected} rejected, {counts.unseen} unseen"
    )


def main() -> None:
    args = parse_args()
    if args.auto:
        decide(args)
        return
    try:
        import nicegui  # noqa: F401
    except ImportError:
        sys.exit('the review app needs NiceGUI: pip install -e ".[review]"')
    from mmwood.fileio.journal import LockedError, SaveError
    from mmwood.ood.review.app import free_port, serve
    from mmwood.ood.review.decisions import Review
    from mmwood.ood.review.pictures import Cache, Pictures
    from mmwood.ood.review.session import Session

    try:
        port = free_port(args.host or "127.0.0.1", args.port)
        review = Review(args.manifest)
    except (FileNotFoundError, ValueError, LockedError) as error:
        sys.exit(str(error))
    if review.replayed:
        print(f"{review.replayed} decisions of a review that was cut off are back")
    if review.fault:
        print(f"nothing can be saved: {review.fault}", file=sys.stderr)
    folder = args.cache or review.path.with_name(f"{review.path.name}.cache")
    pictures = Pictures(review.images, Cache(folder, round(args.cache_size * 1e6)))
    explainer = None
    if args.config is not None:
        from mmwood.ood.review.explain import Explainer

        try:
            explainer = Explainer(
                args.config,
                args.checkpoint,
                args.manifest,
                review.classes,
                pictures,
                args.size,
            )
        except (FileNotFoundError, ValueError) as error:
            review.close()
            sys.exit(str(error))
    session = Session(review, pictures, explainer, args.wanted, args.page_size)
    # Where there is no screen, a text browser would take over the terminal.
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY")
    try:
        serve(session, args.host, port, show=bool(screen) and not args.no_browser)
    except SaveError as error:
        sys.exit(f"not saved: {error}; the decisions are in {review.journal.path}")
    counts = session.table.counts()
    print(
        f"wrote {Path(args.manifest)}: {counts.kept} kept, "
        f"{counts.rejected} rejected, {counts.unseen} unseen"
    )


if __name__ == "__main__":
    main()
