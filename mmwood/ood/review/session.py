"""What all tabs of a review share: decisions, pictures, and what went wrong."""

import asyncio
import secrets
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mmwood.fileio.journal import SaveError
from mmwood.fileio.lists import bullets
from mmwood.ood.review.alike import Alike
from mmwood.ood.review.counts import ReviewRows
from mmwood.ood.review.decisions import Review
from mmwood.ood.review.orders import Pace
from mmwood.ood.review.pictures import Pictures
from mmwood.ood.review.subject import CANDIDATES, Subject

#: Seconds without a decision after which the manifest is written.
PAUSE = 5.0


@dataclass
class Session:
    """What all tabs share.

    Attributes:
        review: The decisions.
        pictures: The images.
        explainer: :class:`mmwood.ood.review.explain.Explainer`, or what else makes
            another picture of a row; None: there is none.
        wanted: How many usable images are wanted.
        page_size: Candidates a page.
        subject: What is reviewed.
        unsaved: Why the manifest could not be written, or None.
        rows: The rows as columns.
        watchers: What shows a tab anew.
        pace: How fast decisions are made.
    """

    review: Review
    pictures: Pictures
    explainer: Any = None
    wanted: int = 500
    page_size: int = 48
    subject: Subject = CANDIDATES
    unsaved: str | None = None
    rows: ReviewRows = field(init=False)
    watchers: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = ReviewRows(self.review, self.subject.lowest_first)
        self.version = secrets.token_hex(4)
        self.review.listeners.append(self.tell)
        self._thumbnails = ThreadPoolExecutor(4, thread_name_prefix="pictures")
        # Maps one after the other: a network uses all cores by itself.
        self._maps = ThreadPoolExecutor(1, thread_name_prefix="maps")
        self._decided = 0.0
        self.pace = Pace()
        self._alike: Alike | None = None
        self._making_alike = asyncio.Lock()

    def tell(self, rows: Sequence[int] = ()) -> None:
        """Show every tab what has changed."""
        self._decided = asyncio.get_running_loop().time()
        self._refresh()

    async def picture(self, kind: str, row: int) -> bytes:
        """A JPEG of a row: 'small', 'large' or 'map'."""
        if kind == "map":
            name = self.review.classes[self.review.class_of[row]]
            pool, make = self._maps, partial(self.explainer.overlay, row, name)
        else:
            pool, make = self._thumbnails, partial(getattr(self.pictures, kind), row)
        return await asyncio.get_running_loop().run_in_executor(pool, make)

    async def alike(self) -> Alike:
        """What knows which images are alike; made once, beside the page.

        Raises:
            FileNotFoundError, ValueError: As :class:`mmwood.ood.review.alike.Alike`.
        """
        async with self._making_alike:
            if self._alike is None:
                loop = asyncio.get_running_loop()
                self._alike = await loop.run_in_executor(None, Alike, self.rows)
            return self._alike

    async def check_images(self) -> None:
        """Find and name the images that are missing."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, lambda: dict(self.pictures.missing()))
        self.rows.faults.update(found)
        images = sorted({self.review.images[row] for row in found})
        if images:
            text = f"images that are missing: {len(images)}{bullets(images)}"
            print(text, file=sys.stderr, flush=True)
        self._refresh()

    async def save_at_times(self) -> None:
        """Bring decisions into the manifest whenever there is a pause."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            if self.review.pending and loop.time() - self._decided > PAUSE:
                await self.save()
                self._decided = loop.time()

    async def save(self) -> bool:
        """Bring decisions into the manifest; False if that fails."""
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self.review.save)
        except SaveError as error:
            if self.unsaved != str(error):
                print(f"not saved: {error}", file=sys.stderr, flush=True)
            self.unsaved = str(error)
        else:
            self.unsaved = None
        self._refresh()
        return self.unsaved is None

    def _refresh(self) -> None:
        for watcher in list(self.watchers):
            watcher()
