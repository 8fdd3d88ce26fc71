"""Sizes of a data set's objects, and scores by size, from real files."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmwood.evaluation import IAIoUMetric
from mmwood.fileio.scores import read_instance_scores
from mmwood.visualization.size_charts import (
    RUN_COLOURS,
    SIZE_COLOURS,
    save_size_distribution,
    save_size_scores,
)

TOOL = "analysis_tools/size_report.py"
CLASSES = ("disc", "square", "stripe")


@pytest.fixture
def call(call_main):
    return partial(call_main, TOOL)


def colours(path: Path) -> set[str]:
    """The colours of a picture, as #rrggbb."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.unique(pixels, axis=0)}


def colour_areas(path: Path) -> list[int]:
    """How many pixels of a picture are of the colours of the sizes."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return [
        int((pixels == [int(c[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum())
        for c in SIZE_COLOURS.values()
    ]


def table_rows(text: str) -> dict[str, list[str]]:
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def test_sizes_of_components(voc_folder, call, tmp_path):
    masks = voc_folder / "SegmentationClass"
    # Every class has two objects of 270 pixels and one of 160.
    arguments = ("--classes", *CLASSES, "--size-limits", 200, 300)
    text = call("data", masks, *arguments, "--out", "new/sizes.png")
    assert table_rows(text)["square"] == ["3", "1 (33 %)", "2 (67 %)", "0 (0 %)"]
    assert table_rows(text)["all classes"][0] == "9"
    assert "6 images; instances: connected components; small: below 200" in text
    numbers = json.loads((tmp_path / "new/sizes.json").read_text())
    row = dict(small=1, medium=2, large=0)
    assert numbers["classes"] == dict.fromkeys(CLASSES, row)
    # Linear between the three areas.
    quantiles = pytest.approx([171, 215, 270, 270, 270])
    assert numbers["areas"] == dict.fromkeys(CLASSES, quantiles)
    assert numbers["images"] == 6
    small, medium, large = colour_areas(tmp_path / "new/sizes.png")
    assert medium == pytest.approx(2 * small, rel=0.1)
    # Its patch in the legend.
    assert large < small / 10

    # A list, a file of names, and a background that is no label.
    (tmp_path / "list.txt").write_text("image_1\n")
    (tmp_path / "names.txt").write_text("\n".join(("background", *CLASSES)))
    files = ("--list", "list.txt", "--classes", "names.txt", "--out", "sizes.png")
    call("data", masks, *files)
    numbers = json.loads((tmp_path / "sizes.json").read_text())
    assert [sum(row.values()) for row in numbers["classes"].values()] == [0, 1, 1]
    assert numbers["size_limits"] == [1024, 9216]


def test_sizes_of_instance_maps(voc_folder, call, tmp_path):
    masks, folder = voc_folder / "SegmentationClass", tmp_path / "SegmentationObject"
    folder.mkdir()
    for path in masks.glob("*.png"):
        with Image.open(path) as image:
            ids = np.array(image)
        # Cut at column 12: 270 pixels in 120 and 150, 160 in 16 and 144.
        ids[:, 12:][(ids[:, 12:] > 0) & (ids[:, 12:] < 255)] += 10
        Image.fromarray(ids).save(folder / path.name)
    arguments = ("--classes", *CLASSES, "--size-limits", 130, 200, "--out", "a.png")
    text = call("data", masks, "--instances", folder, *arguments)
    assert table_rows(text)["disc"] == ["6", "3 (50 %)", "3 (50 %)", "0 (0 %)"]
    assert "instance maps SegmentationObject" in text
    assert "disagree" not in text
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(folder / "image_2.png")
    (folder / "image_4.png").unlink()
    text = call("data", masks, "--instances", folder, *arguments, fails=True)
    assert "image_4.png has no instance map" in text


def test_refusals_of_data(voc_folder, call, tmp_path):
    masks = voc_folder / "SegmentationClass"
    (tmp_path / "list.txt").write_text("\nimage_9\n")
    names = ("--classes", *CLASSES)
    for folder, arguments, message in (
        ("none", names, "there is no folder of masks none"),
        (voc_folder / "ImageSets", names, "holds no PNG file"),
        (masks, ("--classes", "a", "b"), "holds [3]: expected 0..2"),
        (masks, ("--classes", "background"), "names no class"),
        (masks, (*names, "--list", "none.txt"), "there is no file none.txt"),
        (masks, (*names, "--list", "list.txt"), "list.txt:2: "),
        (masks, (*names, "--size-limits", 9, 4), "--size-limits must ascend"),
    ):
        text = call("data", folder, *arguments, "--out", "a.png", fails=True)
        assert message in text


def run_file(path: Path, shift: int, **fields) -> Path:
    """What the metric writes of a displaced small, medium and large square."""
    gt = np.zeros((40, 60), int)
    gt[2:6, 2:6], gt[10:20, 2:12], gt[5:35, 20:50] = 1, 2, 2
    metric = IAIoUMetric(size_limits=(50, 400), out=str(path), **fields)
    metric.dataset_meta = dict(classes=("background", "cat", "dog"))
    maps = [torch.from_numpy(x)[None] for x in (np.roll(gt, shift, axis=1), gt)]
    sample = dict(zip(("pred_sem_seg", "gt_sem_seg"), (dict(data=x) for x in maps)))
    metric.process({}, [sample])
    metric.evaluate(1)
    return path


@pytest.mark.slow
def test_runs(call, tmp_path):
    paths = [run_file(tmp_path / f"{shift}.json", shift) for shift in (0, 1, 3)]
    runs = [f"shift {number}={path}" for number, path in enumerate(paths)]
    text = call("runs", *runs, "--out", "runs.png")
    rows = table_rows(text)
    assert rows["shift 0"] == ["100.00"] * 4
    assert rows["shift 1"][1] == "60.00"
    numbers = json.loads((tmp_path / "runs.json").read_text())
    assert numbers["runs"]["shift 1"]["iou"]["small"] == 60
    assert numbers["settings"]["instances"]["all"] == 4
    found = colours(tmp_path / "runs.png")
    assert [colour in found for colour in RUN_COLOURS[:4]] == [True] * 3 + [False]


def test_refusals_of_runs(call, tmp_path):
    good = run_file(tmp_path / "good.json", 1)
    other = run_file(tmp_path / "other.json", 1, background="ignore")
    (tmp_path / "list.json").write_text("[1]")
    for runs, message in (
        (["good.json"], "expected NAME=PATH"),
        (["a=none.json"], "there is no file none.json"),
        (["a=list.json"], "list.json is no out file of mmwood.IAIoUMetric"),
        ([f"a={good}", f"b={other}"], "has background ignore"),
        ([f"a={good}", f"a={good}"], "two runs have one name"),
        ([f"{number}={good}" for number in range(9)], "at most 8 runs, got 9"),
    ):
        text = call("runs", *runs, "--out", "a.png", fails=True)
        assert message in text
    text = call("runs", f"a={good}", "--out", "a.jpg", fails=True)
    assert "'a.jpg'" in text


@pytest.mark.slow
def test_charts_of_what_is_absent(tmp_path):
    scores = read_instance_scores(run_file(tmp_path / "run.json", 1))
    scores.iou["large"] = None
    save_size_scores({"only": scores}, tmp_path / "run.png")
    assert RUN_COLOURS[0] in colours(tmp_path / "run.png")
    counts = dict(cat=(0, 0, 0), dog=(0, 3, 0))
    save_size_distribution(counts, tmp_path / "sizes.png", "title")
    small, medium, large = colour_areas(tmp_path / "sizes.png")
    assert medium > 1000
    assert max(small, large) < medium / 10
    with pytest.raises(ValueError, match="no class has an instance"):
        save_size_distribution(dict(cat=(0, 0, 0)), tmp_path / "none.png", "title")


@pytest.mark.slow
def test_boxes(voc_folder, call, tmp_path):
    masks = voc_folder / "SegmentationClass"
    limits = ("--size-limits", 200, 300)
    call("data", masks, "--classes", *CLASSES, *limits, "--out", "all.png")
    (tmp_path / "list.txt").write_text("image_1\n")
    part = ("--list", "list.txt", "--classes", *CLASSES, *limits)
    call("data", masks, *part, "--out", "one.png")
    call("boxes", "VOC=all.json", "PASCAL-B=one.json", "--out", "boxes.png")
    numbers = json.loads((tmp_path / "boxes.json").read_text())
    assert numbers["data"]["VOC"]["areas"]["disc"][0] == pytest.approx(171)
    # Image 1 shows no disc.
    assert numbers["data"]["PASCAL-B"]["areas"]["disc"] is None
    found = colours(tmp_path / "boxes.png")
    assert [colour in found for colour in RUN_COLOURS[:3]] == [True, True, False]

    call("data", masks, "--classes", *CLASSES, "--out", "coco.png")
    content = json.loads((tmp_path / "all.json").read_text())
    content["area_quantiles"][0] = 0.1
    (tmp_path / "other.json").write_text(json.dumps(content))
    for runs, message in (
        (["a=none.json"], "there is no file none.json"),
        (["a=boxes.json"], "boxes.json is no numbers of size_report.py data"),
        (["a=other.json"], "area_quantiles are [0.1,"),
        (["a=all.json", "b=coco.json"], "coco.json has size_limits [1024, 9216]"),
        (["a=all.json", "a=one.json"], "two runs have one name"),
    ):
        assert message in call("boxes", *runs, "--out", "a.png", fails=True)


#: mIoU, IA-mIoU and IA_S on VOC and PASCAL-B, tables of Mun et al., WACV 2024.
PUBLISHED = {
    "IRN": ((64.8, 56.0, 17.5), (56.1, 41.0, 15.8)),
    "CDA": ((66.6, 57.2, 15.8), (57.5, 41.4, 13.4)),
    "AMN": ((69.4, 58.4, 15.9), (58.5, 41.1, 13.9)),
    "CLIM": ((68.9, 57.4, 14.0), (58.7, 40.2, 12.2)),
    "RCA": ((70.4, 60.7, 23.2), (60.8, 45.5, 18.4)),
    "EDAM": ((70.7, 60.7, 21.3), (60.4, 45.2, 19.4)),
    "NS-ROM": ((70.4, 60.2, 19.3), (58.9, 43.6, 16.2)),
    "BANA": ((72.6, 59.6, 14.7), (61.9, 41.1, 14.0)),
    "BBAM": ((72.7, 60.5, 14.7), (60.1, 40.9, 14.3)),
}


def slow_rho(first, second) -> float:
    """Pearson's correlation of ranks; equal values share the mean of theirs."""

    def ranks(values):
        return [
            sum(x < y for x in values) + (sum(x == y for x in values) + 1) / 2
            for y in values
        ]

    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


@pytest.mark.parametrize(("data", "published"), [(0, 0.79), (1, 0.38)])
def test_rank_of_the_published_tables(data, published, call, tmp_path):
    keys = ("mIoU", "IA-mIoU", "IA_S")
    for name, tables in PUBLISHED.items():
        content = dict(zip(keys, tables[data]), aAcc=90.0, IA_M=None)
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    rows = table_rows(call("rank", *(f"{name}={name}.json" for name in PUBLISHED)))
    miou, ia_miou, ia_small = zip(*(tables[data] for tables in PUBLISHED.values()))
    rho = [slow_rho(miou, scores) for scores in (miou, ia_miou, ia_small)]
    assert rows["Spearman's rho with mIoU"] == [f"{value:.2f}" for value in rho]
    assert round(rho[1], 2) == published
    assert rows["EDAM"] == [str(score) for score in PUBLISHED["EDAM"][data]]


def test_refusals_of_rank(call, tmp_path):
    for name, content in dict(a=dict(mIoU=1.0), b={"mIoU": 1, "IA-mIoU": 2}).items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    for runs, message in (
        ([1, 2], "three runs or more, got 2"),
        ([1, 2, "a"], "a.json has no IA-mIoU: it has ['mIoU']"),
    ):
        files = [f"{run}={run if run == 'a' else 'b'}.json" for run in runs]
        assert message in call("rank", *files, fails=True)
    rows = table_rows(call("rank", *(f"{run}=b.json" for run in range(3))))
    assert rows["Spearman's rho with mIoU"] == ["-", "-"]
