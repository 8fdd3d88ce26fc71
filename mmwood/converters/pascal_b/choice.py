"""Which images may be chosen, and which ones are."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmwood.converters.pascal_b.annotations import ClassTable, Scene
from mmwood.fileio.lists import TaggedImage, refuse_shared_files

SIZES = ("small", "medium", "large")
#: Why an image cannot be chosen.
LEFT_OUT = dict(
    excluded="in the exclude list",
    partial="LVIS has not annotated a class exhaustively",
    unknown="no COCO file lists it, so classes that LVIS lacks are unknown",
    conflicting="COCO shows a class that LVIS has not annotated",
    empty="no instance of a class",
    coco_only="no LVIS file lists it",
)
#: How many images are drawn for one place, of which the most even one is taken.
_DRAWS = 64


def find_candidates(
    lvis: Mapping[int, Scene], coco: Mapping[int, Scene], table: ClassTable
) -> tuple[list[Scene], Counter[str]]:
    """The images that may be chosen, and how many may not, by reason.

    With LVIS files the images are theirs, and COCO adds the classes that LVIS lacks.
    LVIS says of few classes that an image does not show them; COCO, which is
    exhaustive, answers that: an image in which it shows a class that LVIS has not
    annotated is left out. Without COCO files the absence of annotations is believed.

    Returns:
        Images in the order of their ids, each with all its classes; numbers by the
        keys of :data:`LEFT_OUT`.

    Raises:
        ValueError: Both list an image, but in different sizes; or two images have one
            name.
    """
    of_lvis = set(table.labels["lvis"].values())
    kept: dict[str, Scene] = {}
    left_out = Counter(coco_only=len(set(coco) - set(lvis)) if lvis else 0)
    for number, scene in sorted((lvis or coco).items()):
        other = coco.get(number) if lvis else None
        conflicting = False
        if other is not None:
            if scene.size != other.size:
                raise ValueError(
                    f"{scene.source} has (H, W) = {scene.size}, {other.source}, the "
                    f"same image, {other.size}"
                )
            shown = {item.label for item in scene.items}
            conflicting = bool({i.label for i in other.items} & of_lvis - shown)
            added = [item for item in other.items if item.label not in of_lvis]
            scene = replace(scene, items=scene.items + added)
        if scene.partial:
            left_out["partial"] += 1
        elif lvis and coco and other is None:
            left_out["unknown"] += 1
        elif conflicting:
            left_out["conflicting"] += 1
        elif all(item.crowd for item in scene.items):
            left_out["empty"] += 1
        elif scene.stem in kept:
            raise ValueError(
                f"{scene.source} has the name {scene.stem!r} of "
                f"{kept[scene.stem].source}: their maps would be one file"
            )
        else:
            kept[scene.stem] = scene
    refuse_shared_files(
        TaggedImage(stem, None, scene.source) for stem, scene in kept.items()
    )
    return list(kept.values()), left_out


def annotated_cells(
    scenes: Sequence[Scene], classes: int, size_limits: Sequence[int]
) -> np.ndarray:
    """Instances by class and size as annotated.

    Shape:
        - output: (N, classes * 3) int64
    """
    cells = np.zeros((len(scenes), classes * len(SIZES)), dtype=np.int64)
    for row, scene in enumerate(scenes):
        for item in scene.items:
            if not item.crowd:
                size = sum(item.area >= limit for limit in size_limits)
                cells[row, (item.label - 1) * len(SIZES) + size] += 1
    return cells


def choose_images(
    counts: np.ndarray, number: int, seed: int, excluded: Collection[int] = ()
) -> list[int]:
    r"""Draw images at random so that all cells (class and size) fill evenly.

    The next image is one for the cell with the fewest instances so far, of those that
    an image is left for: 64 of these are drawn, and that one is taken which leaves

    .. math:: \sum_k n_k^2 / \bigl(\sum_k n_k\bigr)^2

    smallest, with :math:`n_k` one more than the instances in cell k, so that the first
    images are compared too. At its minimum all are equal.

    Excluded images are drawn like others; then they are given back, and others drawn
    in their place, until none is among them. So the rest of a choice that people have
    looked at stays, however many of it they reject.

    Args:
        counts: Instances of each image in each cell.
        number: How many images to choose, or all that show an instance.
        seed: Random seed of the draws, at least 0.
        excluded: Rows of images that must not be chosen.

    Returns:
        The images' rows, in the order in which they were chosen.

    Shape:
        - counts: (N, K)

    Example:
        >>> choose_images(np.array([[5, 0], [1, 0], [0, 1]]), 2, seed=0)
        [1, 2]
    """
    rng = np.random.default_rng(seed)
    counts = np.asarray(counts, dtype=np.int64)
    holders = [np.flatnonzero(column) for column in counts.T]
    free = np.ones(len(counts), dtype=bool)
    total = np.zeros(counts.shape[1], dtype=np.int64)
    chosen: list[int] = []
    while True:
        holders = [rows[free[rows]] for rows in holders]
        open_cells = [cell for cell, rows in enumerate(holders) if len(rows)]
        if len(chosen) == number or not open_cells:
            rejected = [row for row in chosen if row in excluded]
            if not rejected:
                return chosen
            chosen = [row for row in chosen if row not in excluded]
            total -= counts[rejected].sum(axis=0)
            continue
        rows = holders[min(open_cells, key=lambda cell: total[cell])]
        drawn = rng.choice(rows, size=min(_DRAWS, len(rows)), replace=False)
        after = total + counts[drawn] + 1
        best = drawn[((after**2).sum(axis=1) / after.sum(axis=1) ** 2).argmin()]
        total += counts[best]
        free[best] = False
        chosen.append(int(best))
