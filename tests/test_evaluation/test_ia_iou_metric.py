"""IA-mIoU beside mmseg's IoUMetric, on mmseg's own data set and pipeline."""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from PIL import Image

from mmwood.evaluation import IAIoUMetric, ia_iou_metric
from mmwood.functional.instance_iou import instance_ious

pytest.importorskip("mmseg")
from mmseg.datasets import PascalVOCDataset
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

KEYS = ("IA-mIoU", "IA_S", "IA_M", "IA_L")
LIMITS = (60, 200)
CLASSES = ("background", "cat", "dog", "cow")


def make_sample(pred, gt, **metainfo) -> SegDataSample:
    sample = SegDataSample(metainfo=dict(img_path="image 0", **metainfo))
    for name, label in (("pred_sem_seg", pred), ("gt_sem_seg", gt)):
        data = torch.from_numpy(np.asarray(label, dtype=np.int64))[None]
        sample.set_data({name: PixelData(data=data)})
    return sample


def random_pairs(count: int, seed: int = 0):
    """Predictions that are right in part, and ground truths with void."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        height, width = rng.integers(4, 8, size=2)
        gt = np.kron(rng.integers(0, 4, (height, width)), np.ones((7, 7), int))
        pred = np.where(rng.random(gt.shape) < 0.9, gt, rng.integers(0, 4, gt.shape))
        gt[rng.random(gt.shape) < 0.05] = 255
        yield pred, gt


def evaluate(pairs, classes=CLASSES, **fields) -> dict:
    metric = IAIoUMetric(size_limits=LIMITS, **fields)
    metric.dataset_meta = dict(classes=classes)
    samples = [make_sample(*pair).to_dict() for pair in pairs]
    for start in range(0, len(samples), 2):
        metric.process({}, samples[start : start + 2])
    return metric.evaluate(len(samples))


def expected_metrics(scored, background="image") -> dict:
    """The means over the classes of the means over the instances."""
    metrics = {}
    ranges = ((0, np.inf), (0, 60), (60, 200), (200, np.inf))
    for key, (low, high) in zip(KEYS, ranges):
        by_class = defaultdict(list)
        for item in scored:
            sized = key == "IA-mIoU" or not (
                background == "image" and item.class_id == 0
            )
            if low <= item.area < high and sized:
                by_class[item.class_id].append(item.iou)
        means = [fmean(ious) for ious in by_class.values()]
        metrics[key] = 100 * fmean(means) if means else np.nan
    return metrics


@pytest.mark.parametrize("background", ["image", "ignore", None])
@pytest.mark.parametrize(
    ("connectivity", "void"), [(4, "separates"), (8, "separates"), (8, "connects")]
)
def test_equals_the_means_of_the_instances(background, connectivity, void):
    pairs = list(random_pairs(7))
    fields = dict(background=background, connectivity=connectivity, void=void)
    scored = [item for pair in pairs for item in instance_ious(*pair, **fields)]
    metrics = evaluate(pairs, **fields)
    assert metrics == pytest.approx(expected_metrics(scored, background), abs=0.006)


def test_invariants():
    pairs = list(random_pairs(5))
    metrics = evaluate(pairs)
    assert metrics == pytest.approx(evaluate(pairs * 3), abs=0.011)
    assert metrics == pytest.approx(evaluate(pairs[::-1]), abs=0.011)
    swap = np.arange(256)
    swap[[1, 2, 3]] = [3, 1, 2]
    permuted = [(swap[pred], swap[gt]) for pred, gt in pairs]
    assert metrics == pytest.approx(evaluate(permuted), abs=0.011)
    perfect = [(np.where(gt == 255, 0, gt), gt) for _, gt in pairs]
    assert set(evaluate(perfect).values()) == {100.0}


def test_sizes_that_do_not_occur():
    gt = np.zeros((20, 20), int)
    gt[:5, :5] = 1
    metrics = evaluate([(gt, gt)], background="ignore")
    assert metrics["IA-mIoU"] == metrics["IA_S"] == 100
    assert np.isnan([metrics["IA_M"], metrics["IA_L"]]).all()
    assert np.isnan(list(evaluate([(gt, gt * 0 + 255)]).values())).all()


def test_a_limit_belongs_to_the_larger_size():
    gt = np.zeros((20, 20), int)
    gt[:6, :10] = 1
    gt[7:17, :] = 2
    metrics = evaluate([(gt, gt)], background="ignore")
    assert np.isnan(metrics["IA_S"])
    assert metrics["IA_M"] == metrics["IA_L"] == 100


def test_memory_does_not_grow_with_the_images():
    metric = IAIoUMetric()
    metric.dataset_meta = dict(classes=CLASSES)
    for pair in random_pairs(20):
        metric.process({}, [make_sample(*pair).to_dict()])
    assert metric.results == []
    assert all(part.sums.shape == (4, 4) for part in metric._tallies())


def test_file_and_table(tmp_path):
    out = tmp_path / "new/ia_iou.json"
    pairs = list(random_pairs(4))
    metric = IAIoUMetric(size_limits=LIMITS, out=str(out))
    metric.dataset_meta = dict(classes=(*CLASSES, "bird"))
    tables = []
    table = metric._table
    metric._table = lambda *args: tables.append(table(*args)) or tables[0]
    metric.process({}, [make_sample(*pair).to_dict() for pair in pairs])
    metrics = metric.evaluate(4)

    content = json.loads(out.read_text())
    sizes = ("all", "small", "medium", "large")
    assert list(content["iou"]) == list(sizes)
    assert list(content["iou"].values()) == pytest.approx(
        list(metrics.values()), abs=0.006
    )
    assert content["images"] == 4
    assert content["instance_source"] == "connected components"
    assert content["size_limits"] == [60, 200]
    assert content["disputed_pixels"] == 0
    scored = [item for pair in pairs for item in instance_ious(*pair)]
    cats = [item for item in scored if item.class_id == 1]
    entry = content["classes"]["cat"]
    assert entry["iou"]["all"] == pytest.approx(
        100 * fmean(item.iou for item in cats), abs=1e-3
    )
    assert entry["instances"] == dict(
        all=len(cats),
        small=sum(item.area < 60 for item in cats),
        medium=sum(60 <= item.area < 200 for item in cats),
        large=sum(item.area >= 200 for item in cats),
    )
    assert content["instances"]["all"] == len(scored)
    nothing, none = dict.fromkeys(sizes), dict.fromkeys(sizes, 0)
    assert content["classes"]["bird"] == dict(iou=nothing, instances=none)

    assert "small: below 60 pixels" in tables[0]
    rows = [[cell.strip() for cell in row.split("|")] for row in tables[0].split("\n")]
    rows = {row[1]: row[2:-1] for row in rows if len(row) > 2}
    assert rows["class"] == ["IA-IoU", *KEYS[1:], "instances", *sizes[1:]]
    assert rows["bird"] == ["-"] * 4 + ["0"] * 4
    assert rows["cat"][0] == f"{entry['iou']['all']:.2f}"
    assert rows["mean"][0] == f"{metrics['IA-mIoU']:.2f}"
    assert rows["mean"][4] == str(len(scored))


@pytest.fixture
def voc_samples(voc_folder: Path) -> list[SegDataSample]:
    """What mmseg's data set gives, with displaced masks as predictions."""
    register_all_modules(init_default_scope=True)
    dataset = PascalVOCDataset(
        ann_file="ImageSets/Segmentation/train.txt",
        data_root=str(voc_folder),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    )
    samples = []
    for item in dataset:
        sample = item["data_samples"]
        gt = sample.gt_sem_seg.data
        pred = torch.roll(torch.where(gt == 255, 0, gt), (2, 3), dims=(1, 2))
        sample.pred_sem_seg = PixelData(data=pred.long())
        samples.append(sample)
    return samples


def halved(gt: np.ndarray) -> np.ndarray:
    """An instance map in which every class is cut in two at column 12."""
    ids = gt.astype(np.uint8)
    right = np.arange(gt.shape[1]) >= 12
    return np.where((gt > 0) & (gt < 255) & right, ids + 10, ids).astype(np.uint8)


def run_evaluator(samples, **fields) -> dict:
    """An evaluator as a config makes it."""
    ours = dict(type="mmwood.IAIoUMetric", size_limits=LIMITS, **fields)
    evaluator = Evaluator([dict(type="IoUMetric", iou_metrics=["mIoU"]), ours])
    evaluator.dataset_meta = PascalVOCDataset.METAINFO
    for start in range(0, len(samples), 4):
        evaluator.process(samples[start : start + 4], {})
    return evaluator.evaluate(len(samples))


def test_beside_mmseg_with_instance_maps(voc_samples, voc_folder):
    folder = voc_folder / "SegmentationObject"
    folder.mkdir()
    scored, components = [], []
    for sample in voc_samples:
        pred, gt = (
            part.data[0].numpy() for part in (sample.pred_sem_seg, sample.gt_sem_seg)
        )
        ids = halved(gt)
        Image.fromarray(ids).save(folder / Path(sample.seg_map_path).name)
        scored += instance_ious(pred, gt, ids)
        components += instance_ious(pred, gt)
    metrics = run_evaluator(voc_samples, instance_dir="SegmentationObject")
    assert {"mIoU", "aAcc", *KEYS} <= set(metrics)
    found = {key: metrics[key] for key in KEYS}
    assert found == pytest.approx(expected_metrics(scored), abs=0.006, nan_ok=True)
    same = run_evaluator(voc_samples, instance_dir=str(folder), prefix="ia")
    assert same["ia/IA-mIoU"] == metrics["IA-mIoU"]
    other = run_evaluator(voc_samples)
    assert other["mIoU"] == metrics["mIoU"]
    assert other["IA-mIoU"] == pytest.approx(
        expected_metrics(components)["IA-mIoU"], abs=0.006
    )
    assert len(scored) > len(components)

    Image.new("L", (3, 4)).save(folder / "image_2.png")
    with pytest.raises(ValueError, match=r"image_2\.png has shape \(4, 3\), expected"):
        run_evaluator(voc_samples, instance_dir="SegmentationObject")
    (folder / "image_2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"instance_dir: .*Class/image_2\.png"):
        run_evaluator(voc_samples, instance_dir="SegmentationObject")


def uncompressed(mask: np.ndarray) -> dict:
    """Run lengths down the columns, zeros first."""
    flat = np.concatenate([[0], mask.T.ravel(), [0]])
    ends = np.flatnonzero(np.diff(flat))
    counts = np.diff([0, *ends, mask.size]).tolist()
    return dict(size=list(mask.shape), counts=counts)


def coco_file(path: Path, samples) -> Path:
    """The halves of :func:`halved` as annotations."""
    pytest.importorskip("pycocotools")
    images, annotations = [], []
    for number, sample in enumerate(samples):
        gt = sample.gt_sem_seg.data[0].numpy()
        height, width = gt.shape
        name = f"val/{Path(sample.img_path).name}"
        images.append(dict(id=number, file_name=name, height=height, width=width))
        ids = halved(gt)
        annotations += [
            dict(
                image_id=number,
                # VOC's label of the half.
                category_id=int(value) % 10,
                segmentation=uncompressed(ids == value),
                area=int((ids == value).sum()),
                iscrowd=0,
            )
            for value in np.unique(ids[(ids > 0) & (ids < 255)])
        ]
    names = enumerate(PascalVOCDataset.METAINFO["classes"])
    categories = [dict(id=number, name=name) for number, name in names]
    content = dict(images=images, annotations=annotations, categories=categories)
    path.write_text(json.dumps(content))
    return path


def test_coco_annotations(voc_samples, voc_folder, tmp_path):
    path = coco_file(tmp_path / "instances.json", voc_samples)
    folder = voc_folder / "halves"
    folder.mkdir()
    for sample in voc_samples:
        ids = halved(sample.gt_sem_seg.data[0].numpy())
        Image.fromarray(ids).save(folder / Path(sample.seg_map_path).name)
    metrics = run_evaluator(voc_samples, instance_file=str(path))
    expected = run_evaluator(voc_samples, instance_dir="halves")
    assert metrics == pytest.approx(expected, nan_ok=True)

    # Image 0 has one object, in halves, and one annotation of the first half.
    content = json.loads(path.read_text())
    first = content["annotations"][0]
    other_half = int((voc_samples[0].gt_sem_seg.data == 1).sum()) - first["area"]
    out = tmp_path / "out.json"
    fields = dict(instance_file=str(path), background="ignore", out=str(out))
    # A crowd is void, and what its class has besides is split into components.
    for crowd, disputed in ((0, other_half), (1, 0)):
        content["annotations"] = [dict(first, iscrowd=crowd)]
        path.write_text(json.dumps(content))
        run_evaluator(voc_samples[:1], **fields)
        result = json.loads(out.read_text())
        assert result["instances"]["all"] == 1
        assert result["disputed_pixels"] == disputed


def test_coco_refusals(voc_samples, tmp_path, monkeypatch):
    path = coco_file(tmp_path / "instances.json", voc_samples)
    content = json.loads(path.read_text())
    with pytest.raises(FileNotFoundError, match=r"instance_file: .*none\.json"):
        IAIoUMetric(instance_file=str(tmp_path / "none.json"))
    same_name = [*content["images"], dict(content["images"][0], id=99)]
    same_name = dict(content, images=same_name)
    for wrong, message in (
        ({}, "is no COCO annotation: .* has no images"),
        (same_name, r"images\[6\] \(id 99\): .* was listed before"),
    ):
        path.write_text(json.dumps(wrong))
        expected = rf"instance_file: .*instances\.json.*{message}"
        with pytest.raises(ValueError, match=expected):
            IAIoUMetric(instance_file=str(path))
    path.write_text(json.dumps(dict(content, images=[], annotations=[])))
    with pytest.raises(ValueError, match="lists no image of the name image_0"):
        run_evaluator(voc_samples, instance_file=str(path))
    content["annotations"][0]["segmentation"]["size"] = [48, 40]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"image_0\.jpg: .*\(H, W\) = \[48, 40\], the"):
        run_evaluator(voc_samples, instance_file=str(path))
    for name in ("pycocotools", "pycocotools.mask"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "mmwood\[coco\]"'):
        IAIoUMetric(instance_file=str(path))


def test_an_image_that_the_sampler_repeats_counts_once(tmp_path, monkeypatch):
    """Of five images two processes have three each; then one has the sums of both."""
    pairs, out = list(random_pairs(5)), tmp_path / "out.json"
    metrics = [IAIoUMetric(size_limits=LIMITS, out=str(out)) for _ in range(2)]
    for metric, indices in zip(metrics, ((0, 2, 4), (1, 3, 0))):
        metric.dataset_meta = dict(classes=CLASSES)
        metric.process({}, [make_sample(*pairs[index]).to_dict() for index in indices])
    monkeypatch.setattr(ia_iou_metric, "get_world_size", lambda: 2)
    metrics[1].results = [metrics[0]._tallies()]
    found = metrics[1].evaluate(5)
    monkeypatch.undo()
    assert found == evaluate(pairs)
    total = json.loads(out.read_text())
    assert total["images"] == 5
    number = sum(len(instance_ious(*pair)) for pair in pairs)
    assert total["instances"]["all"] == number


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(background=0), "background must be 'image', 'ignore' or None"),
        (dict(connectivity=6), "connectivity must be 4 or 8"),
        (dict(void="kept"), "void must be 'separates' or 'connects'"),
        (dict(size_limits=(9, 4)), "size_limits must be two ascending"),
        (dict(size_limits=(9,)), "size_limits must be two ascending"),
        (dict(instance_dir="a", instance_file="b"), "instance_dir or instance_file"),
        (dict(out="scores.txt"), r"out must be a \.json file"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=f"^mmwood.IAIoUMetric: .*{message}"):
        IAIoUMetric(**fields)


def test_wrong_samples():
    good = np.zeros((4, 5), int)
    with pytest.raises(ValueError, match=r"image 0: gt holds \[4\]: expected 0\.\.3"):
        evaluate([(good, good + 4)])
    with pytest.raises(ValueError, match=r"image 0: pred holds \[4\]: expected 0\.\.3"):
        evaluate([(good + 4, good)])
    with pytest.raises(ValueError, match=r"image 0: pred has \(H, W\) = \(5, 4\)"):
        evaluate([(good.T, good)])
    metric = IAIoUMetric()
    metric.dataset_meta = dict(classes=CLASSES)
    without = make_sample(good, good).to_dict()
    del without["gt_sem_seg"]
    with pytest.raises(ValueError, match="image 0 has no gt_sem_seg"):
        metric.process({}, [without])
    reduced = make_sample(good, good, reduce_zero_label=True).to_dict()
    with pytest.raises(ValueError, match=r"background: .* expected background=None"):
        metric.process({}, [reduced])


def square(left, top, right, bottom, **fields):
    corners = [left, top, right, top, right, bottom, left, bottom]
    return dict(image_id=1, iscrowd=0, segmentation=[corners], **fields)


def scored(metric_fields, gt, pred, img_path="a.jpg", seg_map_path="png/a.png"):
    """Instances and their IA-mIoU in all, of one image."""
    metric = IAIoUMetric(background="ignore", **metric_fields)
    metric.dataset_meta = dict(classes=["background", "person", "tie"][: gt.max() + 1])
    sample = make_sample(pred, gt).to_dict()
    sample.update(img_path=img_path, seg_map_path=seg_map_path)
    metric.process({}, [sample])
    return metric.evaluate(1)["IA-mIoU"], metric


@pytest.mark.parametrize("order", [1, -1])
def test_instances_have_their_annotations_class(tmp_path, order):
    """A tie on a person is no second person where ties are no class."""
    pytest.importorskip("pycocotools")
    person, tie = np.s_[5:75, 5:45], np.s_[10:40, 22:28]
    annotations = [
        square(5, 5, 45, 75, id=1, category_id=7),
        square(22, 10, 28, 40, id=2, category_id=3),
    ]
    content = dict(
        images=[dict(id=1, file_name="a.jpg", height=80, width=50)],
        annotations=annotations[::order],
        categories=[dict(id=3, name="tie"), dict(id=7, name="person")],
    )
    path, out = tmp_path / "instances.json", tmp_path / "out.json"
    path.write_text(json.dumps(content))
    gt = np.zeros((80, 50), int)
    gt[person] = 1
    pred = gt.copy()
    pred[:40] = 0
    fields = dict(instance_file=str(path), out=str(out))
    score, _ = scored(fields, gt, pred)
    result = json.loads(out.read_text())
    assert (score, result["instances"]["all"]) == (50, 1)
    assert result["annotations_left_out"] == 1
    # Where ties are a class, both are instances.
    gt[tie] = 2
    scored(fields, gt, pred)
    result = json.loads(out.read_text())
    assert result["instances"] == dict(all=2, small=1, medium=1, large=0)
    assert result["annotations_left_out"] == result["disputed_pixels"] == 0
    for category in content["categories"]:
        category["name"] += "s"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"none of the categories of .* is a class"):
        scored(fields, gt, pred)


def test_instance_maps_are_found_by_the_whole_id(tmp_path):
    """x/a and y/a have one stem and two maps."""
    gt = np.ones((6, 9), int)
    columns = np.arange(9)
    pred = np.where(columns < 3, gt, 0)
    for name, ids in (("x", gt), ("y", np.where(columns < 3, 1, 2))):
        for folder, values in (("png", gt), ("ids", ids)):
            path = tmp_path / folder / name / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.broadcast_to(values, gt.shape).astype(np.uint8)).save(
                path
            )
    for folder in ("ids", str(tmp_path / "ids")):
        found = [
            scored(dict(instance_dir=folder), gt, pred, seg_map_path=path)[0]
            for path in (tmp_path / "png/x/a.png", tmp_path / "png/y/a.png")
        ]
        assert found == pytest.approx([100 / 3, 50], abs=0.01)
    # One that lies flat can be one image's only.
    Image.fromarray(gt.astype(np.uint8)).save(tmp_path / "png/ids_a.png")
    _, metric = scored(
        dict(instance_dir=str(tmp_path / "ids/x")), gt, pred, seg_map_path="one/a.png"
    )
    sample = make_sample(pred, gt).to_dict()
    sample.update(seg_map_path="two/a.png")
    with pytest.raises(ValueError, match=r"two.a\.png and one.a\.png have one"):
        metric.process({}, [sample])
