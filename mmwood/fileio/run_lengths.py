"""The run lengths in which CVAT and Label Studio write masks.

COCO's are in :mod:`mmwood.fileio.coco`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Bits of a value of Label Studio's, and of the four kinds of lengths that follow it.
_WORD = 8
_LENGTHS = (3, 4, 8, 16)
#: Values of a pixel: red, green, blue, opacity.
_CHANNELS = 4
#: A brush's pixel belongs to the region from this opacity on: half of it is covered.
_OPAQUE = 128


def lengths_of_runs(places: np.ndarray, total: int) -> list[int]:
    """Lengths of the runs of pixels outside and inside, in turn, outside first.

    Shape:
        - places: (n,) integers in [0, total), ascending

    Example:
        >>> lengths_of_runs(np.array([1, 2, 5]), 8)
        [1, 2, 2, 1, 2]
    """
    if not len(places):
        return [total]
    new = np.flatnonzero(np.diff(places) != 1) + 1
    starts = places[np.concatenate([[0], new])]
    ends = places[np.concatenate([new - 1, [-1]])] + 1
    borders = np.stack([starts, ends], axis=1).ravel()
    lengths = np.diff(borders, prepend=0, append=total).tolist()
    return lengths if lengths[-1] else lengths[:-1]


def encode_cvat(mask: np.ndarray) -> str:
    """The ``rle`` of a ``<mask>``: runs of its box, row by row, outside first.

    Source: CVAT's documentation, XML annotation format 1.1.

    Shape:
        - mask: (h, w) bool, the part of the image in the mask's box

    Example:
        >>> encode_cvat(np.array([[True, False], [True, True]]))
        '0, 1, 1, 2'
    """
    lengths = lengths_of_runs(np.flatnonzero(mask), mask.size)
    return ", ".join(map(str, lengths))


def decode_cvat(
    rle: str, box: tuple[int, int, int, int], size: tuple[int, int]
) -> np.ndarray:
    """The pixels of a ``<mask>`` in its box (left, top, width, height).

    Shape:
        - output: (h, w) bool

    Raises:
        ValueError: The run lengths are not those of the box, or it is not in the
            image.
    """
    left, top, width, height = box
    inside = min(left, top) >= 0 and min(width, height) > 0
    if not inside or top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"its left, top, width and height are {list(box)}, which is not in the "
            f"image of (W, H) = {size[::-1]}"
        )
    try:
        lengths = [int(length) for length in rle.split(",")]
    except ValueError:
        lengths = [-1]
    if min(lengths) < 0 or sum(lengths) != width * height:
        raise ValueError(
            f"its run lengths must be integers with the sum {width * height}, the "
            "number of pixels of its box"
        )
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(height, width)


def encode_brush(mask: np.ndarray) -> list[int]:
    """The ``rle`` of a region of Label Studio's ``BrushLabels``.

    It packs the values of an RGBA image, here 255 inside and 0 outside in all four
    channels, into bits: 32 with the number of values, 5 with the bits of a value - 1,
    four times 4 with the bits of a length - 1; then runs: a 1, 2 bits that choose one
    of the four, the length - 1, the value. A 0 in place of the 1 says that so many
    different values follow.

    Source: rle-pack of thi.ng/umbrella, which Label Studio uses.

    Shape:
        - mask: (H, W) bool

    Example:
        >>> encode_brush(np.array([[True]]))
        [0, 0, 0, 4, 57, 27, 252, 127, 224]
    """
    parts = [f"{_CHANNELS * mask.size:032b}{_WORD - 1:05b}"]
    parts += [f"{bits - 1:04b}" for bits in _LENGTHS]
    longest = 1 << _LENGTHS[-1]
    for number, length in enumerate(lengths_of_runs(np.flatnonzero(mask), mask.size)):
        value = "1" * _WORD if number % 2 else "0" * _WORD
        rest = _CHANNELS * length
        while rest:
            run = min(rest, longest)
            kind = next(k for k, bits in enumerate(_LENGTHS) if run <= 1 << bits)
            parts.append(f"1{kind:02b}{run - 1:0{_LENGTHS[kind]}b}{value}")
            rest -= run
    bits = "".join(parts)
    count = -(-len(bits) // 8)
    return [*int(bits.ljust(8 * count, "0"), 2).to_bytes(count, "big")]


def decode_brush(rle: Any, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a region: those that are opaque by half or more.

    Shape:
        - output: (H, W) bool

    Raises:
        ValueError: They are no such bytes, or those of an image of another size.
    """
    total = _CHANNELS * size[0] * size[1]
    try:
        data = bytes(rle) if isinstance(rle, Sequence) else b""
    except (TypeError, ValueError):
        data = b""
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise ValueError("its rle is cut off, or is not a list of bytes")
        return int(bits[place - count : place], 2)

    number, word = read(32), read(5) + 1
    if number != total or word != _WORD:
        raise ValueError(
            f"its rle holds {number} values of {word} bits; the image of (W, H) = "
            f"{size[::-1]} needs {total} of {_WORD}"
        )
    lengths = [read(4) + 1 for _ in _LENGTHS]
    values = np.empty(total, dtype=np.uint8)
    done = 0
    while done < total:
        same = read(1)
        end = done + 1 + read(lengths[read(2)])
        if end > total:
            raise ValueError(f"its rle holds more than {total} values")
        if same:
            values[done:end] = read(_WORD)
        else:
            packed = read(_WORD * (end - done)).to_bytes(end - done, "big")
            values[done:end] = np.frombuffer(packed, dtype=np.uint8)
        done = end
    return values.reshape(*size, _CHANNELS)[..., -1] >= _OPAQUE
