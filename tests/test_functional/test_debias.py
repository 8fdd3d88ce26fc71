"""MARS's label filter against loops in double precision, and on drawn features."""

import itertools
import math

import cv2
import numpy as np
import pytest

from mmwood.functional.crf import dense_crf
from mmwood.functional.debias import (
    DebiasedCenters,
    RegionCenters,
    background_distance,
    biased_mask,
    debiased_centers,
    grid_label,
    otsu_threshold,
    region_centers,
)


def cosine(v, w) -> float:
    """One by one, in double precision."""
    dot = sum(float(a) * float(b) for a, b in zip(v, w))
    return dot / math.sqrt(
        sum(float(a) ** 2 for a in v) * sum(float(b) ** 2 for b in w)
    )


def slow_distance(v, background, nearest=None) -> float:
    distances = sorted((1 - cosine(v, b)) / 2 for b in background)
    count = len(distances)
    if nearest is not None:
        count = max(1, round(nearest * count))
    return sum(distances[:count]) / count


def slow_bilinear(grid, size):
    """Pixel middles, as everybody's align_corners=False."""
    out = np.zeros(size)
    for i, j in itertools.product(*map(range, size)):
        place = []
        for index, cells, length in zip((i, j), grid.shape, size):
            at = min(max((index + 0.5) * cells / length - 0.5, 0), cells - 1)
            low = int(at)
            place.append((low, min(low + 1, cells - 1), at - low))
        (top, bottom, y), (left, right, x) = place
        above = (1 - x) * grid[top, left] + x * grid[top, right]
        below = (1 - x) * grid[bottom, left] + x * grid[bottom, right]
        out[i, j] = (1 - y) * above + y * below
    return out


def inertia(points, groups) -> float:
    total = 0.0
    for group in groups:
        middle = np.mean([points[i] for i in group], axis=0)
        total += sum(float(((points[i] - middle) ** 2).sum()) for i in group)
    return total


def test_labels_on_a_grid_are_those_at_the_middle_of_each_place():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, (13, 22)).astype(np.uint8)
    coarse = grid_label(label, (4, 5))
    for i, j in itertools.product(range(4), range(5)):
        assert coarse[i, j] == label[int((i + 0.5) * 13 / 4), int((j + 0.5) * 22 / 5)]
    np.testing.assert_array_equal(grid_label(label, label.shape), label)


def test_region_centers_are_the_best_of_all_partitions():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(3, 4, 5))
    label = np.zeros((4, 5), dtype=np.int64)
    label[0] = 2  # five places
    label[1:3, :3] = 1  # six
    label[3, 4] = 255
    label[2, 4] = 254
    found = region_centers(features, label, ignore=(254, 255))
    assert found.vectors.dtype == np.float64
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for number in range(3):
        points = features[:, label == number].T
        ours = found.vectors[found.labels == number]
        sizes = found.counts[found.labels == number]
        assert sizes.sum() == len(points)
        indices = range(len(points))
        splits = [
            (set(first), set(indices) - set(first))
            for size in range(1, len(points))
            for first in itertools.combinations(indices, size)
        ]
        best = min(splits, key=lambda groups: inertia(points, groups))
        expected = sorted(tuple(points[sorted(g)].mean(axis=0)) for g in best)
        np.testing.assert_allclose(sorted(map(tuple, ours)), expected, atol=1e-9)
        assert sorted(sizes.tolist()) == sorted(map(len, best))


@pytest.mark.filterwarnings("error")
def test_few_vectors_are_the_centers():
    features = np.arange(24.0).reshape(2, 3, 4)
    label = np.zeros((3, 4), dtype=np.uint8)
    label[0, 0] = 1
    label[0, 1:3] = 2
    label[1] = 255
    found = region_centers(features, label, centers=2, background_centers=9)
    assert found.labels.tolist() == [0] * 5 + [1, 2, 2]
    assert found.counts.tolist() == [1] * 8
    assert found.vectors[5].tolist() == features[:, 0, 0].tolist()
    assert {*map(tuple, found.vectors[6:])} == {(1.0, 13.0), (2.0, 14.0)}
    # All places alike, as in a white image: one vector, and no warning.
    same = region_centers(np.ones((2, 3, 4), np.float16), np.zeros((9, 9), int))
    assert same.vectors.tolist() == [[1.0, 1.0]]
    assert same.vectors.dtype == np.float32
    assert same.counts.tolist() == [12]
    # An object that the grid misses has no centre.
    small = np.zeros((90, 90), dtype=np.uint8)
    small[0, 0] = 3
    assert set(region_centers(features, small).labels.tolist()) == {0}
    nothing = region_centers(features, np.full((3, 4), 255))
    assert nothing.vectors.shape == (0, 2)


@pytest.mark.parametrize("nearest", [None, 0.01, 0.3, 1.0])
def test_background_distance(nearest, monkeypatch):
    rng = np.random.default_rng(2)
    vectors, background = rng.normal(size=(7, 6)), rng.normal(size=(23, 6))
    expected = [slow_distance(v, background, nearest) for v in vectors]
    found = background_distance(vectors, background, nearest)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    monkeypatch.setattr("mmwood.functional.debias.CHUNK", 50)
    found = background_distance(vectors, background, nearest)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def random_regions(rng, images=6, dims=5) -> list[RegionCenters]:
    regions = []
    for number in range(images):
        labels = np.array([0, 0, *([1, 1] if number % 2 else [2]), 4])
        regions.append(
            RegionCenters(
                rng.normal(size=(len(labels), dims)) + 1,
                labels,
                rng.integers(1, 30, len(labels)),
            )
        )
    return regions


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("nearest", [None, 0.2])
@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_debiased_centers(center, nearest, alpha):
    regions = random_regions(np.random.default_rng(3))
    found = debiased_centers(regions, 4, alpha, center, nearest)
    total, places = np.zeros(5), 0
    for region in regions:
        for vector, count in zip(region.vectors, region.counts):
            total += count * vector
            places += count
    mean = total / places if center else np.zeros(5)
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    background, images, own = [], [], {1: [], 2: [], 4: []}
    for number, region in enumerate(regions):
        for vector, label in zip(region.vectors, region.labels):
            if label == 0:
                background.append(vector - mean)
                images.append(number)
            else:
                own[label].append(vector - mean)
    assert found.images.tolist() == images
    for ours, b in zip(found.background, background):
        np.testing.assert_allclose(ours, b / math.sqrt((b**2).sum()), atol=1e-12)
    for label, vectors in own.items():
        vectors.sort(key=lambda v: slow_distance(v, background, nearest), reverse=True)
        first = vectors[: math.ceil(alpha * len(vectors) - 1e-9)]
        np.testing.assert_allclose(
            found.foreground[label - 1], sum(first) / len(first), atol=1e-12
        )
    assert np.isnan(found.foreground[2]).all()


def test_components_keep_most_of_the_centers():
    regions = random_regions(np.random.default_rng(4))
    whole = debiased_centers(regions, 4)
    same = debiased_centers(regions, 4, components=5)
    # A rotation changes no cosine.
    np.testing.assert_allclose(
        same.foreground @ same.background.T,
        whole.foreground @ whole.background.T,
        atol=1e-12,
    )
    two = debiased_centers(regions, 4, components=2)
    np.testing.assert_allclose(two.basis @ two.basis.T, np.eye(2), atol=1e-12)
    vectors = np.concatenate([r.vectors for r in regions]) - two.mean
    values = np.linalg.svd(vectors, compute_uv=False)
    kept = (two.project(vectors + two.mean) ** 2).sum()
    assert kept == pytest.approx((values[:2] ** 2).sum())
    with pytest.raises(ValueError, match="components is 6, but 27 centres of 5"):
        debiased_centers(regions, 4, components=6)


def slow_scores(features, classes, centers, number, nearest):
    """The largest cosine to a class, and the mean one to near background."""
    height, width = features.shape[1:]
    score, ground = np.zeros((height, width)), np.zeros((height, width))
    for i, j in itertools.product(range(height), range(width)):
        f = centers.project(features[:, i, j][None])[0]
        score[i, j] = max(cosine(f, centers.foreground[c]) for c in classes)
        near = sorted(
            (
                cosine(f, b)
                for b, image in zip(centers.background, centers.images)
                if image != number
            ),
            reverse=True,
        )
        near = near[: max(1, round(nearest * len(near)))]
        ground[i, j] = sum(near) / len(near)
    return score, ground


@pytest.mark.parametrize("number", [None, 2])
@pytest.mark.parametrize("rule", ["nearest", "otsu"])
def test_biased_mask(rule, number):
    rng = np.random.default_rng(5)
    regions = random_regions(rng)
    centers = debiased_centers(regions, 4, components=4)
    features = rng.normal(size=(5, 6, 7)) + 1
    label = rng.choice([0, 0, 1, 2, 254, 255], size=(17, 15))
    label[:3] = 0
    found = biased_mask(
        features, label, [0, 1], centers, rule, 0.3, number=number, ignore=(254, 255)
    )
    score, ground = slow_scores(features, [0, 1], centers, number, 0.3)
    is_object = (label == 1) | (label == 2)
    if rule == "nearest":
        expected = slow_bilinear(score - ground, label.shape) <= 0
    else:
        large = slow_bilinear(score, label.shape)
        expected = large <= slow_otsu(large[is_object])
    np.testing.assert_array_equal(found, expected & is_object)
    assert 0.1 < found[is_object].mean() < 0.9
    assert found.dtype == bool


def test_the_published_rule(monkeypatch):
    rng = np.random.default_rng(6)
    centers = debiased_centers(random_regions(rng), 4)
    features = rng.normal(size=(5, 6, 7)) + 1
    label = rng.choice([0, 1, 2], size=(17, 15)).astype(np.uint8)
    image = rng.integers(0, 256, (17, 15, 3), dtype=np.uint8)
    found = biased_mask(features, label, [0, 1], centers, "crf", image=image)
    m = slow_bilinear(slow_scores(features, [0, 1], centers, None, 1)[0], (17, 15))
    m = np.maximum(m, 0)
    expected = dense_crf(image, np.stack([1 - m, m]))
    np.testing.assert_array_equal(found, (label > 0) & (expected[1] <= expected[0]))
    assert 0.05 < found[label > 0].mean() < 0.95
    with pytest.raises(ValueError, match="needs the image"):
        biased_mask(features, label, [0, 1], centers, "crf")


def test_what_cannot_be_judged_stays():
    rng = np.random.default_rng(7)
    regions = random_regions(rng)
    centers = debiased_centers(regions, 4)
    features = rng.normal(size=(5, 4, 4))
    label = np.full((8, 8), 3)  # class 2, of which no image has a region
    label[4:] = 1
    found = biased_mask(features, label, [0, 2], centers)
    assert found.any()
    assert not found[:4].any()
    assert not biased_mask(features, label, [2], centers).any()
    assert not biased_mask(features, label, [], centers).any()
    assert not biased_mask(features, label * 0, [0], centers).any()
    alone = centers._replace(images=np.zeros_like(centers.images))
    with pytest.raises(ValueError, match="background of other images"):
        biased_mask(features, label, [0], alone, number=0)


def slow_otsu(values) -> float:
    """All splits, one by one."""
    values = sorted(map(float, values))
    best, threshold = -1.0, -math.inf
    for count in range(1, len(values)):
        low, high = values[:count], values[count:]
        if low[-1] == high[0]:
            continue
        gap = sum(low) / len(low) - sum(high) / len(high)
        between = len(low) * len(high) * gap**2
        if between > best:
            best, threshold = between, (low[-1] + high[0]) / 2
    return threshold


def test_otsu():
    rng = np.random.default_rng(8)
    for values in (rng.normal(size=40), rng.integers(0, 4, 30), np.r_[1.0, 1.0, 5.0]):
        assert otsu_threshold(values) == pytest.approx(slow_otsu(values))
    # As OpenCV's of 8 bits, which names the last value below the gap.
    values = np.concatenate([rng.normal(60, 9, 400), rng.normal(180, 20, 300)])
    values = values.round().clip(0, 255).astype(np.uint8)
    level, _ = cv2.threshold(values[None], 0, 255, cv2.THRESH_OTSU)
    np.testing.assert_array_equal(values > otsu_threshold(values), values > level)
    assert otsu_threshold(np.ones(5)) == -math.inf


#: A drawn data set: features of 64 dimensions on a grid of 16 × 16.
D, GRID, IMAGES = 64, 16, 32


def drawn(kinds: int, shift: float = 0.0, seed: int = 0):
    """Images of four classes; what is beside class 0 is also other images' background.

    Returns features, labels, truth and classes of each image; the class's directions,
    and the direction of class 0's companion.
    """
    rng = np.random.default_rng(seed)

    def directions(count):
        vectors = rng.normal(size=(count, D))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    target, ground = directions(4), directions(kinds)
    constant = shift * directions(1)[0]
    images = []
    for number in range(IMAGES):
        own = number % 4
        # Three in four images of class 0 are what any background is; as in others.
        kind = 0 if own == 0 else rng.integers(kinds)
        clean = np.tile(ground[kind], (GRID, GRID, 1))
        other = int(rng.integers(kinds))
        clean[:, GRID // 2 :] = ground[other if own else kind]
        truth = np.zeros((GRID, GRID), dtype=np.uint8)
        truth[4:12, 3:9] = own + 1
        label = truth.copy()
        if own == 0:
            label[4:12, 9:13] = 1
            clean[:4] = ground[other]
        clean[truth > 0] = target[own]
        features = clean + rng.normal(size=clean.shape) * 0.6 / math.sqrt(D)
        features = (features + constant).transpose(2, 0, 1)
        images.append((features, label, truth, [own]))
    return images, target, ground[0]


@pytest.mark.parametrize("kinds", [3, 10, 40])
def test_centers_leave_out_what_is_background_elsewhere(kinds):
    images, target, companion = drawn(kinds)
    regions = [region_centers(f, label) for f, label, *_ in images]
    centers = debiased_centers(regions, 4)
    ground = np.concatenate([r.vectors[r.labels == 0] for r in regions])
    # Every chosen centre of class 0 is the object's.
    own = np.concatenate([r.vectors[r.labels == 1] for r in regions]) - centers.mean
    far = np.argsort(-background_distance(own, ground - centers.mean))
    chosen = own[far[: math.ceil(0.4 * len(own))]]
    to_target = [cosine(v, target[0]) for v in chosen]
    to_companion = [cosine(v, companion) for v in chosen]
    purity = np.mean(np.array(to_target) > np.array(to_companion))
    assert purity == 1
    v = centers.foreground[0]
    np.testing.assert_allclose(v, chosen.mean(axis=0), atol=1e-9)
    assert cosine(v, target[0]) > 0.6
    assert cosine(v, companion) < 0.15


@pytest.mark.parametrize("kinds", [3, 10, 40])
@pytest.mark.parametrize("rule", ["nearest", "crf"])
def test_the_filtered_label_is_the_object(kinds, rule):
    images, *_ = drawn(kinds)
    regions = [region_centers(f, label) for f, label, *_ in images]
    centers = debiased_centers(regions, 4)
    before, after, lost = [], [], 0
    for number, (features, label, truth, classes) in enumerate(images):
        picture = np.zeros((GRID, GRID, 3), dtype=np.uint8)
        picture[truth > 0] = 200
        removed = biased_mask(
            features, label, classes, centers, rule, image=picture, number=number
        )
        assert not removed[label == 0].any()
        lost += (removed & (truth > 0)).sum()
        if classes == [0]:
            kept = (label > 0) & ~removed
            before.append((truth > 0).sum() / (label > 0).sum())
            after.append((kept & (truth > 0)).sum() / (kept | (truth > 0)).sum())
    assert np.mean(before) == pytest.approx(0.6)
    assert np.mean(after) > 0.95
    assert lost < 0.05 * sum((truth > 0).sum() for _, _, truth, _ in images)


def test_a_constant_vector_changes_nothing():
    plain, _, companion = drawn(10)
    moved, *_ = drawn(10, shift=2.0)
    results = []
    for images in (plain, moved):
        regions = [region_centers(f, label) for f, label, *_ in images]
        centers = debiased_centers(regions, 4)
        masks = [
            biased_mask(f, label, classes, centers, number=number)
            for number, (f, label, _, classes) in enumerate(images)
        ]
        results.append((centers, masks))
    (first, first_masks), (second, second_masks) = results
    np.testing.assert_allclose(first.foreground, second.foreground, atol=1e-9)
    np.testing.assert_allclose(first.background, second.background, atol=1e-9)
    np.testing.assert_array_equal(first_masks, second_masks)
    # Without it cosines are near 1, whatever they are to.
    raw = debiased_centers(
        [region_centers(f, label) for f, label, *_ in moved], 4, center=False
    ).foreground[0]
    constant = np.mean([f.mean(axis=(1, 2)) for f, *_ in moved], axis=0) - np.mean(
        [f.mean(axis=(1, 2)) for f, *_ in plain], axis=0
    )
    assert cosine(raw, companion + constant) > 0.6
    assert cosine(first.foreground[0], companion) < 0.15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, y: region_centers(f[0], y), r"expected features \(D, h, w\)"),
        (lambda f, y: region_centers(f, y * 0.5), "label must be integers"),
        (lambda f, y: region_centers(f.astype(int), y), "features must be floats"),
        (lambda f, y: region_centers(f * np.nan, y), "must be finite"),
        (lambda f, y: region_centers(f, y, centers=0), "centers must be an integer"),
        (lambda f, y: debiased_centers([], 2), "no image has any"),
        (lambda f, y: _centers(f, y, classes=1), r"labels are 0\.\.2; with 1 classes"),
        (lambda f, y: _centers(f, y + 1, classes=3), "no image has background"),
        (lambda f, y: _centers(f, y, alpha=0), "alpha must be a fraction"),
        (lambda f, y: _centers(f, y, nearest=1.5), "nearest must be a fraction"),
        (lambda f, y: biased_mask(f, y, [0], _centers(f, y), "max"), "rule must be"),
        (lambda f, y: biased_mask(f, y, [2], _centers(f, y)), r"\[2\] are outside"),
    ],
)
def test_wrong_arguments(call, message):
    features = np.random.default_rng(9).normal(size=(4, 5, 6))
    label = np.zeros((10, 12), dtype=int)
    label[:5], label[5:, 6:] = 1, 2
    with pytest.raises(ValueError, match=message):
        call(features, label)


def _centers(features, label, classes=2, **options) -> DebiasedCenters:
    return debiased_centers([region_centers(features, label)], classes, **options)
