"""Walks, groups and detections, against loops over single pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from mmwood.functional.instances import (
    Instance,
    detect_instances,
    find_centroids,
    group_centroids,
)

BACKGROUND = 0.25


def fields(dtype, limit=5.0):
    """Displacement fields of at most 7 × 7 pixels."""
    width = np.dtype(dtype).itemsize * 8
    return array_shapes(min_dims=2, max_dims=2, max_side=7).flatmap(
        lambda shape: arrays(
            dtype, (2, *shape), elements=st.floats(-limit, limit, width=width)
        )
    )


def slow_walk(field, y, x, steps, keep):
    """Where one pixel ends; ``keep`` is the dtype that a place is stored in."""
    height, width = field.shape[1:]
    y, x = keep(y), keep(x)
    for _ in range(steps):
        low_y, low_x = math.floor(y), math.floor(x)
        high_y, high_x = math.ceil(y), math.ceil(x)
        part_y, part_x = float(y) - low_y, float(x) - low_x
        step = [
            float(component[high_y, high_x]) * part_y * part_x
            + float(component[low_y, high_x]) * (1 - part_y) * part_x
            + float(component[high_y, low_x]) * part_y * (1 - part_x)
            + float(component[low_y, low_x]) * (1 - part_y) * (1 - part_x)
            for component in field
        ]
        y = keep(min(max(float(keep(float(y) + step[0])), 0), height - 1))
        x = keep(min(max(float(keep(float(x) + step[1])), 0), width - 1))
    # Python rounds halves to even.
    return round(float(y)), round(float(x))


def slow_centroids(field, steps, keep):
    ends = np.empty(field.shape, dtype=np.int64)
    for y, x in np.ndindex(*field.shape[1:]):
        ends[:, y, x] = slow_walk(field, y, x, steps, keep)
    return ends


def slow_groups(centroids, field, threshold):
    short = np.array(
        [[math.sqrt(sum(vector**2)) < threshold for vector in row] for row in field.T]
    ).T
    regions, _ = ndimage.label(short)
    found = np.array(
        [[regions[tuple(end)] for end in row] for row in centroids.transpose(1, 2, 0)]
    )
    order = sorted(set(found.ravel().tolist()))
    return np.vectorize(order.index)(found)


def slow_detections(scores, classes, background, min_fraction):
    n, m, height, width = scores.shape
    stack = [
        np.full((height, width), background),
        *scores.reshape(n * m, height, width),
    ]
    winner = np.argmax(stack, axis=0)
    found = []
    for number in range(1, n * m + 1):
        parts, count = ndimage.label(winner == number)
        for part in range(1, count + 1):
            mask = parts == part
            score = max(stack[number][pixel] for pixel in zip(*np.nonzero(mask)))
            if mask.sum() < min_fraction * height * width:
                score = 0
            found.append((classes[(number - 1) // m], score, mask.tolist()))
    return found


def plain(instances):
    return [(item.class_id, item.score, item.mask.tolist()) for item in instances]


def two_discs(size=(40, 56), radius=9):
    """Displacements to the centres of two discs that touch, and the disc of each
    pixel: 1, 2 or 0 for none."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    field, disc = np.zeros((2, *size)), np.zeros(size, dtype=int)
    for number, centre in enumerate([(20, 18), (20, 36)], start=1):
        inside = np.hypot(y - centre[0], x - centre[1]) <= radius
        disc[inside & (disc == 0)] = number
        field[0][disc == number] = (centre[0] - y)[disc == number]
        field[1][disc == number] = (centre[1] - x)[disc == number]
    return field, disc


class TestFindCentroids:
    @settings(deadline=None, max_examples=60)
    @given(fields(np.float64), st.sampled_from([0, 1, 2, 30]))
    def test_equals_a_walk_of_every_pixel(self, field, steps):
        result = find_centroids(torch.from_numpy(field), steps)
        assert result.dtype == torch.int64
        np.testing.assert_array_equal(
            result.numpy(), slow_centroids(field, steps, float)
        )

    @settings(deadline=None, max_examples=60)
    @given(fields(np.float32), st.sampled_from([1, 2, 30]))
    def test_keeps_places_of_float32_fields_in_float32(self, field, steps):
        result = find_centroids(torch.from_numpy(field), steps)
        np.testing.assert_array_equal(
            result.numpy(), slow_centroids(field, steps, np.float32)
        )

    @pytest.mark.slow
    @settings(deadline=None)
    @given(fields(np.float32, limit=2.0**99), st.integers(0, 40))
    def test_ends_on_the_grid(self, field, steps):
        ends = find_centroids(torch.from_numpy(field), steps).numpy()
        assert (ends >= 0).all()
        assert (ends[0] < field.shape[1]).all()
        assert (ends[1] < field.shape[2]).all()

    def test_rounds_halves_to_even(self):
        field = torch.tensor([[[0.0] * 4], [[0.5, 0.5, 0.5, 0.0]]])
        assert find_centroids(field, steps=1)[1].tolist() == [[0, 2, 2, 3]]

    def test_stays_and_leaves(self):
        still = find_centroids(torch.zeros(2, 3, 4))
        expected = torch.stack(
            torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
        )
        assert still.equal(expected)
        assert find_centroids(torch.full((2, 3, 4), 9.0))[0].eq(2).all()
        assert find_centroids(torch.zeros(2, 1, 1)).tolist() == [[[0]], [[0]]]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_walks_in_float32(self, dtype):
        torch.manual_seed(0)
        field = torch.randn(2, 9, 130).to(dtype)
        before = field.clone()
        assert find_centroids(field).equal(find_centroids(field.float()))
        assert field.equal(before)

    @pytest.mark.parametrize(
        "device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
    )
    def test_keeps_device(self, device):
        field = torch.from_numpy(two_discs()[0]).to(device)
        ends = find_centroids(field)
        groups = group_centroids(ends, field)
        assert ends.device == groups.device == field.device
        assert ends.cpu().equal(find_centroids(field.cpu()))

    @pytest.mark.parametrize(
        "field",
        [
            torch.zeros(3, 4, 4),
            torch.zeros(4, 4),
            torch.zeros(2, 0, 4),
            torch.zeros(2, 4, 4, dtype=torch.long),
        ],
    )
    def test_refuses_other_fields(self, field):
        with pytest.raises(ValueError, match=r"displacement must be.*\(2, h, w\)"):
            find_centroids(field)
        with pytest.raises(ValueError, match=r"displacement must be.*\(2, h, w\)"):
            group_centroids(field, field)

    def test_refuses_what_is_not_finite(self):
        with pytest.raises(ValueError, match="finite"):
            find_centroids(torch.full((2, 2, 2), float("nan")))
        with pytest.raises(ValueError, match="steps must not be negative, but is -1"):
            find_centroids(torch.zeros(2, 2, 2), -1)


class TestGroupCentroids:
    @settings(deadline=None, max_examples=60)
    @given(fields(np.float64), st.sampled_from([0.0, 1.0, 2.5, 10.0]), st.data())
    def test_equals_scipy(self, field, threshold, data):
        height, width = field.shape[1:]
        shape = (height, width)
        ends = np.stack(
            [
                data.draw(arrays(np.int64, shape, elements=st.integers(0, side - 1)))
                for side in shape
            ]
        )
        groups = group_centroids(
            torch.from_numpy(ends), torch.from_numpy(field), threshold
        )
        assert groups.dtype == torch.int64
        assert groups.unique().tolist() == list(range(int(groups.max()) + 1))
        np.testing.assert_array_equal(
            groups.numpy(), slow_groups(ends, field, threshold)
        )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_two_discs(self, dtype):
        field, disc = two_discs()
        field = torch.from_numpy(field).to(dtype)
        groups = group_centroids(find_centroids(field), field)
        # The still pixels around both discs are one region, the first one.
        np.testing.assert_array_equal(groups.numpy(), disc)

    def test_outside_every_region_is_one_group(self):
        # Of five pixels the first, third and fifth rest; the others jump for ever.
        field = torch.tensor([[[0.0] * 5], [[0.0, 3, 0, 3, 0]]])
        ends = torch.tensor([[[0] * 5], [[4, 1, 3, 0, 2]]])
        assert group_centroids(ends, field).tolist() == [[3, 0, 0, 1, 2]]
        # A length of exactly the threshold is not short.
        assert group_centroids(ends, field, 3.0).tolist() == [[3, 0, 0, 1, 2]]
        assert group_centroids(ends, field, 3.1).tolist() == [[0] * 5]

    def test_refuses_other_centroids(self):
        field = torch.zeros(2, 3, 4)
        with pytest.raises(ValueError, match=r"centroids must be integers"):
            group_centroids(field, field)
        with pytest.raises(ValueError, match=r"shape \(2, 3, 4\), but"):
            group_centroids(torch.zeros(2, 4, 3, dtype=torch.long), field)
        for wrong in (-1, 3):
            with pytest.raises(ValueError, match=r"on the grid .* \(3, 4\)"):
                group_centroids(torch.full((2, 3, 4), wrong), field)


class TestDetectInstances:
    @pytest.mark.slow
    @settings(deadline=None)
    @given(
        array_shapes(min_dims=4, max_dims=4, max_side=6).flatmap(
            # Few values, so that maps tie with each other and with the background.
            lambda shape: arrays(
                np.float64, shape, elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1])
            )
        ),
        st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    )
    def test_equals_loops(self, scores, min_fraction):
        classes = [7 * number + 3 for number in range(len(scores))]
        result = detect_instances(
            torch.from_numpy(scores), torch.tensor(classes), BACKGROUND, min_fraction
        )
        assert plain(result) == slow_detections(
            scores, classes, BACKGROUND, min_fraction
        )
        # Masks neither overlap nor leave out a pixel above the background.
        covered = np.zeros(scores.shape[2:], dtype=int)
        for item in result:
            covered += item.mask
        np.testing.assert_array_equal(
            covered, (scores > BACKGROUND).any(axis=(0, 1)).astype(int)
        )

    def test_from_a_field_to_instances(self):
        field, disc = two_discs()
        field = torch.from_numpy(field)
        groups = group_centroids(find_centroids(field), field)
        masks = torch.stack([groups == number for number in range(3)])
        cam = torch.from_numpy(np.where(disc > 0, 0.5 + 0.1 * disc, 0.1))
        found = detect_instances((cam * masks)[None], torch.tensor([4]), BACKGROUND)
        assert [(item.class_id, item.score) for item in found] == [(4, 0.6), (4, 0.7)]
        for number, item in enumerate(found, start=1):
            np.testing.assert_array_equal(item.mask, disc == number)

    def test_small_fragments_score_nothing(self):
        scores = torch.zeros(1, 1, 10, 20)
        scores[0, 0, 0, 0] = 0.9
        scores[0, 0, 5, 3:5] = 0.8
        found = detect_instances(scores, torch.tensor([2]), 0.5)
        # One per cent of 200 pixels are two.
        assert [item.score for item in found] == [0.0, pytest.approx(0.8)]
        assert all(isinstance(item, Instance) for item in found)
        assert [item.mask.dtype for item in found] == [np.dtype(bool)] * 2
        assert detect_instances(scores, torch.tensor([2]), 0.5, 0)[0].score > 0.8

    def test_nothing_to_find(self):
        assert detect_instances(torch.rand(2, 3, 4, 5), torch.arange(2), 1.0) == []
        assert detect_instances(torch.rand(2, 0, 4, 5), torch.arange(2), 0.2) == []
        assert detect_instances(torch.rand(0, 3, 4, 5), torch.arange(0), 0.2) == []

    def test_refuses(self):
        for scores, classes in ((torch.rand(2, 4, 5), 2), (torch.rand(2, 1, 4, 5), 3)):
            with pytest.raises(ValueError, match=r"\(n, m, H, W\) and classes \(n,\)"):
                detect_instances(scores, torch.arange(classes), 0.2)
