"""SEAM's parts against loops over pixels in double precision."""

import math

import pytest
import torch

from mmwood.functional.seam import (
    cross_regularization_loss,
    min_pooling_loss,
    normalized_maps,
    pixel_correlation,
    strongest_only,
    with_background,
)


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def test_pixel_correlation_equals_loops():
    maps, features = random(2, 3, 4, 5), random(2, 6, 4, 5, seed=1)
    found = pixel_correlation(maps, features)
    for image in range(2):
        f = features[image].flatten(1).T.tolist()
        x = maps[image].flatten(1).T.tolist()
        unit = []
        for row in f:
            length = math.sqrt(sum(v * v for v in row)) + 1e-5
            unit.append([v / length for v in row])
        alike = [
            [max(0.0, sum(a * b for a, b in zip(one, other))) for other in unit]
            for one in unit
        ]
        for i in range(20):
            total = sum(alike[j][i] for j in range(20)) + 1e-5
            for channel in range(3):
                value = sum(alike[j][i] * x[j][channel] for j in range(20)) / total
                assert found[image, channel].flatten()[i] == pytest.approx(
                    value, abs=1e-6
                )


def test_pixel_correlation_of_two_kinds_of_pixels_is_their_means():
    features = torch.zeros(1, 2, 1, 4)
    features[0, 0, 0, :2] = features[0, 1, 0, 2:] = 3
    maps = torch.tensor([[[[1.0, 0.0, 0.5, 0.1]]]])
    expected = torch.tensor([[[[0.5, 0.5, 0.3, 0.3]]]])
    torch.testing.assert_close(
        pixel_correlation(maps, features), expected, atol=1e-4, rtol=0
    )


def test_normalized_maps_and_background():
    maps = random(2, 3, 4, 5)
    found = normalized_maps(maps)
    for image in range(2):
        for channel in range(3):
            values = [max(0.0, v) for v in maps[image, channel].flatten().tolist()]
            low, high = min(values), max(values)
            expected = [max(0.0, v - low - 1e-5) / (high - low + 1e-5) for v in values]
            assert found[image, channel].flatten().tolist() == pytest.approx(expected)
    both = with_background(found)
    assert torch.equal(both[:, 1:], found)
    assert torch.equal(both[:, 0], 1 - found.amax(dim=1))
    assert normalized_maps(-maps.abs()).eq(0).all()


def test_strongest_only():
    maps = torch.tensor([0.7, 0.2, 0.5, 0.5])[None, :, None, None]
    expected = torch.tensor([0.7, 0.0, 0.5, 0.5])[None, :, None, None]
    assert torch.equal(strongest_only(maps), expected)


@pytest.mark.parametrize("fraction", [0.2, 1.0, 0.001])
def test_cross_regularization_equals_sorting(fraction):
    maps, target = random(2, 3, 4, 5).abs(), random(2, 3, 4, 5, seed=1).abs()
    total = 0
    for image in range(2):
        pairs = zip(maps[image].flatten().tolist(), target[image].flatten().tolist())
        differences = sorted((abs(a - b) for a, b in pairs), reverse=True)
        count = max(int(60 * fraction), 1)
        total += sum(differences[:count]) / count
    found = cross_regularization_loss(maps, target, fraction)
    assert float(found) == pytest.approx(total / 2)


@pytest.mark.parametrize("fraction", [0.25, 1.0, 0.001])
def test_min_pooling_equals_sorting(fraction):
    maps = random(2, 3, 4, 5)
    total = 0
    for image in range(2):
        pixels = maps[image].flatten(1).T.tolist()
        largest = sorted(max(values) for values in pixels)
        count = max(int(20 * fraction), 1)
        total += sum(max(0.0, v) for v in largest[:count]) / count
    assert float(min_pooling_loss(maps, fraction)) == pytest.approx(total / 2)


def test_gradients():
    maps = random(1, 3, 3, 3).abs().requires_grad_()
    features = random(1, 4, 3, 3, seed=1).requires_grad_()
    target = random(1, 3, 3, 3, seed=2)
    assert torch.autograd.gradcheck(
        lambda m: cross_regularization_loss(m, target), maps
    )
    assert torch.autograd.gradcheck(min_pooling_loss, maps)
    assert torch.autograd.gradcheck(normalized_maps, maps)
    assert torch.autograd.gradcheck(pixel_correlation, (maps, features))


def test_large_features_of_half_precision(half_dtype):
    features = (1000 * random(1, 64, 6, 6)).to(half_dtype).requires_grad_()
    maps = random(1, 3, 6, 6).abs().to(half_dtype)
    found = pixel_correlation(maps, features)
    found.sum().backward()
    assert found.isfinite().all()
    assert features.grad.isfinite().all()
    expected = pixel_correlation(maps.double(), features.double())
    torch.testing.assert_close(found.double(), expected, atol=0.03, rtol=0)


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"features \(B, D, h, w\)"):
        pixel_correlation(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 3, 4))
