"""Masks in the run lengths of CVAT and Label Studio, against slow decoders."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from mmwood.fileio.run_lengths import (
    decode_brush,
    decode_cvat,
    encode_brush,
    encode_cvat,
)

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


def slow_brush(data: list[int]) -> list[int]:
    """The values that rle-pack's bytes hold, bit after bit."""
    bits = [byte >> shift & 1 for byte in data for shift in range(7, -1, -1)]

    def read(count: int) -> int:
        number = 0
        for _ in range(count):
            number = 2 * number + bits.pop(0)
        return number

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < count:
        same = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if same else [read(word) for _ in range(length)]
    # What is left fills the last byte.
    assert len(values) == count
    assert len(bits) < 8
    assert not any(bits)
    return values


def pack(values: list[int], literal: int) -> list[int]:
    """rle-pack's bytes with the values one by one, ``literal`` in each block."""
    text = f"{len(values):032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    for start in range(0, len(values), literal):
        block = values[start : start + literal]
        text += f"010{len(block) - 1:08b}" if len(block) > 16 else ""
        text += f"001{len(block) - 1:04b}" if len(block) <= 16 else ""
        text += "".join(f"{value:08b}" for value in block)
    text += "0" * (-len(text) % 8)
    return [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]


def slow_cvat(rle: str, shape: tuple[int, int]) -> np.ndarray:
    pixels: list[bool] = []
    for number, length in enumerate(rle.split(", ")):
        pixels += [number % 2 == 1] * int(length)
    return np.array(pixels).reshape(shape)


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_masks_of_any_kind(mask):
    data = encode_brush(mask)
    values = np.array(slow_brush(data)).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(values, np.repeat(mask[..., None] * 255, 4, axis=2))
    np.testing.assert_array_equal(decode_brush(data, mask.shape), mask)

    rle = encode_cvat(mask)
    np.testing.assert_array_equal(slow_cvat(rle, mask.shape), mask)
    size = mask.shape[0] + 3, mask.shape[1] + 4
    box = (2, 1, mask.shape[1], mask.shape[0])
    np.testing.assert_array_equal(decode_cvat(rle, box, size), mask)


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 5, 64, 65, 16384, 16385, 40000])
def test_runs_around_the_lengths_that_have_a_size_of_their_own(pixels):
    mask = np.zeros((3, 40000), bool)
    mask[1, :pixels] = True
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), mask.shape), mask)


@pytest.mark.parametrize("literal", [1, 16, 17, 256])
def test_a_brush_as_the_page_writes_it_has_colours_and_soft_edges(literal):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (9, 11, 4))
    data = pack(values.ravel().tolist(), literal)
    assert slow_brush(data) == values.ravel().tolist()
    expected = values[..., 3] >= 128
    np.testing.assert_array_equal(decode_brush(data, (9, 11)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-2], "is cut off"),
        (lambda data: None, "not a list of bytes"),
        (lambda data: [*data[:5], 300], "not a list of bytes"),
        (lambda data: "AAAA", "not a list of bytes"),
        (lambda data: encode_brush(np.ones((4, 4), bool)), "64 values of 8 bits; the"),
    ],
)
def test_damaged_brushes(change, message):
    with pytest.raises(ValueError, match=message):
        decode_brush(change(encode_brush(np.eye(5, 6, dtype=bool))), (5, 6))


@pytest.mark.parametrize(
    ("rle", "box", "message"),
    [
        ("1, 2", (0, 0, 2, 2), "with the sum 4"),
        ("1, x", (0, 0, 2, 2), "with the sum 4"),
        ("-1, 5", (0, 0, 2, 2), "with the sum 4"),
        ("", (0, 0, 2, 2), "with the sum 4"),
        ("4", (4, 0, 2, 2), "not in the image"),
        ("4", (0, -1, 2, 2), "not in the image"),
        ("0", (0, 0, 0, 2), "not in the image"),
    ],
)
def test_damaged_masks_of_cvat(rle, box, message):
    with pytest.raises(ValueError, match=message):
        decode_cvat(rle, box, (5, 5))
