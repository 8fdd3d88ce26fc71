import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from mmwood.functional.components import (
    connected_components,
    count_components,
    label_counts,
    size_weights,
)

# Few values make large components, and 255 and 0 occur often.
label_maps = arrays(
    np.int64,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([0, 1, 2, 20, 255]),
)
batches = arrays(
    np.uint8,
    array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
    elements=st.sampled_from([0, 1, 2, 255]),
)
connectivities = st.sampled_from([4, 8])
references = st.sampled_from(["class", "foreground"])


def slow_components(label, connectivity, leave_out=()):
    """The pixels of every component, by SciPy, a value at a time."""
    structure = ndimage.generate_binary_structure(2, connectivity // 4)
    found = set()
    for value in set(label.ravel().tolist()) - set(leave_out):
        parts, number = ndimage.label(label == value, structure)
        found |= {frozenset(zip(*np.where(parts == n + 1))) for n in range(number)}
    return found


def slow_weights(label, limit, ignore_index, background, connectivity, reference):
    parts = slow_components(label, connectivity, (background, ignore_index))
    weights = np.where(label == background, 1.0, 0.0)
    weights[label == ignore_index] = 0
    for part in parts:
        value = label[next(iter(part))]
        total = sum(
            len(other)
            for other in parts
            if reference == "foreground" or label[next(iter(other))] == value
        )
        for pixel in part:
            weights[pixel] = min(limit, total / len(part))
    return weights


class TestConnectedComponents:
    @pytest.mark.slow
    @settings(deadline=None)
    @given(label_maps, connectivities, st.sampled_from([(), (0,), (0, 255)]))
    def test_equals_scipy(self, label, connectivity, leave_out):
        result = connected_components(label, connectivity, leave_out)
        numbers = range(1, len(result.areas) + 1)
        parts = [
            frozenset(map(tuple, np.argwhere(result.index == n).tolist()))
            for n in numbers
        ]
        assert set(parts) == slow_components(label, connectivity, leave_out)
        assert len(set(parts)) == len(parts)
        assert [len(part) for part in parts] == result.areas.tolist()
        assert [label[min(part)] for part in parts] == result.class_ids.tolist()
        assert result.index.dtype == np.int32
        assert result.class_ids.dtype == result.areas.dtype == np.int64
        assert (np.diff(result.class_ids) >= 0).all()

    def test_crossing_diagonals_of_two_classes(self):
        label = np.array([[1, 2], [2, 1]])
        assert connected_components(label, 8).areas.tolist() == [2, 2]
        assert connected_components(label, 4).areas.tolist() == [1, 1, 1, 1]

    def test_values_need_no_range(self):
        label = np.array([[-100, 7, 10**9]])
        assert connected_components(label).class_ids.tolist() == [-100, 7, 10**9]

    def test_takes_views_and_dtypes(self):
        label = np.array([[3, 3, 0], [0, 0, 3]])
        for dtype in (np.uint8, np.uint64, np.int32):
            assert connected_components(label.astype(dtype)[::-1].T).areas.sum() == 6
        assert connected_components(label == 3, leave_out=[0]).areas.tolist() == [3]
        assert connected_components(torch.from_numpy(label)).index.shape == (2, 3)

    def test_nothing_to_find(self):
        for label in (np.zeros((2, 3), np.uint8), np.zeros((0, 3), np.uint8)):
            result = connected_components(label, leave_out=[0])
            assert result.index.shape == label.shape
            assert result.class_ids.shape == result.areas.shape == (0,)

    def test_refuses(self):
        label = np.zeros((2, 2), np.uint8)
        with pytest.raises(ValueError, match="connectivity"):
            connected_components(label, 6)
        with pytest.raises(ValueError, match="shape"):
            connected_components(label[None])
        with pytest.raises(ValueError, match="integer"):
            connected_components(label.astype(np.float32))
        with pytest.raises(ValueError, match="integer"):
            connected_components(torch.zeros(2, 2, dtype=torch.bfloat16))


class TestLabelCounts:
    @pytest.mark.slow
    @settings(deadline=None)
    @given(label_maps, st.sampled_from([0, -5, 10**8]))
    def test_equals_unique(self, label, offset):
        for result, expected in zip(
            label_counts(label + offset),
            np.unique(label + offset, return_counts=True),
            strict=True,
        ):
            assert result.tolist() == expected.tolist()

    def test_of_nothing(self):
        values, counts = label_counts(torch.zeros(0, 4, 4, dtype=torch.long))
        assert values.shape == counts.shape == (0,)


class TestSizeWeights:
    @pytest.mark.slow
    @settings(deadline=None)
    @given(
        label_maps,
        st.sampled_from([1.0, 1.5, 5.0, float("inf")]),
        st.sampled_from([255, 1, 0]),
        st.sampled_from([0, 2]),
        connectivities,
        references,
    )
    def test_equals_loops(self, label, limit, ignore, background, neighbours, total):
        expected = slow_weights(label, limit, ignore, background, neighbours, total)
        result = size_weights(
            label, limit, ignore, background, connectivity=neighbours, reference=total
        )
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-6)

    @pytest.mark.slow
    @settings(deadline=None)
    @given(batches, connectivities, references)
    def test_batch_is_stacked_singles(self, label, connectivity, reference):
        fields = {"connectivity": connectivity, "reference": reference}
        singles = [size_weights(single, **fields) for single in label]
        batch = size_weights(label, **fields)
        np.testing.assert_array_equal(batch, np.stack(singles))
        tensor = size_weights(torch.from_numpy(label), **fields)
        np.testing.assert_array_equal(tensor.numpy(), batch)

    def test_known_answer(self):
        # Class 3 has parts of 4, 1 and 1 pixels, class 5 a single part.
        label = np.array(
            [
                [3, 3, 0, 3, 0],
                [3, 3, 0, 0, 5],
                [0, 0, 255, 0, 5],
                [3, 0, 0, 0, 5],
            ]
        )
        expected = [
            [1.5, 1.5, 1, 5, 1],
            [1.5, 1.5, 1, 1, 1],
            [1, 1, 0, 1, 1],
            [5, 1, 1, 1, 1],
        ]
        assert size_weights(label, reference="class").tolist() == expected
        assert size_weights(label, 10, reference="class")[0, 3] == 6
        foreground = size_weights(label)
        assert foreground[0, 0] == 2.25
        assert foreground[1, 4] == 3
        assert foreground[3, 0] == 5

    def test_connectivity(self):
        label = np.array([[1, 0, 0], [0, 1, 1]])
        assert size_weights(label)[label == 1].tolist() == [1, 1, 1]
        four = size_weights(label, connectivity=4)[label == 1]
        assert four.tolist() == [3, 1.5, 1.5]

    def test_ignored_pixels_separate_and_do_not_count(self):
        label = np.array([[1, 255, 1, 1]])
        assert size_weights(label).tolist() == [[3, 0, 1.5, 1.5]]

    def test_without_background_or_ignore(self):
        label = np.array([[0, 1, 0, 255]])
        assert size_weights(label, background=None).tolist() == [[3, 3, 3, 0]]
        assert size_weights(label, ignore_index=None).tolist() == [[1, 2, 1, 2]]

    @pytest.mark.parametrize("shape", [(0, 5), (0, 4, 4), (2, 0, 3)])
    def test_empty(self, shape):
        assert size_weights(np.zeros(shape, np.uint8)).shape == shape

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
    @pytest.mark.parametrize(
        "device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
    )
    def test_tensor_keeps_device(self, device, dtype):
        label = torch.tensor([[1, 0, 1, 1]], dtype=dtype, device=device)
        weights = size_weights(label)
        assert weights.device == label.device
        assert weights.dtype == torch.float32
        assert weights.tolist() == [[3, 1, 1.5, 1.5]]

    def test_leaves_label_alone(self):
        label = torch.tensor([[1, 0, 1, 255]])
        before = label.clone()
        size_weights(label)
        assert label.equal(before)

    @pytest.mark.parametrize("limit", [0, -1.0, 0.5, float("nan"), "5", None, True])
    def test_refuses_limit(self, limit):
        with pytest.raises(ValueError, match="limit"):
            size_weights(np.zeros((2, 2), np.uint8), limit)

    def test_refuses_other_fields(self):
        label = np.zeros((2, 2), np.uint8)
        with pytest.raises(ValueError, match="connectivity"):
            size_weights(label, connectivity=5)
        with pytest.raises(ValueError, match="reference"):
            size_weights(label, reference="image")
        with pytest.raises(ValueError, match="shape"):
            size_weights(label[0])
        with pytest.raises(ValueError, match="shape"):
            size_weights(label[None, None])
        with pytest.raises(ValueError, match="integer"):
            size_weights(label.astype(float))


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("strip", [1, 2, 5, 100])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_counted_in_strips_as_on_the_whole(connectivity, strip, share):
    rng = np.random.default_rng(int(10 * share))
    for _ in range(10):
        label = np.where(rng.random((23, 19)) < share, 1, rng.integers(0, 4, (23, 19)))
        whole = connected_components(label, connectivity, [0])
        values, counts = np.unique(whole.class_ids, return_counts=True)
        found = count_components(label.astype(np.uint8), connectivity, [0], strip)
        assert found == dict(zip(values.tolist(), counts.tolist()))


def test_counted_spiral():
    """One component that every strip cuts into many."""
    label = np.zeros((41, 41), dtype=np.uint8)
    for ring in range(0, 20, 2):
        label[ring, ring : 41 - ring] = label[40 - ring, ring : 41 - ring] = 1
        label[ring : 41 - ring, 40 - ring] = label[ring + 2 : 41 - ring, ring] = 1
        label[ring + 2, ring : ring + 2] = 1
    expected = len(connected_components(label, 4, [0]).class_ids)
    assert count_components(label, 4, [0], strip=3) == {1: expected}
