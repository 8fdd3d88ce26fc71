"""Attention affinity against loops in double precision."""

import math

import pytest
import torch

from mmwood.functional.attention_affinity import (
    box_mask,
    doubly_stochastic,
    mean_attention,
    row_stochastic,
    spread_maps,
)


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("bias", [None, "added", "bool"])
def test_mean_attention_equals_a_loop(bias):
    torch.manual_seed(0)
    query, key = torch.randn(2, 2, 3, 5, 4, dtype=torch.float64)
    added = torch.zeros(3, 5, 5, dtype=torch.float64)
    given = None
    if bias == "added":
        given = added = torch.randn(3, 5, 5, dtype=torch.float64)
    elif bias == "bool":
        given = torch.rand(3, 5, 5) < 0.7
        given |= torch.eye(5, dtype=torch.bool)
        added = torch.where(given, 0.0, -1e9).double()
    found = mean_attention(query, key, bias=given)
    for b in range(2):
        for i in range(5):
            rows = []
            for head in range(3):
                scores = [
                    sum(
                        query[b, head, i, c].item() * key[b, head, j, c].item()
                        for c in range(4)
                    )
                    / 2
                    + added[head, i, j].item()
                    for j in range(5)
                ]
                rows.append(softmax(scores))
            expected = [sum(values) / 3 for values in zip(*rows)]
            assert found[b, i].tolist() == pytest.approx(expected, abs=1e-12)
    half = mean_attention(query.bfloat16(), key.bfloat16(), 0.3)
    assert half.dtype == torch.float32
    torch.testing.assert_close(
        half.double(), mean_attention(query, key, 0.3), atol=0.02, rtol=0
    )


def loop_affinity(attention: list, mode: str, iterations: int) -> list:
    """The stochastic matrix of one image, a number at a time."""
    size = range(len(attention))
    matrix = [row[:] for row in attention]
    for _ in range(iterations if mode == "sinkhorn" else 0):
        for j in size:
            total = sum(matrix[i][j] for i in size)
            for i in size:
                matrix[i][j] /= total
        matrix = [[value / sum(row) for value in row] for row in matrix]
    if mode == "sinkhorn":
        return [[(matrix[i][j] + matrix[j][i]) / 2 for j in size] for i in size]
    return [[value / sum(row) for value in row] for row in matrix]


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("mode", ["mean", "sinkhorn"])
def test_spread_maps_equal_a_loop(mode, extra):
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 2, 4, dtype=torch.float64)
    attention = torch.rand(2, 8 + extra, 8 + extra, dtype=torch.float64).softmax(-1)
    found = spread_maps(maps, attention, mode, iterations=2)
    for b in range(2):
        patches = [row[extra:] for row in attention[b].tolist()[extra:]]
        matrix = loop_affinity(patches, mode, 2)
        for c in range(3):
            values = maps[b, c].flatten().tolist()
            for _ in range(2 if mode == "sinkhorn" else 1):
                values = [sum(w * v for w, v in zip(row, values)) for row in matrix]
            assert found[b, c].flatten().tolist() == pytest.approx(values, abs=1e-12)


def test_sums_of_rows_and_columns():
    torch.manual_seed(0)
    attention = (3 * torch.randn(2, 12, 12, dtype=torch.float64)).softmax(-1)
    ones = torch.ones(2, 12, dtype=torch.float64)
    cut = attention[:, 1:, 1:]
    torch.testing.assert_close(row_stochastic(cut).sum(-1), ones[:, 1:])
    affinity = doubly_stochastic(attention, 200)
    torch.testing.assert_close(affinity, affinity.mT)
    torch.testing.assert_close(affinity.sum(-1), ones, atol=1e-6, rtol=0)
    assert (affinity >= 0).all()
    # Rows that half precision has rounded to nothing stay so.
    assert row_stochastic(torch.zeros(1, 2, 2)).tolist() == [[[0, 0], [0, 0]]]


@pytest.mark.parametrize("mode", ["mean", "sinkhorn"])
def test_a_constant_map_stays_and_blocks_are_apart(mode):
    torch.manual_seed(0)
    attention = torch.rand(1, 13, 13).softmax(-1)
    constant = torch.full((1, 2, 3, 4), 0.7)
    torch.testing.assert_close(
        spread_maps(constant, attention, mode, iterations=50), constant
    )
    # The first row of patches and the others do not attend to each other.
    first = torch.arange(13) < 5
    blocks = attention * (first[:, None] == first[None])
    maps = torch.rand(1, 2, 3, 4)
    maps[:, :, 0] = 0
    spread = spread_maps(maps, blocks, mode)
    assert (spread[:, :, 0] == 0).all()
    assert (spread[:, :, 1:] > 0).all()
    # A patch that all others attend to lends them what it has.
    attention[:, :, 7] = 50
    peak = torch.zeros(1, 1, 3, 4)
    peak[..., 1, 2] = 1
    assert spread_maps(peak, attention, "mean").min() > 0.9


def test_boxes_of_regions_equal_a_loop():
    torch.manual_seed(0)
    maps = torch.rand(2, 2, 7, 9, dtype=torch.float64) ** 3
    maps[0, 0] = 0
    found = box_mask(maps, 0.5)
    for b in range(2):
        for c in range(2):
            values = maps[b, c].tolist()
            limit = 0.5 * max(map(max, values))
            left = {(y, x) for y in range(7) for x in range(9) if values[y][x] > limit}
            inside = set()
            while left:
                region, new = set(), {left.pop()}
                while new:
                    region |= new
                    new = {p for p in left if any(near(p, q) for q in new)}
                    left -= new
                rows, columns = ([p[axis] for p in region] for axis in (0, 1))
                inside |= {
                    (y, x)
                    for y in range(min(rows), max(rows) + 1)
                    for x in range(min(columns), max(columns) + 1)
                }
            assert set(map(tuple, found[b, c].nonzero().tolist())) == inside
    assert found[1].any()


def near(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other)) == 1


def test_what_lies_outside_of_boxes_gives_nothing():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 1] = 1.0
    maps[0, 0, 3, 3] = 0.7
    even = torch.ones(1, 16, 16)
    for threshold, total in ((0.79, 1.0), (0.6, 1.7), (None, 1.7)):
        spread = spread_maps(maps, even, box_threshold=threshold)
        torch.testing.assert_close(spread, torch.full((1, 1, 4, 4), total / 16))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(mode="sum"), "mode must be 'mean' or 'sinkhorn'"),
        (dict(iterations=0), "iterations must be an integer of at least 1"),
        (dict(box_threshold=1), "box_threshold must be at least 0 and below 1"),
        (dict(attention=torch.ones(1, 3, 3)), "as many tokens or more, got"),
        (dict(attention=torch.ones(2, 4, 4)), r"expected maps \(B, C, h, w\)"),
    ],
)
def test_wrong_arguments(options, message):
    arguments = dict(attention=torch.ones(1, 4, 4)) | options
    with pytest.raises(ValueError, match=message):
        spread_maps(torch.ones(1, 1, 2, 2), **arguments)
