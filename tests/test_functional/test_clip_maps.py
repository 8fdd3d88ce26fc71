"""The mathematics of CLIP's maps against loops in double precision."""

import math

import pytest
import torch

from mmwood.functional.clip_maps import (
    resize_positions,
    self_similar_values,
    text_maps,
)


@pytest.mark.parametrize(
    "compared", [("query", "key", "value"), ("value",), ("key", "query"), ()]
)
def test_self_similar_values(compared):
    torch.manual_seed(0)
    heads, count, width = 2, 5, 3
    parts = torch.randn(3, heads, count, width, dtype=torch.float64)
    query, key, value = parts
    by_name = dict(query=query, key=key, value=value)
    expected = torch.zeros_like(value)
    for head in range(heads):
        for i in range(count):
            if not compared:
                expected[head, i] = value[head, i]
            for name in compared:
                rows = by_name[name][head].tolist()
                logits = [
                    sum(a * b for a, b in zip(rows[i], row)) / math.sqrt(width)
                    for row in rows
                ]
                total = sum(map(math.exp, logits))
                for j, logit in enumerate(logits):
                    weight = math.exp(logit) / total / len(compared)
                    expected[head, i] += weight * value[head, j]
    found = self_similar_values(query, key, value, compared)
    torch.testing.assert_close(found, expected)


def slow_text_maps(tokens, class_token, texts, wanted):
    """CLIP Surgery with every product of every channel, as its text has it."""

    def unit(vector):
        return [v / math.sqrt(sum(u * u for u in vector)) for v in vector]

    tokens = [unit(token) for token in tokens.tolist()]
    texts = [unit(text) for text in texts.tolist()]
    image = unit(class_token.tolist())
    logits = [math.exp(2 * sum(a * b for a, b in zip(image, t))) for t in texts]
    probabilities = [logit / sum(logits) for logit in logits]
    mean = sum(probabilities) / len(probabilities)
    weights = [p / mean for p in probabilities]
    maps = []
    for text in range(wanted):
        row = []
        for token in tokens:
            total = 0.0
            for channel, value in enumerate(token):
                products = [w * value * t[channel] for w, t in zip(weights, texts)]
                total += products[text] - sum(products) / len(products)
            row.append(total)
        maps.append([(v - min(row)) / (max(row) - min(row)) for v in row])
    return torch.tensor(maps, dtype=torch.float64)


def test_text_maps():
    torch.manual_seed(1)
    tokens = torch.randn(7, 4, dtype=torch.float64)
    class_token = torch.randn(4, dtype=torch.float64)
    texts = torch.randn(5, 4, dtype=torch.float64)
    found = text_maps(tokens, class_token, texts, 2)
    torch.testing.assert_close(found, slow_text_maps(tokens, class_token, texts, 2))
    # Lengths do not matter; a map that is the same everywhere is nothing.
    torch.testing.assert_close(
        text_maps(3 * tokens, class_token / 2, texts * 5, 2), found
    )
    assert not text_maps(tokens[:1].expand(6, 4), class_token, texts, 2).any()
    assert text_maps(tokens, class_token, texts, 0).shape == (0, 7)


def test_resize_positions():
    torch.manual_seed(2)
    positions = torch.randn(1 + 16, 3)
    assert torch.equal(resize_positions(positions, (4, 4)), positions)
    found = resize_positions(positions, (6, 3))
    assert found.shape == (19, 3)
    assert torch.equal(found[0], positions[0])
    for channel in range(3):
        square = positions[1:, channel].reshape(4, 4).double()
        for row in range(6):
            for column in range(3):
                y, x = (row + 0.5) * 4 / 6 - 0.5, (column + 0.5) * 4 / 3 - 0.5
                expected = sum(
                    cubic(y - i) * cubic(x - j) * square[clip(i), clip(j)]
                    for i in range(math.floor(y) - 1, math.floor(y) + 3)
                    for j in range(math.floor(x) - 1, math.floor(x) + 3)
                )
                value = found[1 + 3 * row + column, channel].item()
                assert value == pytest.approx(float(expected), abs=1e-5)


def clip(index: int) -> int:
    """Beyond an edge lies a copy of it."""
    return min(max(index, 0), 3)


def cubic(distance: float, a: float = -0.75) -> float:
    """Keys' kernel."""
    t = abs(distance)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def test_wrong_arguments():
    part = torch.zeros(2, 5, 3)
    with pytest.raises(ValueError, match="compared must be 'query', 'key' or 'value'"):
        self_similar_values(part, part, part, ("values",))
    with pytest.raises(ValueError, match="expected query"):
        self_similar_values(part, part[:1], part)
    with pytest.raises(ValueError, match="wanted must be 0 to 2"):
        text_maps(torch.zeros(4, 3), torch.zeros(3), torch.zeros(2, 3), 3)
    with pytest.raises(ValueError, match="12 position embeddings"):
        resize_positions(torch.zeros(12, 3), (2, 2))
