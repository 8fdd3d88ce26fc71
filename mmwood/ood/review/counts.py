"""Which rows of a review to show, and what has been looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmwood.fileio.candidates import STATES
from mmwood.ood.review.decisions import Review

UNSEEN, KEPT, REJECTED = range(len(STATES))


@dataclass
class Counts:
    """What is decided, and what a person has looked at.

    A look is a row that was shown and decided by a person. Rows that are decided with
    others, as the rest of a group or by a rule, are none.

    Attributes:
        unseen, kept, rejected: Numbers of rows.
        usable: Number of images that a row keeps and none rejects: what
            :class:`mmwood.OoDDataset` takes.
        unlooked_kept, unlooked_rejected: Numbers of rows kept and rejected that nobody
            looked at.
    """

    unseen: int
    kept: int
    rejected: int
    usable: int
    unlooked_kept: int = 0
    unlooked_rejected: int = 0

    @property
    def decided(self) -> int:
        """Number of rows that are kept or rejected."""
        return self.kept + self.rejected

    @property
    def looked_at(self) -> int:
        """Number of looks."""
        return self.decided - self.unlooked_kept - self.unlooked_rejected

    @property
    def positive_rate(self) -> float | None:
        """Fraction r of the rows looked at that do show an object; None before any."""
        if not self.looked_at:
            return None
        return (self.rejected - self.unlooked_rejected) / self.looked_at

    def looks_left(self, wanted: int) -> float | None:
        """How many more looks give ``wanted`` usable images, at the rate so far.

        A look has given ``usable / looked_at`` images. Where each is looked at for one
        class, that is 1 - r for a positive rate r, and n images cost n / (1 - r) looks
        (Lee et al., CVPR 2022); a look at a group gives more. None: unknown, as nothing
        usable was looked at yet.
        """
        missing = max(0, wanted - self.usable)
        if not missing:
            return 0.0
        if not self.usable or not self.looked_at:
            return None
        return missing * self.looked_at / self.usable

    def looks_for_all(self) -> float | None:
        """How many looks the unseen rows cost, at the rate so far; None: unknown."""
        if not self.unseen:
            return 0.0
        return self.unseen * self.looked_at / self.decided if self.looked_at else None


class ReviewRows:
    """The rows of a review as columns, for choosing and counting.

    Args:
        review: The review.
        lowest_first: Whether rows are in the order of their probability, lowest
            first, instead of class by class, highest first.

    Attributes:
        states: Index into :data:`mmwood.fileio.candidates.STATES` of each row;
            decisions show here.
        looked: 0 for rows that were decided and not looked at; decisions show here.
        class_of, probability: As in the review.
        images: Paths, each once, as :class:`mmwood.OoDDataset` tells them apart.
        image_of: Index into ``images`` of each row.
        faults: Row -> why its image cannot be shown.
    """

    def __init__(self, review: Review, lowest_first: bool = False) -> None:
        self.review = review
        self.states = np.frombuffer(review.states, dtype=np.uint8)
        self.looked = np.frombuffer(review.looked, dtype=np.uint8)
        self.class_of = np.array(review.class_of, dtype=np.int32)
        self.probability = np.array(review.probability)
        self.faults: dict[int, str] = {}
        numbers: dict[str, int] = {}
        self.image_of = np.array(
            [numbers.setdefault(_tidy(i), len(numbers)) for i in review.images],
            dtype=np.int64,
        )
        self.images = list(numbers)
        #: Class by class, highest probability first, or lowest first of all.
        self._order = np.lexsort((-self.probability, self.class_of))
        if lowest_first:
            self._order = np.argsort(self.probability, kind="stable")

    def choose(
        self,
        class_index: int | None = None,
        state: str | None = None,
        low: float = 0.0,
        high: float = 1.0,
    ) -> np.ndarray:
        """Rows in their order.

        Args:
            class_index: Rows of one class only.
            state: Rows in one state only; 'missing': those without a readable image.
            low: The least probability.
            high: The largest probability.

        Returns:
            Row numbers. Shape (n,).
        """
        chosen = (self.probability >= low) & (self.probability <= high)
        if class_index is not None:
            chosen &= self.class_of == class_index
        if state == "missing":
            faulty = np.zeros(len(self.states), dtype=bool)
            faulty[list(self.faults)] = True
            chosen &= faulty
        elif state is not None:
            chosen &= self.states == STATES.index(state)
        return self._order[chosen[self._order]]

    def counts(self, class_index: int | None = None) -> Counts:
        """Counts of everything or of one class."""
        rejected = self.states == REJECTED
        mine = slice(None) if class_index is None else self.class_of == class_index
        groups = self.states[mine]
        # An image that another class rejects is not usable for this one either.
        usable = np.zeros(len(self.images), dtype=bool)
        usable[self.image_of[mine][groups == KEPT]] = True
        usable[self.image_of[rejected]] = False
        unseen, kept, rejected = np.bincount(groups, minlength=len(STATES)).tolist()
        unlooked = groups[self.looked[mine] == 0]
        return Counts(
            unseen,
            kept,
            rejected,
            int(usable.sum()),
            int((unlooked == KEPT).sum()),
            int((unlooked == REJECTED).sum()),
        )

    def of_same_images(self, rows: Sequence[int]) -> list[int]:
        """All rows of the images of some rows."""
        images = self.image_of[list(rows)]
        return np.flatnonzero(np.isin(self.image_of, images)).tolist()

    def unseen_by_class(self) -> np.ndarray:
        """How many rows of each class are unseen. Shape (C,)."""
        return np.bincount(
            self.class_of[self.states == UNSEEN], minlength=len(self.review.classes)
        )


def _tidy(path: str) -> str:
    """``str(Path(path))``; the same object where that is equal."""
    # A review has millions of paths, and a Path takes ten times as long.
    around = f"/{path}/"
    return str(Path(path)) if "//" in around[1:] or "/./" in around else path
