"""Which values are black and white in one's own images of more than 8 bits."""

from pathlib import Path

import numpy as np

from mmwood.fileio.images import UNREADABLE, Levels, deep_values, is_deep, unreadable
from mmwood.own_images.settings import OUTERMOST
from mmwood.own_images.source import OwnImages
from mmwood.utils.progress import progress

__all__ = ["deep_images", "find_levels"]

#: Images that are looked at, spread over all, and pixels of each.
_IMAGES, _PIXELS = 100, 10_000


def deep_images(own: OwnImages) -> list[Path]:
    """The images of more than 8 bits a channel, by their headers."""
    names = [*(item.image for item in own.tagged), *own.untagged]
    paths = [own.root / name for name in names]
    if own.candidates_root is not None:
        paths += [own.candidates_root / name for name in own.candidates]
    return [path for path in progress(paths, "bits", delay=1) if _is_deep(path)]


def _is_deep(path: Path) -> bool:
    try:
        return is_deep(path)
    except UNREADABLE:
        # Whoever reads the sizes names all of these.
        return False


def find_levels(images: list[Path]) -> Levels:
    """Levels for images of more than 8 bits: all but the outermost of their values.

    The same images give the same levels.

    Args:
        images: The images, one or more.

    Raises:
        ValueError: An image cannot be decoded; names it.
    """
    chosen = images[:: -(-len(images) // _IMAGES)]
    samples = []
    for path in progress(chosen, "levels", delay=1):
        try:
            values = deep_values(path)
        except UNREADABLE as error:
            raise ValueError(unreadable(path, error)) from error
        values = values[np.isfinite(values)]
        samples.append(values[:: -(-len(values) // _PIXELS) or 1])
    pixels = np.concatenate(samples)
    if not pixels.size:
        raise ValueError(f"{images[0]} and others like it hold no number")
    low, high = np.quantile(
        pixels, [OUTERMOST, 1 - OUTERMOST], method="nearest"
    ).tolist()
    return (low, high) if low < high else (low, low + 1)
