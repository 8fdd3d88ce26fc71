"""Rows of a review whose images are alike, by the features beside the manifest."""

from dataclasses import dataclass
from threading import Lock

import numpy as np

from mmwood.fileio.candidates import read_manifest
from mmwood.fileio.image_features import features_path, read_features
from mmwood.functional.alike import (
    farthest_first,
    from_centre,
    groups,
    reduced,
    sample_of,
)
from mmwood.ood.review.counts import UNSEEN, ReviewRows

#: Images of a group that are shown before it is opened.
SHOWN = 12
#: Distances that an order of variety may take: some seconds.
DISTANCES = 200_000_000
#: Images that an order of variety begins with; after them a person has stopped to see
#: variety.
VARIED = 2000


@dataclass
class Group:
    """Rows of one class whose images are alike.

    Attributes:
        class_index: The class.
        rows: All rows, the nearest to the centre first.
        near: Those to show that are nearest the centre.
        far: Those to show that are farthest from it, farthest last.
    """

    class_index: int
    rows: list[int]
    near: list[int]
    far: list[int]

    @property
    def shown(self) -> list[int]:
        """The rows to show before the group is opened."""
        return self.near + self.far


class Alike:
    """Groups and orders of a review's rows; making one reads and computes for a while.

    It may be used from several threads.

    Attributes:
        missing: Number of rows whose images have no features; they are in no group.

    Raises:
        FileNotFoundError: There is no file of features.
        ValueError: It is malformed, or holds none of the manifest's images.
    """

    def __init__(self, table: ReviewRows) -> None:
        self._table = table
        path = features_path(table.review.path)
        file = read_features(path)
        hashes = [row.sha256 for _, row in read_manifest(table.review.path)]
        found = np.array(hashes, dtype=file.sha256.dtype)
        del hashes
        place = np.searchsorted(file.sha256, found).clip(max=len(file.sha256) - 1)
        #: Index of each row's features; -1: it has none.
        self._place = np.where(file.sha256[place] == found, place, -1)
        self.missing = int((self._place < 0).sum())
        if self.missing == len(found):
            raise ValueError(f"{path} holds features of other images: mine again")
        self._features = reduced(file.blocks, len(file.sha256))
        self._labels: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._lock = Lock()

    def groups(self, chosen: np.ndarray) -> list[Group]:
        """Groups of some rows, class by class, the one with most unseen rows first.

        A row is in the same group whichever rows are chosen beside it. Where a group
        has unseen rows, what is shown of it is of these.
        """
        found = []
        for class_index in np.unique(self._table.class_of[chosen]).tolist():
            rows, labels = self._groups_of(class_index)
            inside = np.isin(rows, chosen)
            rows, labels = rows[inside], labels[inside]
            order = np.argsort(labels, kind="stable")
            starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
            own = [
                self._group(class_index, rows[members])
                for members in np.split(order, starts[1:])
                if len(members)
            ]
            unseen = [(self._table.states[g.rows] == UNSEEN).sum() for g in own]
            places = sorted(range(len(own)), key=lambda n: (-unseen[n], n))
            found += [own[place] for place in places]
        return found

    def varied(self, chosen: np.ndarray) -> np.ndarray:
        """Some rows in another order: each of the first unlike all before it.

        The first ones are at most 2,000, fewer of very many rows; the others, and rows
        without features, follow as they come.
        """
        rows = chosen[self._place[chosen] >= 0]
        if not len(rows):
            return chosen
        # An image once: it is as like itself as can be.
        rows = rows[np.sort(np.unique(self._place[rows], return_index=True)[1])]
        count = min(VARIED, max(1, DISTANCES // len(rows)))
        first = rows[farthest_first(self._features[self._place[rows]], count)]
        return np.concatenate([first, chosen[~np.isin(chosen, first)]])

    def _groups_of(self, class_index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a class that have features, and their groups."""
        with self._lock:
            if class_index not in self._labels:
                mine = (self._table.class_of == class_index) & (self._place >= 0)
                rows = np.flatnonzero(mine)
                labels = groups(self._features[self._place[rows]])
                self._labels[class_index] = rows, labels
            return self._labels[class_index]

    def _group(self, class_index: int, rows: np.ndarray) -> Group:
        distance = from_centre(self._features[self._place[rows]])
        unseen = self._table.states[rows] == UNSEEN
        open_rows = rows[unseen] if unseen.any() else rows
        near, far = sample_of(distance[unseen] if unseen.any() else distance, SHOWN)
        return Group(
            class_index,
            rows[np.argsort(distance, kind="stable")].tolist(),
            open_rows[near].tolist(),
            open_rows[far].tolist(),
        )
