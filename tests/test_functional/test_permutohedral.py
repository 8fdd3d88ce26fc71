import math

import numpy as np
import pytest
import torch

from mmwood.functional.permutohedral import PermutohedralFilter

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def slow_simplex(point):
    """Corners of the simplex around a point of the plane, and its weights of them."""
    size = len(point)
    zero = size * np.round(point / size)
    while zero.sum():
        step = -size * np.sign(zero.sum())
        zero[((point - zero) * np.sign(step)).argmax()] += step
    order = np.argsort(zero - point)
    corners = [zero]
    for axis in order[::-1]:
        corners.append(corners[-1] + 1)
        corners[-1][axis] -= size
    corners = np.array(corners[:-1])
    equations = np.concatenate([corners.T, np.ones((1, size))])
    weights = np.linalg.lstsq(equations, np.append(point, 1), rcond=None)[0]
    np.testing.assert_allclose(equations @ weights, np.append(point, 1), atol=1e-8)
    assert weights.min() > -1e-9
    return [tuple(map(int, corner)) for corner in corners], weights


def slow_filter(features, values):
    """Splat, blur and slice, a point and a corner at a time."""
    dims = features.shape[1]
    basis = np.zeros((dims + 1, dims))
    for axis in range(dims):
        basis[: axis + 1, axis] = 1
        basis[axis + 1, axis] = -(axis + 1)
    basis /= np.linalg.norm(basis, axis=0)
    elevated = features @ basis.T * (dims + 1) * math.sqrt(2 / 3)
    simplices = [slow_simplex(point) for point in elevated]

    def smooth(values):
        lattice = {}
        for (corners, weights), value in zip(simplices, values):
            for corner, weight in zip(corners, weights):
                lattice[corner] = lattice.get(corner, 0) + weight * value
        for direction in range(dims + 1):
            step = np.full(dims + 1, -1)
            step[direction] = dims
            around = {}
            for corner in lattice:
                sides = [tuple((corner + sign * step).tolist()) for sign in (1, -1)]
                around[corner] = sum(lattice.get(side, 0) for side in sides)
            lattice = {c: value + around[c] / 2 for c, value in lattice.items()}
        return np.array(
            [
                sum(weight * lattice[corner] for corner, weight in zip(*simplex))
                for simplex in simplices
            ]
        )

    root = np.sqrt(smooth(np.ones((len(features), 1))))
    return smooth(values / root) / root


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dims", [1, 2, 3, 5])
def test_filter_equals_the_lattice_by_hand(dims, device):
    rng = np.random.default_rng(dims)
    features = rng.normal(0, 1.5, (80, dims))
    values = rng.normal(0, 1, (80, 3))
    smooth = PermutohedralFilter(torch.tensor(features, device=device).float())
    found = smooth(torch.tensor(values, device=device).float())
    assert found.dtype == torch.float32
    expected = slow_filter(features, values)
    np.testing.assert_allclose(found.cpu(), expected, atol=2e-5)
    assert np.abs(expected - values).mean() > 0.1
    again = smooth(torch.tensor(values[:, 1:2], device=device).float())
    torch.testing.assert_close(again, found[:, 1:2])


def gaussian_sums(features, values):
    kernel = torch.exp(-torch.cdist(features, features).square() / 2)
    root = kernel.sum(dim=1, keepdim=True).sqrt()
    return kernel @ (values / root) / root


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_filter_is_about_a_gaussian(dims):
    torch.manual_seed(0)
    features = torch.rand(4000, dims) * 6
    values = torch.stack([features[:, 0].sin(), features.sum(dim=1).cos()], dim=1)
    found = PermutohedralFilter(features)(values)
    expected = gaussian_sums(features, values)
    assert (found - expected).abs().mean() < 0.02
    assert (found - expected).abs().max() < 0.12
    # Other widths are farther from it.
    for factor in (0.8, 1.25):
        other = PermutohedralFilter(features * factor)(values)
        assert (other - expected).abs().mean() > 2 * (found - expected).abs().mean()


def test_points_far_apart_keep_their_values_and_equal_ones_share_them():
    far = torch.tensor([[0.0, 0, 0], [100, 0, 0], [0, -100, 50]])
    values = torch.randn(3, 2)
    torch.testing.assert_close(PermutohedralFilter(far)(values), values)
    equal = PermutohedralFilter(torch.full((4, 5), 7.3))(torch.eye(4))
    torch.testing.assert_close(equal, torch.full((4, 4), 0.25))


def test_order_of_points_does_not_matter():
    torch.manual_seed(1)
    features, values, order = (
        torch.randn(200, 5),
        torch.randn(200, 4),
        torch.randperm(200),
    )
    found = PermutohedralFilter(features)(values)
    other = PermutohedralFilter(features[order])(values[order])
    torch.testing.assert_close(other, found[order])


def test_the_same_filter_gives_the_same_bits():
    torch.manual_seed(2)
    features, values = torch.randn(5000, 5), torch.randn(5000, 7)
    first, second = (PermutohedralFilter(features)(values) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(3), r"features \(N, d\), got \(3,\)"),
        (torch.zeros(0, 2), "must not be empty"),
        (torch.tensor([[0.0], [1e9]]), "use a wider Gaussian"),
        (torch.tensor([[0.0], [math.nan]]), "use a wider Gaussian"),
        (torch.diag(torch.full((5,), 1e4)), "use a wider Gaussian"),
    ],
)
def test_what_no_lattice_holds_is_refused(features, message):
    with pytest.raises(ValueError, match=message):
        PermutohedralFilter(features)
