"""Rows of images that are too large to be in memory whole, with their own values."""

import os
from importlib.util import find_spec
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from mmwood.fileio.bands import band_header, band_rows, encode_bands
from mmwood.fileio.images import (
    file_values,
    has_values_of_32_bits,
    image_size,
    is_plain_tiff,
)


class ImageRows:
    """An image upright, row by row from top to bottom, with the values of its file.

    Of a TIFF with whole pixels those strips or tiles are decoded that hold the rows, by
    rasterio. Without it, and of any other image, all is decoded when the first rows are
    asked for, and stays: 1 byte a pixel of grey, 3 of colour, 2 to 8 of more than 8
    bits, and twice as much while it is decoded.

    Attributes:
        size: (W, H).
        suffix: That of files of its parts: ``.png``, or ``.tif`` where a PNG does not
            hold the values.

    Raises:
        ImportError: It has bands, which rasterio alone reads.
        One of :data:`mmwood.fileio.images.UNREADABLE`: It cannot be read.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self._path = path
        self._whole: np.ndarray | None = None
        self._in_blocks = is_plain_tiff(path) and find_spec("rasterio") is not None
        if self._in_blocks:
            header = band_header(path)
            self.size = header.size
            fits = header.dtype in (np.uint8, np.uint16) and header.bands in (1, 3, 4)
        else:
            self.size = image_size(path)
            fits = not has_values_of_32_bits(path)
        self.suffix = ".png" if fits else ".tif"

    def rows(self, begin: int, end: int) -> np.ndarray:
        """Some rows.

        Returns:
            Shape (end - begin, W) of grey, else (end - begin, W, channels): of a TIFF's
            bands all, else as :func:`mmwood.fileio.images.file_values`.

        Raises:
            One of :data:`mmwood.fileio.images.UNREADABLE`: They cannot be read.
        """
        if self._in_blocks:
            return band_rows(self._path, begin, end)
        if self._whole is None:
            self._whole = file_values(self._path)
        return self._whole[begin:end]


def encode_values(values: np.ndarray, suffix: str, compression: int = 3) -> bytes:
    """A file of what :meth:`ImageRows.rows` gives.

    Shape:
        - values: (H, W) or (H, W, channels)

    Raises:
        ImportError: A TIFF of several channels needs rasterio.
    """
    content = BytesIO()
    if suffix == ".png" and values.dtype == np.uint16 and values.ndim == 3:
        order = cv2.COLOR_RGBA2BGRA if values.shape[2] == 4 else cv2.COLOR_RGB2BGR
        level = [cv2.IMWRITE_PNG_COMPRESSION, compression]
        return cv2.imencode(".png", cv2.cvtColor(values, order), level)[1].tobytes()
    if suffix == ".png":
        image = Image.fromarray(np.ascontiguousarray(values))
        image.save(content, "PNG", compress_level=compression)
    elif values.ndim == 2 and values.dtype in (np.int32, np.float32):
        image = Image.fromarray(np.ascontiguousarray(values))
        image.save(content, "TIFF", compression="tiff_adobe_deflate")
    else:
        return encode_bands(values)
    return content.getvalue()
