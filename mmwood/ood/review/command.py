"""What the commands that open the page share."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmwood.fileio.candidates import STATES
from mmwood.fileio.journal import LockedError, SaveError, journal_path
from mmwood.ood.review.decisions import Review
from mmwood.ood.review.pictures import Cache
from mmwood.utils.require import require

if TYPE_CHECKING:
    from mmwood.ood.review.session import Session


def add_page_options(parser: ArgumentParser, rows: str) -> None:
    """Add the options of the page.

    Args:
        parser: What takes them.
        rows: What a row of the manifest is, for the help.
    """
    parser.add_argument(
        "--page-size", type=int, default=48, help=f"{rows} a page (default: 48)"
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


def find_port(args: Namespace) -> int:
    """A free port, before anything is read.

    Raises:
        ImportError: The extra of the page is not installed.
        ValueError: The port is in use, or there is no such host.
    """
    require("nicegui", "review", "the review app")
    from mmwood.ood.review.app import free_port

    return free_port(args.host, args.port)


@contextmanager
def open_review(manifest: str | os.PathLike) -> Iterator[Review]:
    """A review that is saved and summed up at its end.

    Raises:
        FileNotFoundError: There is no manifest.
        ValueError: It is malformed, another process reviews it, or it cannot be saved.
    """
    try:
        review = Review(manifest)
        if review.replayed:
            print(f"{review.replayed} decisions of a review that was cut off are back")
        with closing(review):
            yield review
    except LockedError as error:
        raise ValueError(str(error)) from error
    except SaveError as error:
        journal = journal_path(manifest)
        where = f"; the decisions are in {journal}" if journal.exists() else ""
        raise ValueError(f"not saved: {error}{where}") from error
    unseen, kept, rejected = map(review.states.count, range(len(STATES)))
    print(f"wrote {Path(manifest)}: {kept} kept, {rejected} rejected, {unseen} unseen")


def make_cache(args: Namespace, review: Review) -> Cache:
    """Where small pictures are kept."""
    folder = args.cache or review.path.with_name(f"{review.path.name}.cache")
    return Cache(folder, round(args.cache_size * 1e6))


def show_page(session: "Session", args: Namespace, port: int) -> None:
    """Serve the page until its end."""
    from mmwood.ood.review.app import serve

    if session.review.fault:
        print(f"nothing can be saved: {session.review.fault}", file=sys.stderr)
    # Where there is no screen, a text browser would take over the terminal.
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY")
    serve(session, args.host, port, show=bool(screen) and not args.no_browser)
