"""Which values are black and white in one's own images of more than 8 bits."""

from pathlib import Path

import numpy as np

from mmwood.fileio.bands import band_header, band_values
from mmwood.fileio.decoding import Decoding, check_decoding
from mmwood.fileio.images import UNREADABLE, deep_values, is_deep, unreadable
from mmwood.own_images.settings import OUTERMOST
from mmwood.own_images.source import OwnImages
from mmwood.utils.progress import progress

#: Images that are looked at, spread over all, and pixels of each.
_IMAGES, _PIXELS = 100, 10_000


def deep_images(own: OwnImages, bands: tuple[int, ...] | None = None) -> list[Path]:
    """The images of more than 8 bits a channel, by their headers."""
    names = [*(item.image for item in own.tagged), *own.untagged]
    paths = [own.root / name for name in names]
    if own.candidates_root is not None:
        paths += [own.candidates_root / name for name in own.candidates]
    return [path for path in progress(paths, "bits", delay=1) if _is_deep(path, bands)]


def _is_deep(path: Path, bands: tuple[int, ...] | None) -> bool:
    try:
        return is_deep(path) if bands is None else band_header(path).dtype.itemsize > 1
    except UNREADABLE:
        # Whoever reads the sizes names all of these.
        return False


def find_levels(images: list[Path], bands: tuple[int, ...] | None = None) -> Decoding:
    """Levels for images of more than 8 bits: all but the outermost of their values.

    Of bands each has its own. The same images give the same levels.

    Raises:
        ValueError: An image cannot be decoded; names it.
    """
    chosen = images[:: -(-len(images) // _IMAGES)]
    samples: list[list[np.ndarray]] = [[] for _ in bands or [0]]
    for path in progress(chosen, "levels", delay=1):
        try:
            if bands is None:
                channels = deep_values(path)[:, None]
            else:
                channels = band_values(path, bands).reshape(-1, len(bands))
        except UNREADABLE as error:
            raise ValueError(unreadable(path, error)) from error
        for values, sample in zip(channels.T, samples, strict=True):
            values = values[np.isfinite(values)]
            sample.append(values[:: -(-len(values) // _PIXELS) or 1])
    levels = []
    for sample in samples:
        pixels = np.concatenate(sample)
        if not pixels.size:
            raise ValueError(f"{images[0]} and others like it hold no number")
        low, high = np.quantile(
            pixels, [OUTERMOST, 1 - OUTERMOST], method="nearest"
        ).tolist()
        levels.append((low, high if low < high else low + 1))
    return check_decoding(levels, bands)
