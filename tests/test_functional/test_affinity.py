"""Affinities and the random walk against loops and dense matrices in float64."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmwood.functional.affinity import (
    edge_to_affinity,
    edge_to_transition,
    pixel_pairs,
    random_walk,
    search_paths,
)


def slow_path(a: tuple[int, int], b: tuple[int, int]) -> set[tuple[int, int]]:
    """Pixels of the bounding box of a and b nearer than 1 to the line through them."""
    (ay, ax), (by, bx) = a, b
    dy, dx = by - ay, bx - ax
    path = set()
    for y in range(min(ay, by), max(ay, by) + 1):
        for x in range(min(ax, bx), max(ax, bx) + 1):
            squared = Fraction((dy * (x - ax) - dx * (y - ay)) ** 2, dy**2 + dx**2)
            if squared < 1:
                path.add((y, x))
    return path


def slow_affinity(edge: np.ndarray, radius: int) -> np.ndarray:
    """The whole (h·w, h·w) matrix of affinities, 1 on the diagonal."""
    height, width = edge.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    matrix = np.eye(len(places))
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            if i != j and (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 < radius**2:
                matrix[i, j] = 1 - max(edge[place] for place in slow_path(a, b))
    return matrix


def dense_affinity(edge: torch.Tensor, radius: int) -> torch.Tensor:
    """As :func:`slow_affinity`, from the affinities that the test above checks."""
    pairs = pixel_pairs(*edge.shape, radius)
    matrix = torch.eye(edge.numel(), dtype=torch.float64)
    values = edge_to_affinity(edge.double()[None], radius)[0]
    matrix[pairs.source, pairs.target] = values
    matrix[pairs.target, pairs.source] = values
    return matrix


def dense_walk(cam, edge, radius, beta, steps) -> torch.Tensor:
    """x T^steps with the dense T, in float64."""
    affinity = dense_affinity(edge, radius) ** beta
    transition = affinity / affinity.sum(dim=0, keepdim=True)
    x = (cam.double() * (1 - edge.double())).flatten(1)
    return (x @ torch.linalg.matrix_power(transition, steps)).view(cam.shape)


@pytest.mark.parametrize("radius", [2, 3, 5, 10])
def test_paths_are_those_of_the_definition(radius):
    paths = search_paths(radius)
    half = {
        (y, x)
        for y in range(radius)
        for x in range(1 - radius, radius)
        if 0 < y * y + x * x < radius**2 and (y > 0 or x > 0)
    }
    assert {offset for offset, _ in paths} == half
    assert len(paths) == len(half)
    for offset, path in paths:
        assert set(path) == slow_path((0, 0), offset)
        assert len(set(path)) == len(path)


@pytest.mark.parametrize(("size", "radius"), [((5, 7), 3), ((6, 4), 5), ((3, 3), 10)])
def test_affinities_against_loops(size, radius):
    edge = torch.rand(size, dtype=torch.float64)
    expected = slow_affinity(edge.numpy(), radius)
    np.testing.assert_allclose(dense_affinity(edge, radius), expected, rtol=0, atol=0)
    pairs = pixel_pairs(*size, radius)
    steps = pairs.offset[:, 0] * size[1] + pairs.offset[:, 1]
    assert torch.equal(pairs.source + steps, pairs.target)
    off_diagonal = (expected > 0).sum() - len(expected)
    assert 2 * len(pairs.source) == 2 * sum(pairs.counts) == off_diagonal


@pytest.mark.slow
def test_gradient_of_affinities():
    # Distinct values: the strongest pixel of a path is one.
    edge = torch.randperm(2 * 5 * 6).double().view(2, 5, 6).div(60).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: edge_to_affinity(e, 3), edge)
    assert torch.equal(
        edge_to_affinity(edge, 3).detach(), edge_to_affinity(edge.detach(), 3)
    )


@pytest.mark.parametrize("radius", [3, 5, 10])
def test_transition_matrix(radius):
    edge = torch.rand(7, 9, dtype=torch.float64)
    transition = edge_to_transition(edge, radius=radius, beta=10)
    assert transition.layout == torch.sparse_csr
    affinity = torch.from_numpy(slow_affinity(edge.numpy(), radius)) ** 10
    expected = affinity / affinity.sum(dim=0, keepdim=True)
    torch.testing.assert_close(transition.to_dense(), expected, rtol=1e-12, atol=1e-15)
    assert edge_to_transition(edge.float()).dtype == torch.float32


@pytest.mark.parametrize("radius", [3, 5, 10])
@pytest.mark.parametrize("steps", [0, 1, 2, 7, 256])
def test_walk_against_dense_power(radius, steps):
    generator = torch.Generator().manual_seed(radius + steps)
    edge = torch.rand(23, 31, generator=generator, dtype=torch.float64) ** 3
    cam = torch.rand(3, 23, 31, generator=generator, dtype=torch.float64)
    expected = dense_walk(cam, edge, radius, 10, steps)
    found = random_walk(cam, edge, radius=radius, beta=10, steps=steps)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    found = random_walk(cam.float(), edge.float(), radius=radius, steps=steps)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_walk_against_dense_power_on_real_edges(mini_voc):
    """Gradient strength of a photograph, 0 to 1: long, connected edges."""
    path = sorted((mini_voc / "JPEGImages").glob("*.jpg"))[5]
    grey = cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (37, 27)) / 255
    strength = np.hypot(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1))
    edge = torch.from_numpy(strength.clip(0, 1))
    y, x = np.mgrid[:27, :37]
    cam = torch.from_numpy(np.exp(-((y - 10) ** 2 + (x - 20) ** 2) / 50))[None]
    expected = dense_walk(cam, edge, 5, 10, 256)
    torch.testing.assert_close(random_walk(cam, edge), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    radius=st.integers(2, 12),
    beta=st.sampled_from([0, 1, 4.5, 10]),
    seed=st.integers(0, 2**16),
    double=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_walk_is_a_mean(height, width, radius, beta, seed, double):
    """Values stay within the range of CAM ⊙ (1 - edge), also for closed edges."""
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    edge = torch.rand(height, width, generator=generator, dtype=dtype)
    edge = torch.where(edge > 0.7, 1.0, edge).to(dtype)
    cam = torch.rand(2, height, width, generator=generator, dtype=dtype)
    walked = random_walk(cam, edge, radius=radius, beta=beta)
    x = (cam * (1 - edge)).flatten(1)
    assert (walked.flatten(1).amax(dim=1) <= x.amax(dim=1)).all()
    assert (walked.flatten(1).amin(dim=1) >= x.amin(dim=1)).all()
    # A constant map on constant edges is a constant x, and stays it.
    with_edge = torch.full_like(edge, 0.25)
    constant = random_walk(torch.ones_like(cam), with_edge, radius=radius, beta=beta)
    torch.testing.assert_close(constant, torch.full_like(cam, 0.75), rtol=0, atol=1e-6)


def test_wall_stops_the_walk():
    edge = torch.zeros(9, 21)
    edge[:, 10] = 1
    cam = torch.zeros(1, 9, 21)
    cam[:, :, :3] = 1
    walked = random_walk(cam, edge)
    assert walked[0, :, 11:].abs().max() == 0
    assert walked[0, :, 3:10].min() > 0.1


def test_images_of_a_batch_do_not_meet():
    edge = torch.rand(3, 11, 13, dtype=torch.float64)
    cam = torch.rand(3, 2, 11, 13, dtype=torch.float64)
    together = random_walk(cam, edge)
    for index in range(3):
        alone = random_walk(cam[index], edge[index])
        torch.testing.assert_close(together[index], alone, rtol=0, atol=1e-12)


def test_empty_and_tiny():
    assert random_walk(torch.zeros(0, 5, 6), torch.rand(5, 6)).shape == (0, 5, 6)
    # A single pixel has no neighbour: it keeps CAM ⊙ (1 - edge).
    walked = random_walk(torch.ones(1, 1, 1), torch.full((1, 1), 0.25))
    torch.testing.assert_close(walked, torch.full((1, 1, 1), 0.75))


@pytest.mark.cuda
def test_walk_on_cuda():
    edge, cam = torch.rand(2, 17, 19), torch.rand(2, 3, 17, 19)
    found = random_walk(cam.cuda(), edge.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), random_walk(cam, edge), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: search_paths(1), "radius must be an integer of at least 2"),
        (lambda: search_paths(2.5), "radius must be an integer of at least 2"),
        (lambda: edge_to_affinity(torch.zeros(3, 3), 3), r"edge \(B, h, w\)"),
        (lambda: edge_to_transition(torch.zeros(1, 3, 3)), r"edge \(h, w\)"),
        (lambda: edge_to_transition(torch.zeros(3, 3).half()), "not torch.float16"),
        (lambda: edge_to_transition(torch.zeros(3, 3), beta=-1), "beta must be"),
        (lambda: random_walk(torch.zeros(1, 3, 4), torch.zeros(3, 3)), r"\(1, 3, 4\)"),
        (lambda: random_walk(torch.zeros(3, 3), torch.zeros(3, 3)), r"cam \(C, h, w\)"),
        (
            lambda: random_walk(torch.zeros(1, 3, 3), torch.zeros(3, 3), steps=-1),
            "steps must be",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
