"""FBR's steps against loops in double precision."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

from mmwood.functional.fine_grained_background import (
    background_regions,
    class_prototypes,
    contrast_loss,
    draw_other_classes,
    pixel_labels,
    query_cosines,
    query_pixels,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def make_maps(batch=3, classes=4, height=5, width=7) -> torch.Tensor:
    """Maps of two classes an image, most of their pixels weak."""
    maps = torch.rand(batch, classes, height, width, dtype=torch.float64) ** 4
    for number in range(batch):
        maps[number, number % classes] = 0
        maps[number, (number + 1) % classes] = 0
    return maps


def cosine(a, b) -> float:
    return sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b)


def test_labels_and_prototypes_equal_loops():
    maps, features = make_maps(), torch.rand(3, 6, 5, 7, dtype=torch.float64)
    labels = pixel_labels(maps, 0.1)
    prototypes = class_prototypes(features, maps, count=8)
    for c in range(4):
        weighted = []
        for b in range(3):
            for y in range(5):
                for x in range(7):
                    values = maps[b, :, y, x].tolist()
                    best = values.index(max(values))
                    expected = best + 1 if values[best] > 0.1 else 0
                    assert labels[b, y, x] == expected
                    weighted.append((values[c], features[b, :, y, x].tolist()))
        weighted = sorted(weighted, reverse=True)[:8]
        total = sum(weight for weight, _ in weighted)
        expected = [
            sum(weight * vector[d] for weight, vector in weighted) / total
            for d in range(6)
        ]
        assert prototypes[c].tolist() == pytest.approx(expected)


def test_a_class_without_maps_has_no_prototype():
    maps = make_maps()
    maps[:, 2] = 0
    prototypes = class_prototypes(torch.rand(3, 6, 5, 7), maps, count=1000)
    assert not prototypes[2].any()
    assert prototypes[[0, 1, 3]].any(dim=1).all()


def reference_queries(maps, background, unsure, quantile, floor):
    """Which pixels are unsure, and of high entropy, one by one."""
    found = torch.zeros(len(maps), *maps.shape[2:], dtype=torch.bool)
    for image, own in enumerate(maps):
        pixels = own.flatten(1).T.tolist()
        entropies, labels = [], []
        for values in pixels:
            odds = [math.exp(v) for v in (background, *values)]
            shares = [o / sum(odds) for o in odds]
            entropies.append(-sum(s * math.log(s) for s in shares))
            top = values.index(max(values))
            labels.append(top + 1 if values[top] > background else 0)
        ranked, place = sorted(entropies), quantile * (len(pixels) - 1)
        low = math.floor(place)
        high = min(low + 1, len(pixels) - 1)
        limit = ranked[low] + (place - low) * (ranked[high] - ranked[low])
        for number, (values, label) in enumerate(zip(pixels, labels)):
            if not label:
                continue
            ascending = sorted(
                v[label - 1]
                for v, other in zip(pixels, labels)
                if other == label and v[label - 1] > floor
            )
            rank = min(math.floor(unsure * len(ascending)), len(ascending) - 1)
            is_unsure = values[label - 1] <= (ascending or [math.inf])[max(rank, 0)]
            high_entropy = entropies[number] > limit
            found[image].view(-1)[number] = is_unsure and high_entropy
    return found


@pytest.mark.parametrize("unsure", [0.0, 0.4, 0.6, 1.0])
@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.25, 0.9])
@pytest.mark.parametrize(("background", "floor"), [(0.1, 0.05), (0.02, 0.3)])
def test_queries_equal_loops(unsure, quantile, background, floor):
    options = (background, unsure, quantile, floor)
    maps = make_maps()
    found = query_pixels(maps, *options)
    torch.testing.assert_close(found, reference_queries(maps, *options))


def test_queries_are_some_of_the_weak_foreground():
    maps = make_maps()
    found, labels = query_pixels(maps), pixel_labels(maps)
    assert 0 < found.sum() < (labels > 0).sum()
    top = maps.amax(dim=1)
    assert top[found].mean() < top[labels > 0].mean()


def test_no_queries_without_foreground():
    for value in (0.0, 0.05, 0.1):
        assert not query_pixels(torch.full((2, 3, 4, 4), value)).any()
    # One label everywhere: nothing has more entropy than the rest.
    assert not query_pixels(torch.ones(2, 1, 4, 4)).any()


def lloyd(points: list[list[float]], count: int, steps: int) -> list[list[float]]:
    count = min(count, len(points))
    centers = [points[number * len(points) // count] for number in range(count)]
    for _ in range(steps):
        members: list[list] = [[] for _ in centers]
        for point in points:
            distances = [math.dist(point, center) for center in centers]
            members[distances.index(min(distances))].append(point)
        centers = [
            [sum(axis) / len(own) for axis in zip(*own)] if own else center
            for own, center in zip(members, centers)
        ]
    return centers


def test_regions_equal_lloyd_by_hand_and_scikit_learn():
    features = torch.rand(4, 3, 6, 7, dtype=torch.float64)
    ground = torch.rand(4, 6, 7) < 0.6
    # Fewer pixels than regions, exactly as many, none.
    ground[1].view(-1)[:] = torch.arange(42) % 15 == 0
    ground[2].view(-1)[:] = torch.arange(42) < 4
    ground[3] = False
    found = background_regions(features, ground, regions=4, steps=10)
    expected = []
    for image, inside in zip(features, ground):
        points = image[:, inside].T.tolist()
        if points:
            expected += lloyd(points, 4, 10)
    assert len(found) == 4 + 3 + 4
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    points = features[0][:, ground[0]].T.numpy()
    starts = points[[number * len(points) // 4 for number in range(4)]]
    means = KMeans(4, init=starts, n_init=1, max_iter=10, tol=0, algorithm="lloyd")
    torch.testing.assert_close(
        found[:4], torch.from_numpy(means.fit(points).cluster_centers_)
    )


def test_regions_of_few_pixels_are_the_pixels():
    features, ground = torch.rand(1, 5, 3, 4), torch.zeros(1, 3, 4, dtype=torch.bool)
    ground[0, 0, :3] = True
    found = background_regions(features, ground, regions=8)
    torch.testing.assert_close(found, features[0, :, 0, :3].T)
    # More regions than pixels of the whole image.
    ground[:] = True
    torch.testing.assert_close(
        background_regions(features, ground, regions=50), features[0].flatten(1).T
    )


def test_equal_pixels_are_no_trouble():
    ground = torch.ones(2, 4, 4, dtype=torch.bool)
    found = background_regions(torch.full((2, 3, 4, 4), 0.5), ground)
    torch.testing.assert_close(found, torch.full((16, 3), 0.5))


def test_other_classes_are_drawn_as_often_as_they_should():
    labels = torch.tensor([0, 1, 3, 2, 0, 2, 4, 2, 1, 0])
    prototypes = torch.rand(6, 5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    count = 200_000
    drawn = draw_other_classes(labels, prototypes, 1, count, 0.2, generator)
    assert drawn.shape == (count,)
    # Of the labels 2, 3 and 4: 5 and 6 have prototypes, but no pixels.
    odds = {
        j: math.exp(cosine(prototypes[0].tolist(), prototypes[j - 1].tolist()) / 0.2)
        for j in (2, 3, 4)
    }
    shares = torch.bincount(drawn, minlength=len(labels)) / count
    for place, label in enumerate(labels.tolist()):
        expected = 0.0
        if label in odds:
            expected = odds[label] / sum(odds.values()) / labels.tolist().count(label)
        assert shares[place].item() == pytest.approx(expected, abs=5e-3)
    again = torch.Generator().manual_seed(0)
    assert torch.equal(
        drawn, draw_other_classes(labels, prototypes, 1, count, 0.2, again)
    )


def test_one_class_has_no_others():
    labels, prototypes = torch.tensor([0, 2, 2, 0]), torch.rand(3, 5)
    assert draw_other_classes(labels, prototypes, 2, 9).shape == (0,)


def make_contrast() -> list[torch.Tensor]:
    return [
        torch.randn(*shape, dtype=torch.float64) for shape in ((5, 4), (4,), (7, 4))
    ]


def test_contrast_equals_loops():
    queries, prototype, negatives = make_contrast()
    cosines = query_cosines(queries, prototype, negatives)
    total = 0.0
    for q in queries.tolist():
        own = math.exp(cosine(q, prototype.tolist()) / 0.3)
        others = sum(math.exp(cosine(q, n) / 0.3) for n in negatives.tolist())
        total -= math.log(own / (own + others)) / len(queries)
    assert contrast_loss(cosines, 0.3).item() == pytest.approx(total, rel=1e-12)


def test_gradient_flows_through_the_queries_alone():
    tensors = [tensor.requires_grad_() for tensor in make_contrast()]

    def loss(*tensors):
        return contrast_loss(query_cosines(*tensors))

    assert torch.autograd.gradcheck(lambda q: loss(q, *tensors[1:]), (tensors[0],))
    loss(*tensors).backward()
    assert (tensors[0].grad.norm(dim=1) > 1e-3).all()
    assert tensors[1].grad is None
    assert tensors[2].grad is None
    # The value does depend on them: it is the gradient that is stopped.
    with torch.no_grad():
        before = loss(*tensors)
        for number in (1, 2):
            moved = [*tensors]
            moved[number] = tensors[number] + 1e-3 * torch.randn_like(tensors[number])
            assert abs(loss(*moved) - before) > 1e-7


def test_limits_of_the_loss_are_those_of_the_docstring():
    best = torch.cat([torch.ones(3, 1), torch.zeros(3, 256)], dim=1)
    assert contrast_loss(best).item() == pytest.approx(3.57, abs=5e-3)
    assert contrast_loss(torch.ones(3, 257)).item() == pytest.approx(5.55, abs=5e-3)


def unit(*shape) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def test_queries_leave_the_background():
    """Half of each class looks like the background, and stops doing so."""
    ground = unit(128)
    table = unit(6, 128)[:, None].repeat(1, 20, 1) + 0.01 * torch.randn(6, 20, 128)
    table[:, :10] += 2 * ground
    table.requires_grad_()
    queue = ground + 0.01 * torch.randn(256, 128)
    optimizer = torch.optim.SGD([table], lr=0.3)

    def cosines() -> list[torch.Tensor]:
        return [query_cosines(own[:10], own[10:].mean(dim=0), queue) for own in table]

    def means() -> tuple[float, float]:
        every = torch.cat(cosines()).detach()
        return every[:, 0].mean().item(), every[:, 1:].mean().item()

    first = means()
    for _ in range(200):
        optimizer.zero_grad()
        torch.stack([*map(contrast_loss, cosines())]).mean().backward()
        optimizer.step()
    assert first[1] == pytest.approx(0.89, abs=0.01)
    assert means()[1] == pytest.approx(0.48, abs=0.05)
    assert means()[0] > first[0] + 0.3
    # The other half, of which the prototypes are, stays as it was.
    assert not table.grad[:, 10:].any()
