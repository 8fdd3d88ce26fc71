"""Tiles against the whole map, and against a plain loop."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmwood.functional.tiles import (
    TiledMap,
    resized_rows,
    tile_spans,
    tile_weights,
)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 96, 97, 128, 200, 1000, 1001])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 32), (96, 33), (100, 7)])
def test_spans_and_weights(length, tile, overlap):
    spans = tile_spans(length, tile, overlap)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(0 < end - begin <= tile for begin, end in spans)
    assert all(begin % 32 == 0 for begin, _ in spans)
    for (_, end), (begin, _) in pairwise(spans):
        assert end - begin >= overlap
    total = np.zeros(length)
    for (begin, end), weight in zip(spans, tile_weights(spans, overlap)):
        assert weight.min() >= 0
        margin = overlap // 4
        assert not weight[:margin].any() or begin == 0
        assert not weight[len(weight) - margin :].any() or end == length
        total[begin:end] += weight.numpy()
    np.testing.assert_allclose(total, 1, atol=1e-6)


def reference(values, tile, overlap):
    """Every pixel by itself: the weighted mean of the tiles that hold it."""
    _, height, width = values.shape
    spans = [tile_spans(side, tile, overlap) for side in (height, width)]
    weights = [tile_weights(axis, overlap) for axis in spans]
    result = np.zeros(values.shape)
    for y in range(height):
        for x in range(width):
            for (top, bottom), down in zip(spans[0], weights[0]):
                for (left, right), across in zip(spans[1], weights[1]):
                    if top <= y < bottom and left <= x < right:
                        # A tile's values depend on where it begins.
                        value = values[:, y, x].numpy() + top + 3 * left
                        result[:, y, x] += (
                            value * float(down[y - top]) * float(across[x - left])
                        )
    return result


@pytest.mark.parametrize("strip", [1, 7, 64, 130])
def test_stitched_as_pixel_by_pixel(strip):
    values = torch.rand(2, 130, 101, generator=torch.manual_seed(0))
    expected = reference(values, 64, 32)

    def compute(rows, columns):
        return values[:, rows, columns] + rows.start + 3 * columns.start

    tiled = TiledMap((130, 101), compute, 64, 32)
    strips = [tiled.rows(y, min(y + strip, 130)).clone() for y in range(0, 130, strip)]
    found = torch.cat(strips, dim=1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(("layers", "same"), [(4, True), (24, False)])
def test_same_as_whole_up_to_the_receptive_field(layers, same):
    """Each layer sees one pixel more to each side; the margin is 32 // 4 = 8."""
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(layers)])
    net = net.double().requires_grad_(False)
    image = torch.rand(3, 150, 200).double()
    whole = net(image)
    tiled = TiledMap((150, 200), lambda y, x: net(image[:, y, x]), 96, 32)
    found = torch.cat([tiled.rows(y, y + 10).clone() for y in range(0, 150, 10)], 1)
    error = ((found - whole).abs().max() / whole.std()).item()
    assert (error < 1e-6) == same


def test_memory_is_that_of_one_row_of_tiles():
    values = torch.ones(2, 2000, 70)
    tiled = TiledMap((2000, 70), lambda y, x: values[:, y, x], 96, 32)
    for y in range(0, 2000, 10):
        tiled.rows(y, y + 10)
        assert tiled._band.shape[1] <= 96 + 12


def test_rows_that_are_gone():
    values = torch.ones(1, 200, 70)
    tiled = TiledMap((200, 70), lambda y, x: values[:, y, x], 64, 0)
    tiled.rows(100, 110)
    with pytest.raises(ValueError, match="begins at row 64 now"):
        tiled.rows(50, 60)
    with pytest.raises(ValueError, match="rows 190 to 201 of a map of 200"):
        tiled.rows(190, 201)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(150, 120), (300, 77), (61, 240), (1, 1), (151, 1)])
def test_resized_as_interpolate(size, align_corners):
    values = torch.rand(3, 150, 120, generator=torch.manual_seed(1))
    source = TiledMap((150, 120), lambda y, x: values[:, y, x], 64, 32)
    expected = F.interpolate(
        values[None], size, mode="bilinear", align_corners=align_corners
    )[0]
    steps = range(0, size[0], 11)
    strips = [
        resized_rows(source, size, y, min(y + 11, size[0]), align_corners).clone()
        for y in steps
    ]
    found = torch.cat(strips, dim=1)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [(32, 8, "tile must be an integer of at least 64"), (64, 33, "overlap must be")],
)
def test_refused(tile, overlap, message):
    with pytest.raises(ValueError, match=message):
        tile_spans(100, tile, overlap)
