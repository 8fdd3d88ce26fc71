"""Pictures of masks under review: a class on its image, and the image alone."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.fileio.labels import read_label_png
from mmwood.ood.review.pictures import (
    LARGE,
    Cache,
    PictureError,
    Pictures,
    open_picture,
    to_jpeg,
)
from mmwood.visualization.mask_review import draw_class

#: Long side that small images are enlarged to, so that lines are thin on them.
_ENLARGED = 800


class MaskPictures(Pictures):
    """The masks of a manifest, drawn on their images.

    Args:
        images: Path of each row's image.
        labels: Path of each row's label PNG.
        values: Label of each row's class.
        cache: Where small pictures are kept.
        decoding: How images are read.
    """

    def __init__(
        self,
        images: list[str],
        labels: Sequence[Path],
        values: Sequence[int],
        cache: Cache,
        decoding: Decoding = PICTURE,
    ) -> None:
        super().__init__(images, cache, decoding)
        self._labels, self._values = labels, values

    def key(self, row: int, kind: str) -> str:
        """As of every picture, with the mask; see there."""
        label = self._labels[row]
        try:
            found = os.stat(label)
        except OSError as error:
            raise PictureError(f"{label}: {error.strerror}") from error
        mask = f"{label.absolute()} {found.st_mtime_ns} {found.st_size}"
        return f"{super().key(row, kind)}\0mask {mask} {self._values[row]}"

    def _jpeg(self, row: int, side: int) -> bytes:
        image = _sized(self.images[row], side, self.decoding)
        try:
            label = read_label_png(self._labels[row], wide=True)
        except (FileNotFoundError, ValueError) as error:
            raise PictureError(str(error)) from error
        drawn = draw_class(image, label, self._values[row])
        return to_jpeg(Image.fromarray(drawn))


class ImageAlone:
    """The images without their masks, in place of maps of a classifier.

    Args:
        pictures: The masks on them.
    """

    def __init__(self, pictures: MaskPictures) -> None:
        self._pictures = pictures

    def overlay(self, row: int, class_name: str) -> bytes:
        """The image as JPEG; the class is of no importance.

        Raises:
            PictureError: The image is missing or cannot be read.
        """
        pictures = self._pictures
        image = _sized(pictures.images[row], LARGE, pictures.decoding)
        return to_jpeg(Image.fromarray(image))


def _sized(path: str, side: int, decoding: Decoding) -> np.ndarray:
    """An image whose long side is ``side``, or less where it is small; RGB."""
    image = np.asarray(open_picture(path, (side, side), decoding=decoding))
    longest = max(image.shape[:2])
    scale = min(side, max(longest, _ENLARGED)) / longest
    height, width = (max(1, round(scale * length)) for length in image.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=how)
