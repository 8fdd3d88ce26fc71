"""False positives against loops over pixels."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from mmwood.evaluation import FalsePositiveMetric
from mmwood.fileio.files import write_json
from mmwood.fileio.scores import read_false_positives, read_metrics

CLASSES = ("background", "cat", "dog", "cow")


def make_sample(label, **fields) -> dict:
    data = torch.from_numpy(np.asarray(label, dtype=np.int64))[None]
    return dict(img_path="image 0", pred_sem_seg=dict(data=data), **fields)


def predictions(count: int, seed: int = 0) -> list[np.ndarray]:
    """Of several sizes, mostly background; the last one is background alone."""
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(count - 1):
        label = rng.integers(0, 4, rng.integers(3, 9, size=2))
        label[rng.random(label.shape) < rng.random()] = 0
        maps.append(label)
    return [*maps, np.zeros((4, 5), int)]


def slow(
    maps: list[np.ndarray], min_area: int, label: int | None
) -> tuple[float, float]:
    """Both numbers of a class, or of all together, pixel by pixel."""
    pixels = wrong = images = 0
    for prediction in maps:
        own = 0
        for row in prediction.tolist():
            for value in row:
                pixels += 1
                own += value != 0 if label is None else value == label
        wrong += own
        images += own >= min_area
    return (
        float(100 * Fraction(wrong, pixels)),
        float(100 * Fraction(images, len(maps))),
    )


def evaluate(samples: list[dict], size: int | None = None, **fields) -> dict:
    metric = FalsePositiveMetric(**fields)
    metric.dataset_meta = dict(classes=CLASSES)
    for start in range(0, len(samples), 3):
        metric.process({}, samples[start : start + 3])
    return metric.evaluate(len(samples) if size is None else size)


@pytest.mark.parametrize("min_area", [1, 4, 12])
def test_equals_loops(min_area, tmp_path):
    maps = predictions(11)
    out = tmp_path / "new/false_positives.json"
    found = evaluate(list(map(make_sample, maps)), min_area=min_area, out=str(out))
    pixels, images = slow(maps, min_area, None)
    assert found == pytest.approx(dict(FP_pixels=pixels, FP_images=images), abs=1e-4)
    assert 0 < pixels < 100
    assert 0 < images < 100
    scores = read_false_positives(out)
    assert scores[:2] == tuple(found.values())
    assert (scores.num_images, scores.min_area) == (11, min_area)
    content = json.loads(out.read_text())
    assert content["num_pixels"] == sum(label.size for label in maps)
    assert list(scores.class_pixels) == ["cat", "dog", "cow"]
    for number, (name, part) in enumerate(content["classes"].items(), start=1):
        pixels, images = slow(maps, min_area, number)
        assert scores.class_pixels[name] == pytest.approx(pixels, abs=1e-4)
        assert part["images"] == pytest.approx(images, abs=1e-4)
        assert part["pixel_count"] == sum((label == number).sum() for label in maps)
    write_json(tmp_path / "metrics.json", {f"ood/{k}": v for k, v in found.items()})
    assert read_metrics(tmp_path / "metrics.json") == found


def test_the_smallest_area_counts():
    label = np.zeros((5, 5), int)
    label[0] = [1, 1, 1, 2, 2]
    samples = [make_sample(label)]
    assert evaluate(samples, min_area=5) == dict(FP_pixels=20.0, FP_images=100.0)
    assert evaluate(samples, min_area=6) == dict(FP_pixels=20.0, FP_images=0.0)
    assert evaluate(samples, min_area=4, prefix="ood")["ood/FP_images"] == 100.0


def test_images_in_distribution_and_repeated_ones_are_left_out(tmp_path):
    maps = predictions(6)
    shown = dict(gt_sem_seg=dict(data=torch.ones(1, 2, 2)))
    samples = [make_sample(label, is_ood=True) for label in maps]
    others = [make_sample(label * 0 + 3, is_ood=False, **shown) for label in maps]
    mixed = [sample for pair in zip(others, samples) for sample in pair]
    assert evaluate(mixed) == evaluate(list(map(make_sample, maps)))
    # What a sampler repeats to fill the last batches is cut off.
    assert evaluate([*mixed, mixed[1]], size=len(mixed)) == evaluate(mixed)
    # Masks of nothing but background and void are what such images may have.
    void = dict(gt_sem_seg=dict(data=torch.tensor([[[0, 255]]])))
    assert evaluate([make_sample(maps[0], **void)]) == evaluate([make_sample(maps[0])])

    out = tmp_path / "none.json"
    found = evaluate(others, out=str(out))
    assert all(np.isnan(value) for value in found.values())
    scores = read_false_positives(out)
    assert (scores.pixels, scores.images, scores.num_images) == (None, None, 0)


def test_refusals(tmp_path):
    label = np.zeros((2, 2), int)
    shown = dict(gt_sem_seg=dict(data=torch.tensor([[[0, 2]]])))
    with pytest.raises(ValueError, match="image 0 shows a class, label 2: test images"):
        evaluate([make_sample(label, **shown)])
    with pytest.raises(ValueError, match="with reduce_zero_label=True label 0 is a"):
        evaluate([make_sample(label, reduce_zero_label=True)])
    with pytest.raises(ValueError, match=r"image 0 holds label 4, .* has 4 classes"):
        evaluate([make_sample(label + 4)])
    with pytest.raises(ValueError, match="image 0 has no pred_sem_seg"):
        evaluate([dict(img_path="image 0")])
    with pytest.raises(ValueError, match="min_area must be an integer of at least 1"):
        FalsePositiveMetric(min_area=0)
    with pytest.raises(ValueError, match=r"out must be a \.json file, got 'x'"):
        FalsePositiveMetric(out="x")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is no out file of mmwood\.FalsePositive"):
        read_false_positives(tmp_path / "x.json")
