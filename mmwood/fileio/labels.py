"""PASCAL VOC's colours for label maps."""

import os

import numpy as np
from PIL import Image

from mmwood.fileio.files import atomic_write

__all__ = ["VOID", "read_label_png", "save_label_png", "voc_palette"]

#: The value of pixels without a label.
VOID = 255


def voc_palette(count: int = 256) -> np.ndarray:
    """The first ``count`` colours of PASCAL VOC's palette.

    The bits of a label, three at a time, are the highest bits of red, green and blue.

    Shape:
        - output: (count, 3) uint8, RGB

    Example:
        >>> voc_palette(3).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    labels = np.arange(count)
    palette = np.zeros((count, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            value = (labels >> (3 * bit + channel)) & 1
            palette[:, channel] |= (value << (7 - bit)).astype(np.uint8)
    return palette


def save_label_png(label: np.ndarray, path: str | os.PathLike) -> None:
    """Write a label map as a palette PNG with PASCAL VOC's colours, atomically.

    Args:
        label: uint8 label map. Shape: (H, W).
        path: The PNG file to write.
    """
    image = Image.fromarray(label)
    image.putpalette(voc_palette().tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary)


def read_label_png(path: str | os.PathLike) -> np.ndarray:
    """Read a label map, with or without a palette.

    Returns:
        Shape (H, W), uint8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no picture, or not one of 8-bit labels.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no label map {path}")
    try:
        with Image.open(path) as image:
            label = np.array(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the label map {path} is damaged: {error}") from error
    if label.ndim != 2 or label.dtype != np.uint8:
        raise ValueError(
            f"{path} is no label map: expected (H, W) of uint8, got {label.shape} of "
            f"{label.dtype}"
        )
    return label
