import math

import pytest
import torch

from mmwood.functional.patch_token_contrast import (
    auxiliary_maps,
    contrast_loss,
    inside_image,
    pair_cosines,
    token_labels,
)


def grid(*shape: int) -> list[tuple[int, ...]]:
    return [tuple(index) for index in torch.ones(shape).nonzero().tolist()]


def test_auxiliary_maps_equal_a_loop():
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]])
    with torch.no_grad():
        # Nowhere positive, and equal everywhere.
        scores[0, 2] = -scores[0, 2].abs()
    found = auxiliary_maps(scores, labels)
    assert not found.requires_grad
    for b, c in grid(2, 3):
        values = [max(0.0, x) for x in scores[b, c].flatten().tolist()]
        low, high = min(values), max(values)
        expected = [
            labels[b, c].item() * max(0.0, x - low - 1e-5) / (high - low + 1e-5)
            for x in values
        ]
        assert found[b, c].flatten().tolist() == pytest.approx(expected, abs=1e-12)
    assert found[0, 0].min() == 0
    assert found[0, 0].max() > 0.999


def test_token_labels_equal_a_loop():
    torch.manual_seed(0)
    maps = torch.rand(3, 4, 6, 7, dtype=torch.float64) ** 2
    maps[0, :, 0, 0] = torch.tensor([0.25, 0.1, 0.25, 0.0])
    maps[0, :, 0, 1] = torch.tensor([0.1, 0.7, 0.2, 0.0])
    maps[1] = 0
    found = token_labels(maps)
    for b, y, x in grid(3, 6, 7):
        values = maps[b, :, y, x].tolist()
        largest = max(values)
        expected = 255
        if largest > 0.7:
            expected = 1 + values.index(largest)
        if largest <= 0.25:
            expected = 0
        assert found[b, y, x] == expected
    assert found[0, 0, :2].tolist() == [0, 255]
    # COCO's, and no band of uncertainty.
    assert (token_labels(maps, foreground=0.65) <= found).all()
    assert (token_labels(maps, 0.4, 0.4) != 255).all()


@pytest.mark.parametrize("stride", [1, 8, 16])
def test_tokens_inside_equal_a_loop(stride):
    sizes = torch.tensor([[30, 41], [64, 1], [7, 80]])
    found = inside_image(sizes, (4, 5), stride)
    for b, y, x in grid(3, 4, 5):
        height, width = sizes[b].tolist()
        inside = (y + 0.5) * stride < height and (x + 0.5) * stride < width
        assert found[b, y, x] == inside


def loop(tokens: torch.Tensor, labels: torch.Tensor) -> list[float]:
    sums, counts = [0.0, 0.0], [0, 0]
    for image, places in zip(tokens, labels.flatten(1)):
        vectors = image.flatten(1).T.tolist()
        for i, j in grid(len(vectors), len(vectors)):
            one, other = places[i].item(), places[j].item()
            if i == j or 255 in (one, other):
                continue
            dot = sum(a * b for a, b in zip(vectors[i], vectors[j]))
            kind = int(one != other)
            sums[kind] += abs(dot) / math.hypot(*vectors[i]) / math.hypot(*vectors[j])
            counts[kind] += 1
    return [total / (count + 1) for total, count in zip(sums, counts)]


def test_pairs_equal_a_loop():
    torch.manual_seed(0)
    tokens = torch.randn(3, 5, 3, 4, dtype=torch.float64)
    labels = torch.tensor([0, 1, 3, 255])[torch.randint(4, (3, 3, 4))]
    # Background alone, and one token alone.
    labels[1] = 0
    labels[2] = 255
    labels[2, 1, 2] = 2
    same, different = pair_cosines(tokens, labels)
    assert [same.item(), different.item()] == pytest.approx(loop(tokens, labels))
    assert same > 0.1
    assert different > 0.1
    expected = 0.5 * (1 - same) + 0.5 * different
    torch.testing.assert_close(contrast_loss(same, different), expected)


def test_gradient_equals_differences():
    torch.manual_seed(0)
    tokens = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[[0, 0, 1], [255, 1, 2]], [[0, 255, 0], [1, 1, 0]]])

    def value(tokens):
        return contrast_loss(*pair_cosines(tokens, labels))

    assert torch.autograd.gradcheck(value, (tokens,))
    (gradient,) = torch.autograd.grad(value(tokens), tokens)
    moved = gradient.abs().sum(dim=1) > 1e-9
    assert torch.equal(moved, labels != 255)


@pytest.mark.parametrize("label", [0, 255])
def test_nothing_to_contrast(label):
    tokens = torch.randn(2, 4, 1, 1, requires_grad=True)
    labels = torch.full((2, 1, 1), label)
    loss = contrast_loss(*pair_cosines(tokens, labels))
    loss.backward()
    assert loss == 0.5
    assert not tokens.grad.any()


def test_what_the_loss_does_to_tokens():
    """Different ones go to right angles; opposite ones count as alike."""
    torch.manual_seed(0)
    tokens = torch.randn(1, 6, 1, 6) * 0.3 + 1
    labels = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    tokens.requires_grad_()
    before = pair_cosines(tokens, labels)
    optimizer = torch.optim.SGD([tokens], 1.0)
    for _ in range(200):
        optimizer.zero_grad()
        contrast_loss(*pair_cosines(tokens, labels)).backward()
        optimizer.step()
    same, different = pair_cosines(tokens, labels)
    assert before[1] > 0.8
    assert different < 0.05
    # Twelve pairs, so at most 12 / 13.
    assert same > 0.9
    opposite = tokens.detach().clone()
    opposite[..., ::2] *= -1
    torch.testing.assert_close(pair_cosines(opposite, labels)[0], same.detach())


def test_parallel_tokens_stay_parallel():
    tokens = (torch.randn(1, 5, 1, 1) * torch.ones(1, 5, 2, 3)).requires_grad_()
    labels = torch.tensor([[[0, 0, 1], [2, 1, 0]]])
    contrast_loss(*pair_cosines(tokens, labels)).backward()
    assert tokens.grad.abs().max() < 1e-6


def test_shapes():
    with pytest.raises(ValueError, match=r"tokens \(B, D, h, w\) and labels"):
        pair_cosines(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match=r"scores \(B, C, h, w\) and labels"):
        auxiliary_maps(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4))
