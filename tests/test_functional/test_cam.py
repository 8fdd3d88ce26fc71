import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmwood.functional.cam import (
    class_activation_maps,
    merge_scales,
    own_class_maps,
    seed_from_cam,
    strided_size,
)


def test_class_activation_maps_equal_loops():
    features = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    weight = torch.randn(3, 5, dtype=torch.float64)
    expected = torch.zeros(2, 3, 4, 3, dtype=torch.float64)
    for b, c, y, x in np.ndindex(2, 3, 4, 3):
        total = sum(float(weight[c, d] * features[b, d, y, x]) for d in range(5))
        expected[b, c, y, x] = max(0.0, total)
    torch.testing.assert_close(class_activation_maps(features, weight), expected)


@pytest.mark.parametrize(
    ("features", "weight"), [((2, 5, 4), (3, 5)), ((2, 5, 4, 3), (3, 4))]
)
def test_class_activation_maps_refuse_other_shapes(features, weight):
    with pytest.raises(ValueError, match="features"):
        class_activation_maps(torch.zeros(features), torch.zeros(weight))


def test_strided_size():
    assert strided_size((375, 500)) == (94, 125)
    assert strided_size((1, 4)) == (1, 1)


def bilinear_reference(cam: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize with pixel centres at (i + 0.5), a pixel at a time."""
    rows, columns = cam.shape
    result = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        v = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
        u = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
        top, left = int(v), int(u)
        bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
        dv, du = v - top, u - left
        upper = (1 - du) * cam[top, left] + du * cam[top, right]
        lower = (1 - du) * cam[bottom, left] + du * cam[bottom, right]
        result[y, x] = (1 - dv) * upper + dv * lower
    return result


@pytest.mark.parametrize("round_up_to", [None, 8])
def test_merge_scales_equals_loops(round_up_to):
    cams = [torch.rand(2, *size, dtype=torch.float64) for size in ((2, 3), (4, 5))]
    height, width = 11, 14
    padded = (height, width) if round_up_to is None else (16, 16)
    expected = np.zeros((2, height, width))
    for cam in cams:
        for c in range(2):
            resized = bilinear_reference(cam[c].numpy(), *padded)
            expected[c] += resized[:height, :width]
    for c in range(2):
        expected[c] /= expected[c].max() + 1e-5
    merged = merge_scales(cams, (height, width), round_up_to)
    torch.testing.assert_close(merged, torch.from_numpy(expected))


def test_merge_scales_normalises_each_class_and_keeps_zero():
    cam = torch.tensor([[[0.0, 4.0]], [[0.0, 0.0]]])
    merged = merge_scales([cam], (1, 2))
    torch.testing.assert_close(merged[0, 0, 1], torch.tensor(4 / (4 + 1e-5)))
    assert not merged[1].any()


def test_merge_scales_without_classes():
    assert merge_scales([torch.zeros(0, 3, 3)], (5, 4)).shape == (0, 5, 4)


def test_merge_scales_refuses_no_maps_and_unequal_classes():
    with pytest.raises(ValueError, match="at least one map"):
        merge_scales([], (4, 4))
    with pytest.raises(ValueError, match=r"cams\[1\] \(C, h1, w1\)"):
        merge_scales([torch.zeros(2, 3, 3), torch.zeros(3, 3, 3)], (4, 4))


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.floats(0, 0.99))
@settings(deadline=None, max_examples=50)
def test_seed_is_the_argmax_with_the_threshold_first(seed, count, threshold):
    rng = np.random.default_rng(seed)
    # Few distinct values, so that ties happen, with the threshold too.
    cam = rng.choice([0.0, 0.25, 0.5, threshold, 1.0], size=(count, 3, 4))
    cam = cam.astype(np.float32)
    classes = rng.choice(20, size=count, replace=False)
    background = np.full((1, 3, 4), threshold, dtype=np.float32)
    labels = np.append(0, classes + 1)
    expected = labels[np.concatenate([background, cam]).argmax(axis=0)]
    label = seed_from_cam(
        torch.from_numpy(cam), torch.from_numpy(classes), float(np.float32(threshold))
    )
    assert label.dtype == torch.uint8
    np.testing.assert_array_equal(label.numpy(), expected)


def test_seed_refuses_classes_that_do_not_fit():
    cam = torch.zeros(2, 3, 3)
    with pytest.raises(ValueError, match=r"classes \(n,\)"):
        seed_from_cam(cam, torch.tensor([1]), 0.1)
    with pytest.raises(ValueError, match=r"0\.\.253"):
        seed_from_cam(cam, torch.tensor([1, 254]), 0.1)


def test_scores_near_the_background_are_ignored():
    cam = torch.tensor([[[0.1, 0.24, 0.25, 0.26, 0.5]], [[0.0, 0.0, 0.0, 0.3, 0.9]]])
    label = seed_from_cam(cam, torch.tensor([0, 3]), 0.25, ignore_band=0.02)
    assert label.tolist() == [[0, 255, 255, 4, 4]]


def test_own_class_maps_one_by_one(half_dtype):
    features = torch.randn(2, 5, 3, 4, requires_grad=True)
    weight = torch.randn(3, 5, requires_grad=True)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]])
    maps = own_class_maps(features, weight, labels)
    assert not maps.requires_grad
    for image in range(2):
        for c in range(3):
            own = torch.einsum("d,dhw->hw", weight[c], features[image]).relu()
            expected = own / (own.max() + 1e-5) * labels[image, c]
            torch.testing.assert_close(maps[image, c], expected.detach())
    half = own_class_maps(features.to(half_dtype), weight.to(half_dtype), labels)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, maps, atol=0.05, rtol=0)
