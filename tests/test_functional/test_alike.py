"""Groups and orders of features, against slow loops."""

import numpy as np
import pytest

from mmwood.functional.alike import (
    farthest_first,
    from_centre,
    groups,
    reduced,
    sample_of,
)


def in_blocks(features: np.ndarray, size: int):
    return lambda: (features[i : i + size] for i in range(0, len(features), size))


def normalised(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def distances(features: np.ndarray) -> np.ndarray:
    return np.linalg.norm(features[:, None] - features, axis=2)


def test_short_features_are_only_normalised():
    features = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float16)
    features[7] = 0
    found = reduced(in_blocks(features, 8), 50)
    assert found[7].tolist() == [0] * 6
    rest = np.delete(features, 7, axis=0)
    np.testing.assert_allclose(np.delete(found, 7, axis=0), normalised(rest), atol=1e-6)


@pytest.mark.parametrize("size", [7, 200])
def test_long_features_become_their_principal_components(size):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(90, 5)) @ rng.normal(size=(5, 30)) + 3
    features[:, 0] += rng.normal(size=90)
    points = normalised(features)
    points -= points.mean(axis=0)
    axes = np.linalg.svd(points)[2][:4]
    found = reduced(in_blocks(features, size), 90, dim=4)
    # But for the signs of the components.
    np.testing.assert_allclose(distances(found), distances(points @ axes.T), atol=1e-5)


def test_a_group_holds_what_is_alike():
    rng = np.random.default_rng(0)
    sizes = [40, 3, 55, 1, 60, 41, 58]
    kind = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = 100 * np.eye(len(sizes))
    features = (centres[kind] + rng.normal(size=(len(kind), 7))).astype(np.float32)
    found = groups(features)
    for number in range(found.max() + 1):
        assert len(set(kind[found == number])) == 1
    assert np.bincount(found).max() <= 60
    # Numbers in the order of first images, and the same once more.
    firsts = [np.flatnonzero(found == n)[0] for n in range(found.max() + 1)]
    assert firsts == sorted(firsts)
    assert groups(features).tolist() == found.tolist()


def test_groups_are_limited_also_of_equal_images():
    features = np.zeros((150, 3), dtype=np.float32)
    features[100:] = np.random.default_rng(0).normal(size=(50, 3))
    counts = np.bincount(groups(features, size=10, largest=15))
    assert counts.sum() == 150
    assert counts.min() > 0
    assert counts.max() <= 15
    assert groups(features[:0]).tolist() == []
    assert groups(features[:1]).tolist() == [0]


@pytest.mark.parametrize("seed", range(5))
def test_farthest_first_equals_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    features = rng.integers(-3, 4, (40, 3)).astype(np.float64)
    expected = [0]
    while len(expected) < 25:
        rest = [number for number in range(40) if number not in expected]
        nearest = [
            min(((features[number] - features[other]) ** 2).sum() for other in expected)
            for number in rest
        ]
        expected.append(rest[int(np.argmax(nearest))])
    assert farthest_first(features, 25).tolist() == expected
    assert sorted(farthest_first(features, 99).tolist()) == list(range(40))


def test_a_sample_has_the_nearest_and_the_farthest():
    features = np.random.default_rng(0).normal(size=(20, 4))
    distance = from_centre(features)
    centre = sum(features) / 20
    by_hand = sorted(range(20), key=lambda n: ((features[n] - centre) ** 2).sum())
    near, far = sample_of(distance, 5)
    assert near.tolist() == by_hand[:3]
    assert far.tolist() == by_hand[-2:]
    for count in (20, 30):
        near, far = sample_of(distance, count)
        assert [*near, *far] == by_hand
    near, far = sample_of(distance[:1], 12)
    assert (near.tolist(), far.tolist()) == ([0], [])
