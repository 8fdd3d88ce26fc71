#!/usr/bin/env python
"""Look at mined candidates in a browser and keep or reject them, class by class.

Kept are images that show no object of any class. Every decision is on disk before the
page shows it, and moves into the manifest by itself. A review that was ended goes on
where it was.
"""

import argparse
import os
import sys
from pathlib import Path


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
    args = parser.parse_args()
    if (args.config is None) != (args.checkpoint is None):
        parser.error("--config and --checkpoint belong together")
    for name in ("wanted", "page_size", "size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = name.replace("_", "-")
            parser.error(f"--{option} must be at least 1, got {value}")
    return args


def main() -> None:
    args = parse_args()
    try:
        import nicegui  # noqa: F401
    except ImportError:
        sys.exit('the review app needs NiceGUI: pip install -e ".[review]"')
    from mmwood.ood.review.app import free_port, serve
    from mmwood.ood.review.journal import LockedError, Review, SaveError
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
