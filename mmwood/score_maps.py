"""The file in which an image's score maps are kept."""

import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmwood.files import atomic_write

__all__ = ["MAPS", "ScoreMaps", "load_score_maps", "save_score_maps"]

#: The maps that can be kept: on the stride-4 grid, and at the image's size.
MAPS = ("strided", "full")


@dataclass
class ScoreMaps:
    """What is kept of one image: an uncompressed ``.npz`` without pickled objects.

    Attributes:
        classes: Which class each map belongs to, from 0. Shape: (n,) int64.
        scores: The classifier's probability of every class. Shape: (C,) float32.
        strided: Maps on the stride-4 grid, or None.
            Shape: (n, (H-1)//4+1, (W-1)//4+1) float16.
        full: Maps at the image's size, or None. Shape: (n, H, W) float16.
    """

    classes: np.ndarray
    scores: np.ndarray
    strided: np.ndarray | None = None
    full: np.ndarray | None = None


def save_score_maps(path: str | os.PathLike, maps: ScoreMaps) -> None:
    """Write score maps, atomically; equal maps give equal bytes."""
    arrays = {key: value for key, value in vars(maps).items() if value is not None}
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)


def load_score_maps(path: str | os.PathLike, needs: Iterable[str] = ()) -> ScoreMaps:
    """Read score maps; the archive's checksums are verified.

    Args:
        path: The file.
        needs: Which of :data:`MAPS` must be there.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or lacks what is needed.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        maps = ScoreMaps(**arrays)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} does not hold score maps: {error}") from error
    for key in needs:
        if getattr(maps, key) is None:
            raise ValueError(f"{path} holds no {key!r} maps")
    return maps
