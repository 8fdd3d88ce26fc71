"""In which order rows are looked at, and what each order is expected to cost."""

import statistics

import numpy as np

from mmwood.ood.review.counts import KEPT, REJECTED, UNSEEN, ReviewRows

#: Looks at a class and range of probabilities that weigh as much as the mean of all.
PRIOR = 5
#: Seconds after which a person has done something else meanwhile.
AWAY = 120.0


def round_robin(classes: np.ndarray) -> np.ndarray:
    """The first of each class, then the second of each, and so on.

    Returns:
        Indices. Shape: (N,).

    Shape:
        - classes: (N,), integers
    """
    order = np.argsort(classes, kind="stable")
    starts = np.flatnonzero(np.diff(classes[order], prepend=-1))
    counts = np.diff(np.append(starts, len(classes)))
    turn = np.empty(len(classes), dtype=np.int64)
    turn[order] = np.arange(len(classes)) - np.repeat(starts, counts)
    return np.lexsort((classes, turn))


def keep_rates(table: ReviewRows) -> np.ndarray | None:
    """How probable it is that each row is kept, by the looks so far.

    It is the fraction of looks that kept, among those at the same class and tenth of
    the probability, drawn to the fraction of all looks as by five more of these.

    Returns:
        Shape (rows,); None: nothing was kept by a look yet.
    """
    tenth = np.minimum((table.probability * 10).astype(np.int64), 9)
    cell = table.class_of.astype(np.int64) * 10 + tenth
    looks = (table.looked == 1) & (table.states != UNSEEN)
    kept = looks & (table.states == KEPT)
    if not kept.any():
        return None
    size = int(cell.max()) + 1
    seen = np.bincount(cell[looks], minlength=size)
    good = np.bincount(cell[kept], minlength=size)
    rate = kept.sum() / looks.sum()
    return ((good + PRIOR * rate) / (seen + PRIOR))[cell]


def expected_looks(
    table: ReviewRows, order: np.ndarray, keep: np.ndarray, missing: float
) -> int | None:
    """How many looks at unseen rows in an order give so many more usable images.

    An image counts once, at its first row, and not if a row of it is decided.

    Args:
        table: The rows.
        order: Rows to look at.
        keep: See :func:`keep_rates`.
        missing: Usable images.

    Returns:
        The number; None: the rows do not suffice.
    """
    if missing <= 0:
        return 0
    rows = order[table.states[order] == UNSEEN]
    known = np.zeros(len(table.images), dtype=bool)
    known[table.image_of[(table.states == KEPT) | (table.states == REJECTED)]] = True
    images = table.image_of[rows]
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(images, return_index=True)[1]] = True
    usable = np.cumsum(keep[rows] * (first & ~known[images]))
    place = int(np.searchsorted(usable, missing - 1e-9))
    return place + 1 if place < len(rows) else None


class Pace:
    """How fast a person looks: the median seconds a look of this session."""

    def __init__(self) -> None:
        self._found: list[tuple[float, int]] = []

    def add(self, seconds: float, looks: int) -> None:
        """Note a decision: how long after the one before, and how many looks it was."""
        if looks and seconds < AWAY:
            self._found.append((seconds / looks, looks))
            del self._found[:-500]

    @property
    def seconds(self) -> float | None:
        """Median seconds a look; None before the first decision."""
        paces = [pace for pace, looks in self._found for _ in range(looks)]
        return statistics.median(paces) if paces else None


def duration(seconds: float) -> str:
    """Seconds for a person: '40 s', '12 min', '4.2 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
