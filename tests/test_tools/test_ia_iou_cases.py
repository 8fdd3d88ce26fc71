"""The corner cases of IA-mIoU, against sets of pixels that are filled and counted."""

import json
from collections import Counter, defaultdict
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwood.visualization.ia_iou_cases import (
    FOUND,
    MISSED,
    STATE_COLOURS,
    VOID,
    Case,
    save_cases,
)

REPOSITORY = Path(__file__).parents[2]
TOOL = "analysis_tools/ia_iou_cases.py"
CLASSES = ("disc", "square", "stripe")
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def colour_areas(path: Path) -> list[int]:
    """How many pixels of a figure are of the colours of the states."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] > 1000
    assert 500 < pixels.shape[0] < 800
    return [
        int((pixels == [int(c[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum())
        for c in STATE_COLOURS
    ]


def slow_regions(pixels):
    """The 8-connected regions of a set of pixels."""
    rest, regions = set(pixels), []
    while rest:
        todo, region = [rest.pop()], set()
        while todo:
            y, x = todo.pop()
            region.add((y, x))
            near = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & rest
            rest -= near
            todo += near
        regions.append(region)
    return regions


def slow_instances(gt, ids, label):
    """The pixels of each instance of the class that is not in dispute."""
    votes, own = defaultdict(Counter), defaultdict(set)
    for number in set(ids.flat) - {0, 255}:
        values = gt[(ids == number) & (gt != 255)]
        votes[number] = Counter(values.tolist())
    winner = {n: min(v, key=lambda c: (-v[c], c)) for n, v in votes.items() if v}
    for pixel in zip(*np.nonzero((gt == label) & (ids != 255))):
        number = ids[pixel]
        # Without an instance, or in one of the background.
        free = winner.get(number, 0) == 0
        if free or winner[number] == label:
            own[0 if free else number].add(tuple(map(int, pixel)))
    free = own.pop(0, set())
    return list(own.values()) or slow_regions(free)


def slow_scores(images, label, removed):
    """Number of instances, IoU and IA-IoU in percent.

    Args:
        images: Label map and instance map of each.
        label: The class.
        removed: How many instances the prediction lacks, the smallest first.
    """
    truth = [
        (image, own)
        for image, maps in enumerate(images)
        for own in slow_instances(*maps, label)
    ]
    truth.sort(key=lambda item: len(item[1]))
    total = Fraction(0)
    for image in {image for image, _ in truth}:
        kept = [own for number, own in truth[removed:] if number == image]
        regions = slow_regions(set().union(*kept))
        for number, own in truth:
            if number != image:
                continue
            hit, received = 0, Fraction(0)
            for region in regions:
                overlap = len(region & own)
                if overlap:
                    shared = sum(len(region & o) for n, o in truth if n == image)
                    hit += overlap
                    received += Fraction(len(region) * overlap, shared)
            total += hit / (len(own) + received - hit)
    areas = [len(own) for _, own in truth]
    iou = Fraction(sum(areas[removed:]), sum(areas))
    return len(truth), *(float(100 * part) for part in (iou, total / len(truth)))


def assert_removal(numbers, images, label, steps):
    """The curves fall as they must, and equal the reference at some steps."""
    count = len(numbers["areas"])
    assert numbers["removed"] == list(range(count + 1))
    assert numbers["areas"] == sorted(numbers["areas"])
    falls = [before - after for before, after in pairwise(numbers["ia_iou"])]
    assert falls == pytest.approx([100 / count] * count, abs=2e-4)
    changes = [before - after for before, after in pairwise(numbers["iou"])]
    assert min(changes) >= 0
    for step in steps:
        expected = slow_scores(images, label, step)
        result = numbers["iou"][step], numbers["ia_iou"][step]
        assert (count, *result) == pytest.approx(expected, abs=1e-4)


def test_growth(run_tool, tmp_path):
    text = run_tool(TOOL, "--out", "new/cases.png")
    assert "figure: new/cases.png\nnumbers: new/cases.json" in text
    numbers = json.loads((tmp_path / "new/cases.json").read_text())
    assert set(numbers) == {"growth_large", "growth_small"}
    assert sum(case["area"] for case in numbers.values()) == 3136
    for case in numbers.values():
        share = np.array(case["covered"]) / 100
        assert share.tolist() == np.linspace(0, 1, 9).tolist()
        assert case["class_area"] == 3136
        # Of two instances one is covered so far and the other is missed.
        assert case["ia_iou"] == pytest.approx(50 * share, abs=1e-4)
        assert case["iou"] == pytest.approx(100 * share * case["area"] / 3136, abs=1e-4)
    assert numbers["growth_large"]["iou"][-1] > 95
    assert numbers["growth_small"]["iou"][-1] < 5
    _, found, missed, _ = colour_areas(tmp_path / "new/cases.png")
    # Of the large instance 25, 50, 75 and 100 % are found, and all of it missed.
    assert 0.3 < found / missed < 0.6


def test_removal_of_components(voc_folder, call, tmp_path):
    masks = voc_folder / "SegmentationClass"
    # Every class has two objects of 270 pixels and one of 160.
    (tmp_path / "names.txt").write_text("\n".join(("background", *CLASSES)))
    arguments = ("--classes", "names.txt", "--class-name", "square")
    text = call("--masks", masks, *arguments, "--out", "a.png")
    assert text.count("| removal ") == 4 - 1
    numbers = json.loads((tmp_path / "a.json").read_text())["removal"]
    assert numbers["areas"] == [160, 270, 270]
    expected = [100, 100 * 540 / 700, 100 * 270 / 700, 0]
    assert numbers["iou"] == pytest.approx(expected, abs=1e-4)
    expected = [100, 200 / 3, 100 / 3, 0]
    assert numbers["ia_iou"] == pytest.approx(expected, abs=1e-4)
    assert numbers["images"] == 3
    assert numbers["instance_source"] == "connected components"
    # The rim above the objects is void, beside the legend's patch.
    assert min(colour_areas(tmp_path / "a.png")) > 100


def test_removal_of_instances_that_touch(call, tmp_path):
    """Many instances; they touch, are in pieces, are in dispute or are of no class."""
    rng = np.random.default_rng(0)
    images = []
    for folder in ("masks", "ids"):
        (tmp_path / folder).mkdir()
    for number in range(5):
        # Stripes of uneven width, cut by rows: every instance touches its neighbours.
        edges = np.sort(rng.choice(np.arange(1, 40), 7, replace=False))
        ids = np.digitize(np.arange(40), edges)[None] + np.zeros((24, 1), int)
        ids[rng.integers(6, 18) :] += 8
        ids[:, [5, 30]] = 0
        gt = rng.integers(0, 3, 16)[ids % 16].astype(np.uint8)
        noise = rng.random(ids.shape)
        gt[noise < 0.05] = rng.integers(0, 3)
        gt[noise > 0.97] = 255
        ids[rng.random(ids.shape) < 0.02] = 255
        if number == 3:
            ids[:] = 0
        if number == 4:
            gt[gt == 2] = 0
        for folder, array in (("masks", gt), ("ids", ids.astype(np.uint8))):
            Image.fromarray(array).save(tmp_path / folder / f"{number}.png")
        images.append((gt, ids))
    (tmp_path / "list.txt").write_text("".join(f"{n}\n" for n in range(5)))
    text = call(
        *("--masks", "masks", "--instances", "ids", "--list", "list.txt"),
        *("--classes", "a", "b", "--class-name", "b", "--out", "cases.png"),
    )
    numbers = json.loads((tmp_path / "cases.json").read_text())["removal"]
    count = len(numbers["areas"])
    assert count > 15
    assert numbers["images"] == 4
    assert numbers["disputed_pixels"] > 0
    assert f"{numbers['disputed_pixels']} pixels are left out" in text
    assert numbers["instance_source"] == "ids"
    assert_removal(numbers, images, 2, range(0, count + 1, 5))
    assert numbers["iou"][-1] == numbers["ia_iou"][-1] == 0


def test_removal_of_real_instances(mini_voc, call, tmp_path):
    lines = (mini_voc / "ImageSets/Segmentation/instance_ok.txt").read_text().split()
    names = lines[::5]
    (tmp_path / "list.txt").write_text("\n".join(names))
    folders = [
        mini_voc / f for f in ("SegmentationClass", "SegmentationObject_derived")
    ]
    call(
        *("--masks", folders[0], "--instances", folders[1], "--list", "list.txt"),
        *("--classes", *VOC_CLASSES, "--class-name", "sheep", "--out", "cases.png"),
    )
    numbers = json.loads((tmp_path / "cases.json").read_text())["removal"]
    images = [[read(folder / f"{name}.png") for folder in folders] for name in names]
    images = [maps for maps in images if (maps[0] == 17).any()]
    assert numbers["images"] == len(images)
    half = len(numbers["areas"]) // 2
    assert half >= 5
    assert_removal(numbers, images, 17, (0, 1, half))
    # Half of the instances are next to nothing to IoU.
    assert numbers["iou"][half] > 80
    assert min(colour_areas(tmp_path / "cases.png")) > 100


def test_one_instance_only(call, tmp_path):
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "masks/a.png")
    call(*("--masks", "masks", "--classes", "a", "--class-name", "a", "--out", "a.png"))
    numbers = json.loads((tmp_path / "a.json").read_text())["removal"]
    assert numbers["iou"] == numbers["ia_iou"] == [100, 0]


def test_refusals(voc_folder, call, tmp_path):
    masks = ("--masks", voc_folder / "SegmentationClass")
    names = ("--classes", *CLASSES)
    disc = (*names, "--class-name", "disc")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("\nimage_9\n")
    (tmp_path / "no_disc.txt").write_text("image_1\n")
    (tmp_path / "blank.txt").write_text("\n")
    small = np.zeros((4, 4), np.uint8)
    (tmp_path / "ids").mkdir()
    for path in masks[1].iterdir():
        Image.fromarray(small).save(tmp_path / "ids" / path.name)
    for arguments, message in (
        (disc, "--classes needs --masks"),
        (("--class-name", "disc"), "--class-name needs --masks"),
        ((*masks, *names), "--masks needs --classes and --class-name"),
        ((*masks, *names, "--class-name", "cow"), "'cow' is none of the classes"),
        ((*masks, "--classes", "a", "a", "--class-name", "a"), "--classes: a name"),
        (("--masks", "none", *disc), "--masks: there is no folder none"),
        (("--masks", "empty", *disc), "--masks: empty holds no PNG file"),
        ((*masks, *disc, "--instances", "none"), "--instances: there is no folder"),
        ((*masks, *disc, "--instances", "empty"), "--instances: 6 of 6 files do not"),
        ((*masks, *disc, "--instances", "ids"), "instances has (H, W) = (4, 4)"),
        ((*masks, *disc, "--list", "none.txt"), "--list: there is no file none.txt"),
        ((*masks, *disc, "--list", "blank.txt"), "--list: blank.txt lists no image"),
        ((*masks, *disc, "--list", "list.txt"), "list.txt:2: "),
        ((*masks, *disc, "--list", "no_disc.txt"), "has an instance of 'disc'"),
        ((*masks, "--classes", "a", "--class-name", "a"), "expected 0..1"),
    ):
        text = call(*arguments, "--out", "a.png", fails=True)
        assert message in text
    assert "'a.jpg'" in call("--out", "a.jpg", fails=True)
    assert not list(tmp_path.glob("a.*"))


def test_a_picture_of_any_shape(tmp_path):
    """The frame stays, the picture is not stretched."""
    tall = np.full((90, 30), FOUND)
    tall[:30], tall[30:60] = MISSED, VOID
    case = Case("title", "x", [0, 1], [0, 50], [0, 90], {1: ("caption", tall)})
    save_cases([case, case], tmp_path / "cases.png", "note")
    _, found, missed, _ = colour_areas(tmp_path / "cases.png")
    assert found == pytest.approx(missed, rel=0.1)
