"""Every rule against a loop over numbers, and what its gradient feeds."""

import itertools
import math

import pytest
import torch

from mmwood.functional.pooling import (
    POOLINGS,
    max_pooling,
    mean_pooling,
    rank_pooling,
    softmax_pooling,
    threshold_pooling,
)


def mean(values):
    return sum(values) / len(values)


def softmax(values, temperature):
    top = max(value / temperature for value in values)
    odds = [math.exp(value / temperature - top) for value in values]
    return sum(o * v for o, v in zip(odds, values)) / sum(odds)


def threshold(values, threshold):
    limit = min(values) + threshold * (max(values) - min(values))
    return mean([v for v in values if v >= limit - 1e-12])


def rank(values, decay):
    weights = [decay**number for number in range(len(values))]
    ranked = sorted(values, reverse=True)
    return sum(w * v for w, v in zip(weights, ranked)) / sum(weights)


CASES = [
    (mean_pooling, mean, {}),
    (max_pooling, max, {}),
    *((softmax_pooling, softmax, dict(temperature=t)) for t in (0.1, 2.0, -0.5)),
    *((threshold_pooling, threshold, dict(threshold=t)) for t in (0, 0.3, 0.9, 1)),
    *((rank_pooling, rank, dict(decay=d)) for d in (0.5, 0.996, 1)),
]


@pytest.mark.parametrize(("function", "reference", "options"), CASES)
def test_equals_loops(function, reference, options):
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    # Of one sign, too, and of equal values.
    maps[0, 0], maps[0, 1], maps[1, 2] = -maps[0, 0].abs(), maps[0, 1].abs(), -3
    found = function(maps, **options)
    assert found.shape == (2, 3)
    for image in range(2):
        for c in range(3):
            expected = reference(maps[image, c].flatten().tolist(), **options)
            assert found[image, c].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("function", "reference", "options"), CASES)
def test_gradient(function, reference, options):
    maps = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: function(m, **options), (maps,))


def test_softmax_goes_from_the_largest_value_to_the_mean():
    maps = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(softmax_pooling(maps, 1e-3), max_pooling(maps))
    torch.testing.assert_close(softmax_pooling(maps, 1e9), mean_pooling(maps))
    torch.testing.assert_close(softmax_pooling(maps, -1e-3), maps.amin(dim=(2, 3)))
    ascending = [softmax_pooling(maps, t) for t in (0.1, 0.5, 2.0, 8.0)]
    assert all((a > b).all() for a, b in itertools.pairwise(ascending))


def test_softmax_gradient_is_that_of_the_docstring():
    maps = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    score = softmax_pooling(maps, 0.7)
    (gradient,) = torch.autograd.grad(score.sum(), maps)
    share = (maps / 0.7).flatten().softmax(0).view_as(maps)
    torch.testing.assert_close(gradient, share * (1 + (maps - score) / 0.7))


@pytest.mark.parametrize("name", POOLINGS)
def test_single_pixels_and_half_precision(name, half_dtype):
    maps = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(POOLINGS[name](maps), maps[..., 0, 0])
    maps = torch.randn(2, 3, 4, 4)
    found = POOLINGS[name](maps.to(half_dtype))
    assert found.dtype == half_dtype
    torch.testing.assert_close(found.float(), POOLINGS[name](maps), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (softmax_pooling, dict(temperature=0), "temperature must not be 0"),
        (softmax_pooling, dict(temperature=math.nan), "temperature must not be 0"),
        (threshold_pooling, dict(threshold=1.5), r"threshold must be in \[0, 1\]"),
        (rank_pooling, dict(decay=0), r"decay must be in \(0, 1\]"),
        (mean_pooling, {}, r"expected maps \(B, C, h, w\)"),
    ],
)
def test_wrong_arguments(function, options, message):
    maps = torch.zeros(2, 3, 4, 4) if options else torch.zeros(3, 4, 4)
    with pytest.raises(ValueError, match=message):
        function(maps, **options)
