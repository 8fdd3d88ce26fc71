"""Images of any number of bands, and copies of them that a picture's reader can show.

A copy (:func:`save_copy`) is a TIFF with a page for what people see, red, green and
blue or grey, and a page in grey for each band beyond. It has 8 bits and the chosen
bands in their order, so that ``Decoding.bands`` chooses nothing more of it.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageSequence
from PIL.TiffImagePlugin import IMAGEDESCRIPTION, SOFTWARE

from mmwood.fileio.decoding import Decoding, refuse_unknown_white
from mmwood.utils.require import require

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

#: Who wrote a copy.
_COPY = "mmwood bands"


def need_rasterio() -> None:
    """Refuse to go on without the package that reads bands.

    Raises:
        ImportError: It is not installed; says which command installs it.
    """
    require("rasterio", "bands", "an image of which bands are chosen")


def band_values(
    file: str | os.PathLike | BinaryIO, bands: tuple[int, ...] = ()
) -> np.ndarray:
    """Some bands, from 1, or all of an image, whatever GDAL reads, at their own depth.

    What the file declares to be no data is NaN in floats, and the least number of
    integers.

    Returns:
        Shape (H, W, bands).

    Raises:
        ImportError: rasterio is not installed.
        OSError: It is no whole image.
        ValueError: It lacks a band.
    """
    with _opened(file) as source:
        bands = bands or source.indexes
        _check(source, bands)
        values = source.read(list(bands)).transpose(1, 2, 0)
        floats = values.dtype.kind == "f"
        for channel, band in enumerate(bands):
            nothing = source.nodatavals[band - 1]
            if nothing is not None:
                least = np.nan if floats else np.iinfo(values.dtype).min
                values[..., channel][values[..., channel] == nothing] = least
    return values


def band_size(
    file: str | os.PathLike | BinaryIO, decoding: Decoding
) -> tuple[int, int]:
    """(W, H) of an image of bands, from its header.

    Raises:
        ImportError, OSError, ValueError: As :func:`band_values`, and as
            :meth:`Decoding.to_bytes` of what the header tells.
    """
    with _opened(file) as source:
        bands = decoding.bands or (1,)
        _check(source, bands)
        if decoding.levels is None:
            for band in bands:
                refuse_unknown_white(source.dtypes[band - 1])
        return source.width, source.height


class BandHeader(NamedTuple):
    """What the header of an image says.

    Attributes:
        size: (W, H).
        bands: How many it has.
        dtype: The type that holds the values of all bands.
    """

    size: tuple[int, int]
    bands: int
    dtype: np.dtype


def band_header(file: str | os.PathLike | BinaryIO) -> BandHeader:
    """The header of an image that GDAL reads; errors as of :func:`band_values`."""
    with _opened(file) as source:
        dtype = np.result_type(*source.dtypes)
        return BandHeader((source.width, source.height), source.count, dtype)


def band_rows(path: str | os.PathLike, begin: int, end: int) -> np.ndarray:
    """Some rows of all bands, at their own depth; errors as of :func:`band_values`.

    Shape:
        - output: (end - begin, W), or (end - begin, W, bands) of several
    """
    with _opened(path) as source:
        values = source.read(window=((begin, end), (0, source.width)))
    return values[0] if len(values) == 1 else values.transpose(1, 2, 0)


def encode_bands(values: np.ndarray) -> bytes:
    """Values as a TIFF.

    Shape:
        - values: (H, W) or (H, W, bands), of any type that GDAL has

    Raises:
        ImportError: rasterio is not installed.
    """
    need_rasterio()
    from rasterio.io import MemoryFile

    bands = np.atleast_3d(values).transpose(2, 0, 1)
    count, height, width = bands.shape
    size = dict(count=count, height=height, width=width, dtype=bands.dtype)
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore")
        with memory.open(driver="GTiff", compress="deflate", **size) as target:
            target.write(bands)
        return memory.read()


def _check(source: "DatasetReader", bands: tuple[int, ...]) -> None:
    if (most := max(bands)) > source.count:
        raise ValueError(f"has {source.count} bands, so no band {most}")


def copied_channels(image: Image.Image) -> np.ndarray:
    """The bands of a copy. Shape: (H, W, n) uint8."""
    pages = [np.atleast_3d(np.asarray(page)) for page in ImageSequence.Iterator(image)]
    return np.concatenate(pages, axis=2)


def copy_source(image: Image.Image) -> str | None:
    """What a copy says that it is a copy of; None of another image."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(IMAGEDESCRIPTION) if tags.get(SOFTWARE) == _COPY else None


def save_copy(channels: np.ndarray, path: str | os.PathLike, source: str) -> None:
    """Write a copy.

    Args:
        channels: Shape: (H, W, n) uint8, n from 1.
        path: A TIFF.
        source: What it is a copy of, in ASCII.
    """
    shown = 3 if channels.shape[2] >= 3 else 1
    pages = np.split(channels, range(shown, channels.shape[2]), axis=2)
    first, *others = (
        Image.fromarray(page.squeeze(2) if page.shape[2] == 1 else page)
        for page in map(np.ascontiguousarray, pages)
    )
    first.save(
        path,
        "TIFF",
        save_all=True,
        append_images=others,
        compression="tiff_adobe_deflate",
        tiffinfo={SOFTWARE: _COPY, IMAGEDESCRIPTION: source},
    )


@contextmanager
def _opened(file: str | os.PathLike | BinaryIO) -> Iterator["DatasetReader"]:
    need_rasterio()
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if isinstance(file, (str, os.PathLike)):
            with rasterio.open(file) as source:
                yield source
        else:
            file.seek(0)
            with MemoryFile(file.read()) as memory, memory.open() as source:
                yield source
