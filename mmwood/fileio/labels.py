"""Label maps as PNGs: PASCAL VOC's palette, the one reader and the one writer."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmwood.fileio.files import atomic_write
from mmwood.fileio.images import UNREADABLE, why_unreadable

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: The value of pixels without a label.
VOID = 255
#: The value of pixels that the label filter took from an object (MARS). Nobody knows
#: what they show: metrics and losses take them for void, nothing takes them for
#: background.
BIASED = 254
_BIASED_COLOUR = (255, 0, 255)
#: How many values that a mask may not hold an error names.
_NAMED = 5


class DamagedError(ValueError):
    """A PNG is cut off, or its content does not fit its checksums."""


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


def full_palette(palette: np.ndarray | None = None, biased: bool = False) -> np.ndarray:
    """PASCAL VOC's palette with other colours for the first labels.

    Args:
        palette: These.
        biased: Whether :data:`BIASED` has a colour that no other comes near, if
            ``palette`` has none for it.

    Shape:
        - palette: (n, 3) uint8, RGB, of which 256 count; output: (256, 3)
    """
    full = voc_palette()
    if biased:
        full[BIASED] = _BIASED_COLOUR
    if palette is not None:
        full[: len(palette)] = palette[:256]
    return full


def save_label_png(
    label: np.ndarray,
    path: str | os.PathLike,
    palette: np.ndarray | None = None,
    optimize: bool = False,
) -> None:
    """Write a label map as a palette PNG, atomically.

    Args:
        label: The map.
        path: The file.
        palette: The colours of the first labels; all others, and without it all, have
            PASCAL VOC's.
        optimize: Pillow's: some percent smaller, and slower.

    Shape:
        - label: (H, W) uint8; or uint16 where there are more than 255 instances, which
          no palette has room for
        - palette: (n, 3) uint8 RGB
    """
    image = Image.fromarray(label)
    if label.dtype == np.uint8:
        colours = full_palette(palette, biased=bool((label == BIASED).any()))
        image.putpalette(colours.tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary, optimize=optimize)


def read_label_png(
    path: str | os.PathLike, what: str = "label map", wide: bool = False
) -> np.ndarray:
    """Read a label map of one channel: with a palette, grey, bilevel, or of 16 bits.

    The values are what counts; a palette's colours are not applied.

    Args:
        path: The file.
        what: What it is, for the error.
        wide: Whether values above 255 are allowed, as numbers of instances are.

    Returns:
        Shape (H, W), uint8; with ``wide`` int32.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: It is a PNG that is cut off or otherwise damaged, or empty.
        ValueError: It is no picture, of several channels, or holds values that are no
            labels; the message names the file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no {what} {path}")
    try:
        with Image.open(path) as image:
            mode, label = image.mode, np.array(image)
    except UNREADABLE as error:
        with open(path, "rb") as file:
            start = file.read(len(_SIGNATURE))
        fault = DamagedError if start in (b"", _SIGNATURE) else ValueError
        kind = "is damaged" if fault is DamagedError else "is no image"
        raise fault(f"the {what} {path} {kind}: {why_unreadable(error)}") from error
    if label.ndim != 2:
        hint = (
            "colours stand for labels only in a palette: save it with one, or in grey "
            "with the labels as values"
        )
        raise ValueError(
            f"{path} is no {what}: it has {label.shape[2]} channels ({mode}) "
            f"instead of one; {hint}"
        )
    if label.dtype.kind == "f":
        raise ValueError(f"{path} is no {what}: its values are {label.dtype}")
    limit = np.iinfo(np.int32 if wide else np.uint8).max
    if label.size and (label.min() < 0 or label.max() > limit):
        raise ValueError(
            f"{path} is no {what}: it holds {label.min()} to {label.max()}, "
            f"expected 0 to {limit}"
        )
    return label.astype(np.int32 if wide else np.uint8, copy=False)


def check_labels(
    label: np.ndarray,
    path: str | os.PathLike,
    classes: int,
    ignore_index: int = VOID,
    what: str = "mask",
) -> set[int]:
    """The labels that occur in a map, without background (0) and void.

    Label c + 1 is class c. Pixels that the label filter removed are none: what reads
    its labels calls :func:`biased_as_void` first.

    Raises:
        ValueError: It holds another value.
    """
    values = set(np.unique(label).tolist()) - {0, ignore_index}
    wrong = sorted(value for value in values if not 0 < value <= classes)
    if wrong:
        more = " and more" if len(wrong) > _NAMED else ""
        if wrong == [BIASED]:
            more = " (pixels that tools/filter_labels.py removed from objects)"
        raise ValueError(
            f"{what} {path} holds {wrong[:_NAMED]}{more}; with {classes} classes it "
            f"may hold 0..{classes} and {ignore_index}"
        )
    return values


def biased_as_void(label: np.ndarray, classes: int) -> tuple[np.ndarray, int]:
    """A label map in which removed pixels are void, and how many they are.

    With 254 classes the value is a class, and the label filter refuses such labels.

    Shape:
        - label: (H, W) uint8; output: as label

    Example:
        >>> biased_as_void(np.array([[0, 1, 254]], dtype=np.uint8), classes=20)
        (array([[  0,   1, 255]], dtype=uint8), 1)
    """
    removed = label == BIASED
    count = int(removed.sum()) if classes < BIASED else 0
    return (np.where(removed, label.dtype.type(VOID), label) if count else label), count


def tags_from_mask(
    path: str | os.PathLike, classes: Sequence[str], ignore_index: int = VOID
) -> set[str]:
    """Names of the classes in a semantic mask: 0 is background, c + 1 is class c.

    Raises:
        FileNotFoundError, ValueError: As :func:`read_label_png` and
            :func:`check_labels`.
    """
    label = read_label_png(path, "mask")
    values = check_labels(label, path, len(classes), ignore_index)
    return {classes[value - 1] for value in values}
