import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import BaseDataElement, PixelData

from mmwood.evaluation import SeedMetric
from mmwood.functional.cam import seed_from_cam

CLASSES = ("a", "b", "c")


def random_samples(rng, count: int):
    samples = []
    for number in range(count):
        size = rng.integers(2, 7, size=2)
        classes = rng.permutation(3)[: rng.integers(0, 4)]
        # Multiples of 1/20 lie on the thresholds themselves.
        cam = rng.integers(0, 21, size=(len(classes), *size)) / 20
        mask = rng.choice([0, 0, 1, 2, 3, 255], size=size).astype(np.uint8)
        sample = BaseDataElement(metainfo=dict(img_path=f"image {number}"))
        sample.cam = torch.from_numpy(cam).half()
        sample.cam_classes = torch.from_numpy(classes)
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(mask)[None])
        samples.append(sample)
    return samples


def metric_of(samples, **kwargs) -> SeedMetric:
    metric = SeedMetric(**kwargs)
    metric.dataset_meta = dict(classes=CLASSES)
    for start in range(0, len(samples), 2):
        metric.process({}, [sample.to_dict() for sample in samples[start : start + 2]])
    return metric


def reference(samples, threshold: float) -> dict[str, float]:
    """Seed by seed, pixel by pixel, class by class."""
    confusion = np.zeros((4, 4))
    for sample in samples:
        seed = seed_from_cam(sample.cam.float(), sample.cam_classes, threshold)
        mask = sample.gt_sem_seg.data[0]
        for truth, label in zip(mask.flatten().tolist(), seed.flatten().tolist()):
            if truth != 255:
                confusion[truth, label] += 1
    ious, precisions, recalls = [], [], []
    for c in range(4):
        hit, truth, seed = confusion[c, c], confusion[c].sum(), confusion[:, c].sum()
        if truth + seed:
            ious.append(hit / (truth + seed - hit))
        if seed:
            precisions.append(hit / seed)
        if truth:
            recalls.append(hit / truth)
    precision, recall = np.mean(precisions), np.mean(recalls)
    return dict(
        mIoU=100 * np.mean(ious),
        precision=100 * precision,
        recall=100 * recall,
        F1=200 * precision * recall / (precision + recall),
    )


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_equals_the_reference_at_every_threshold(seed):
    samples = random_samples(np.random.default_rng(seed), 5)
    if all((sample.gt_sem_seg.data == 255).all() for sample in samples):
        return
    metric = metric_of(samples, thresholds=10, threshold=0.15)
    curve = metric._curve
    points = []
    metric._curve = lambda *args: points.append(curve(*args)) or points[0]
    metrics = metric.evaluate(len(samples))
    for point in points[0]["curve"]:
        expected = reference(samples, float(np.float32(point["threshold"])))
        for name, value in expected.items():
            if not np.isnan(value):
                assert point[name] == pytest.approx(value, abs=2e-3), (name, point)
    configured = reference(samples, 0.15)
    assert metrics["seed/mIoU"] == pytest.approx(configured["mIoU"], abs=2e-3)
    best = max(point["mIoU"] for point in points[0]["curve"])
    assert metrics["seed/best_mIoU"] == best


def test_memory_does_not_grow_with_the_images():
    metric = metric_of(random_samples(np.random.default_rng(0), 2))
    held = metric._counts.nbytes
    metric.process(
        {}, [s.to_dict() for s in random_samples(np.random.default_rng(1), 30)]
    )
    assert metric._counts.nbytes == held
    assert metric.results == []


def test_writes_the_curve(tmp_path):
    metric = metric_of(
        random_samples(np.random.default_rng(0), 6), out_dir=str(tmp_path)
    )
    metrics = metric.evaluate(6)
    curve = json.loads((tmp_path / "seed_curve.json").read_text())
    assert len(curve["curve"]) == 100
    assert curve["configured"]["mIoU"] == metrics["seed/mIoU"]
    assert curve["configured"]["threshold"] == 0.15
    assert "pixel masks" in curve["note"]
    assert set(curve["class_iou_at_best"]) == {"background", *CLASSES}
    assert (tmp_path / "seed_curve.png").stat().st_size > 10_000


def test_marks_the_best_threshold():
    metric = metric_of(random_samples(np.random.default_rng(0), 6))
    tables = []
    table = metric._class_table
    metric._class_table = lambda *args: tables.append(table(*args)) or tables[0]
    metrics = metric.evaluate(6)
    assert "best threshold, chosen with pixel masks" in tables[0]
    assert "IoU @0.15 " in tables[0]
    assert f"IoU @{metrics['seed/best_threshold']:.2f} *" in tables[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [(dict(threshold=1.0), "threshold"), (dict(thresholds=0), "thresholds")],
)
def test_wrong_fields(options, message):
    with pytest.raises(ValueError, match=f"^mmwood.SeedMetric: {message} "):
        SeedMetric(**options)


def test_wrong_samples():
    (sample,) = random_samples(np.random.default_rng(0), 1)
    metric = metric_of([])
    without = sample.to_dict()
    del without["gt_sem_seg"]
    with pytest.raises(ValueError, match=r"image 0.*LoadSemanticMask"):
        metric.process({}, [without])
    high = sample.to_dict()
    high["gt_sem_seg"] = dict(data=torch.full_like(sample.gt_sem_seg.data, 4))
    with pytest.raises(ValueError, match=r"image 0 holds 4.*0\.\.3 and 255"):
        metric.process({}, [high])
    other = sample.to_dict()
    other["gt_sem_seg"] = dict(data=torch.zeros(1, 9, 9, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"image 0 has \(H, W\) = \(9, 9\)"):
        metric.process({}, [other])
