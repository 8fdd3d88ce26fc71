"""Figures from files that other tools wrote."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import procrustes

CLASSES = ("background", "train", "boat")
COLUMNS = "image,cluster,distance,class,probability"
CELL = 160


def write_curve(path: Path, ious: tuple, miou: float) -> Path:
    """A file as of mmwood.SeedMetric; at the configured threshold all is 2 lower."""
    lower = [None if iou is None else iou - 2 for iou in ious]
    content = dict(
        best=dict(threshold=0.2, mIoU=miou),
        configured=dict(threshold=0.15, mIoU=miou - 2),
        class_iou_at_best=dict(zip(CLASSES, ious)),
        class_iou_at_configured=dict(zip(CLASSES, lower)),
    )
    path.write_text(json.dumps(content))
    return path


def read_rows(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def is_png(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG"


@pytest.mark.slow
def test_class_change(call_main, tmp_path):
    base = [
        write_curve(tmp_path / "base_0.json", (80.0, 30.0, None), 50.0),
        write_curve(tmp_path / "base_1.json", (80.0, 32.0, None), 51.0),
    ]
    other = [
        write_curve(tmp_path / "other_0.json", (79.0, 40.0, 3.0), 54.0),
        write_curve(tmp_path / "other_1.json", (77.0, 44.0, None), 53.0),
    ]
    tool = "analysis_tools/class_change.py"
    files = ("--base", *base, "--other", *other)
    text = call_main(tool, *files, "--out", "new/change.png")
    assert "1 classes are absent from a run: boat" in text
    assert is_png(tmp_path / "new/change.png")
    numbers = json.loads((tmp_path / "new/change.json").read_text())
    assert numbers["at"] == "best"
    assert numbers["absent"] == ["boat"]
    assert numbers["base"] == [str(path) for path in base]
    assert list(numbers["classes"]) == ["train", "background"]
    # The changes of the pairs are 10 and 12, -1 and -3, and 4 and 2 of the mIoU.
    deviation = pytest.approx(math.sqrt(2))
    train = dict(base=31.0, other=42.0, change=11.0, std=deviation)
    assert numbers["classes"]["train"] == train
    background = dict(base=80.0, other=78.0, change=-2.0, std=deviation)
    assert numbers["classes"]["background"] == background
    assert numbers["mIoU"] == dict(base=50.5, other=53.5, change=3.0, std=deviation)

    unpaired = ("--base", base[0], "--other", *other, "--at", "configured")
    text = call_main(tool, *unpaired, "--out", "change.png")
    assert "1 base and 2 other runs do not pair up" in text
    numbers = json.loads((tmp_path / "change.json").read_text())
    train = dict(base=28.0, other=40.0, change=12.0, std=None)
    assert numbers["classes"]["train"] == train


def test_class_change_refusals(call_main, tmp_path):
    tool = "analysis_tools/class_change.py"
    good = write_curve(tmp_path / "good.json", (80.0, 30.0, 20.0), 43.3)
    (tmp_path / "list.json").write_text("[1, 2]")
    other = json.loads(good.read_text())
    del other["class_iou_at_best"]["boat"]
    (tmp_path / "other.json").write_text(json.dumps(other))
    for path, message in (
        ("none.json", "there is no file none.json"),
        ("list.json", "list.json is no seed_curve.json of mmwood.SeedMetric"),
        ("other.json", "other.json has the classes ['background', 'train']"),
    ):
        arguments = ("--base", good, "--other", good, path, "--out", "change.png")
        text = call_main(tool, *arguments, fails=True)
        assert message in text
    arguments = ("--base", good, "--other", good)
    assert "'c.json'" in call_main(tool, *arguments, "--out", "c.json", fails=True)


@pytest.mark.slow
def test_ood_amount(call_main, tmp_path):
    tool = "analysis_tools/ood_amount.py"
    runs = [
        f"{amount}={write_curve(tmp_path / f'{number}.json', (1.0, 1.0, 1.0), miou)}"
        for number, (amount, miou) in enumerate(
            [(5190, 53.0), (0, 49.0), (5190, 54.0), (20, 52.0)]
        )
    ]
    arguments = ("--run", *runs[:2], "--run", *runs[2:])
    call_main(tool, *arguments, "--out", "amount.png")
    assert is_png(tmp_path / "amount.png")
    numbers = json.loads((tmp_path / "amount.json").read_text())
    none, few, many = numbers["amounts"]
    zero = str(tmp_path / "1.json")
    only = dict(images=0, miou=[49.0], mean=49.0, std=None, quartiles=[49.0] * 3)
    assert none == dict(only, runs=[zero])
    assert few["images"] == 20
    assert many["images"] == 5190
    assert many["mean"] == 53.5
    assert many["std"] == pytest.approx(math.sqrt(0.5))
    assert many["runs"] == [str(tmp_path / name) for name in ("0.json", "2.json")]

    call_main(tool, *arguments, "--at", "configured", "--out", "amount.png")
    numbers = json.loads((tmp_path / "amount.json").read_text())
    assert numbers["at"] == "configured"
    assert [amount["mean"] for amount in numbers["amounts"]] == [47.0, 50.0, 51.5]

    small = ("--images", "in", "--spread", "quartiles", "--base", *runs[:2])
    call_main(tool, *arguments, *small, "--out", "small.png")
    assert is_png(tmp_path / "small.png")
    numbers = json.loads((tmp_path / "small.json").read_text())
    assert numbers["images"] == "in"
    assert numbers["amounts"][2]["quartiles"] == [53.25, 53.5, 53.75]
    assert [amount["miou"] for amount in numbers["base"]] == [[49.0], [53.0]]

    for run, message in (
        ("20", "expected N=PATH"),
        ("-1=0.json", "expected N=PATH"),
        ("3=none.json", "there is no file none.json"),
    ):
        text = call_main(tool, f"--run={run}", "--out", "amount.png", fails=True)
        assert message in text


@pytest.fixture
def clusters(tmp_path: Path) -> Path:
    """Three clusters of plain images; a member's distance is its shade of red."""
    folder = tmp_path / "ood_clusters"
    folder.mkdir()
    rows = [COLUMNS]
    for cluster, distances in enumerate([(60, 20, 40), (200,), (90, 70, 50, 30, 10)]):
        for distance in distances:
            path = tmp_path / f"{cluster}_{distance}.png"
            Image.new("RGB", (CELL, CELL), (distance, 0, 0)).save(path)
            name = "train" if distance > 25 else "boat"
            rows.append(f"{path},{cluster},{distance},{name},0.75")
    (folder / "members.csv").write_text("\n".join(rows) + "\n")
    content = dict(method="kmeans", sizes=[3, 1, 5], names=None)
    (folder / "clusters.json").write_text(json.dumps(content))
    return folder


def shades(path: Path, columns: int, top: int, left: int = 0) -> list[list[int]]:
    """Red in the middle of each cell of a sheet, row by row; 255 is blank."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    step_x, step_y = CELL + 4, CELL + 18 + 4
    rows = (len(pixels) - top - 4) // step_y
    return [
        [
            int(pixels[top + 4 + y * step_y + 80, 4 + (x + left) * step_x + 80, 0])
            for x in range(columns)
        ]
        for y in range(rows)
    ]


def test_ood_clusters(clusters, call_main, tmp_path):
    tool = "analysis_tools/ood_clusters.py"
    call_main(tool, clusters, "--out", "sheets", "--per-cluster", 4, "--columns", 3)
    sheets = tmp_path / "sheets"
    assert sorted(path.name for path in sheets.iterdir()) == [
        *(f"cluster_00{number}.png" for number in range(3)),
        "index.csv",
        "overview.png",
    ]
    # The nearest first, four at most; the last row is filled with white.
    assert shades(sheets / "cluster_000.png", 3, top=30) == [[20, 40, 60]]
    found = shades(sheets / "cluster_002.png", 3, top=30)
    assert found == [[10, 30, 50], [70, 255, 255]]
    assert shades(sheets / "cluster_001.png", 1, top=30) == [[200]]
    # The largest cluster first, behind a cell that tells what it is.
    assert shades(sheets / "overview.png", 6, top=0, left=1) == [
        [10, 30, 50, 70, 90, 255],
        [20, 40, 60, 255, 255, 255],
        [200, 255, 255, 255, 255, 255],
    ]
    index = read_rows(sheets / "index.csv")
    assert [tuple(row.values()) for row in index] == [
        ("2", "5", "train", "0.800", "cluster_002.png"),
        ("0", "3", "train", "0.667", "cluster_000.png"),
        ("1", "1", "train", "1.000", "cluster_001.png"),
    ]

    # Another run leaves no sheet that the index does not name.
    call_main(tool, clusters, "--out", "sheets", "--largest", 1)
    names = [path.name for path in sheets.glob("*.png")]
    assert sorted(names) == ["cluster_002.png", "overview.png"]
    index = read_rows(sheets / "index.csv")
    assert [row["sheet"] for row in index] == ["cluster_002.png", "", ""]


def test_ood_clusters_refusals(clusters, call_main, tmp_path):
    tool = "analysis_tools/ood_clusters.py"

    def refusal(*arguments: object) -> str:
        return call_main(tool, clusters, "--out", "sheets", *arguments, fails=True)

    assert "--columns must be at least 1, got 0" in refusal("--columns", 0)
    image = tmp_path / "0_40.png"
    image.write_bytes(image.read_bytes()[:60])
    assert f"members.csv:4: the image {image} cannot be read" in refusal()
    image.unlink()
    assert f"members.csv:4: the image {image} cannot be read" in refusal()

    members, record = clusters / "members.csv", clusters / "clusters.json"
    rows = members.read_text()
    for wrong, message in (
        (rows.replace("distance", "away"), "members.csv:1: expected the header"),
        (rows + "a.png,3,1,train,0.5\n", "members.csv:11: expected image,cluster"),
        (rows + "a.png,0,near,train,0.5\n", "members.csv:11: expected image,cluster"),
        (rows + "a.png,0,1,train\n", "members.csv:11: expected image,cluster"),
        (rows + "a.png,0,1,train,0.5\n", "sizes [4, 1, 5]"),
    ):
        members.write_text(wrong)
        assert message in refusal()
    for wrong in ("[]", '{"names": null}'):
        record.write_text(wrong)
        assert "clusters.json is no clusters.json" in refusal()
    record.write_text("{")
    assert "clusters.json:1: not JSON" in refusal()
    record.unlink()
    assert "there is no file" in refusal()


def slow_scores(config: Path, checkpoint: Path, paths: list[str]) -> np.ndarray:
    """(N, C) scores, one image at a time, without a data set or a loader.

    Images have a long side of 47 pixels, as those of the data set (their lower median).
    """
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope("mmpretrain")
    model = MODELS.build(Config.fromfile(config).model).eval()
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    model.load_state_dict(state)
    rows = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        sides = [int(side * 47 / max(image.size) + 0.5) for side in image.size]
        picture = np.array(image.resize(sides, Image.Resampling.BICUBIC), np.float32)
        image = torch.from_numpy((picture - 127.5) / 127.5).permute(2, 0, 1)[None]
        with torch.no_grad():
            rows.append(model.head(model.backbone(image))[0].numpy())
    return np.stack(rows)


@pytest.fixture
def classifier(small_config: Path, run_tool, tmp_path: Path) -> Path:
    """One epoch without OoD images."""
    pytest.importorskip("mmpretrain")
    run_tool("train.py", small_config, "--work-dir", "f_in")
    return tmp_path / "f_in/epoch_1.pth"


@pytest.mark.slow
def test_tsne(small_config, wood_config, classifier, run_tool, tmp_path):
    tool = "analysis_tools/tsne.py"
    # One epoch more, with OoD images; its checkpoint has the same name.
    options = (f"load_from={classifier}", "optim_wrapper.optimizer.lr=0.05")
    run_tool("train.py", wood_config, "--work-dir", "wood", "--cfg-options", *options)
    first, second = classifier, tmp_path / "wood/epoch_1.pth"
    (tmp_path / "copy").mkdir()
    copy = shutil.copy(first, tmp_path / "copy/epoch_1.pth")
    options = ("--work-dir", "work", "--cfg-options", "test_dataloader.num_workers=0")
    every = ("--classes", "stripe", "disc", "square", "--perplexity", 3)
    arguments = (tool, wood_config, first, copy, second, *every)
    run_tool(*arguments, "--out", "tsne.png", *options)
    assert is_png(tmp_path / "tsne.png")
    panels = {}
    for row in read_rows(tmp_path / "tsne.csv"):
        panels.setdefault(row["panel"], []).append(row)
    assert list(panels) == ["f_in/epoch_1", "copy/epoch_1", "wood/epoch_1"]

    # The same images in the same order in all panels; 1, 3 and 5 show two of the
    # classes.
    images, *others = (
        [(row["image"], row["class"], row["ood"]) for row in panel]
        for panel in panels.values()
    )
    assert others == [images, images]
    inside = [(Path(path).stem, name) for path, name, ood in images if ood == "0"]
    assert inside == [("image_2", "stripe"), ("image_0", "disc"), ("image_4", "square")]
    outside = {path: name for path, name, ood in images if ood == "1"}
    assert len(outside) == 7
    scores = slow_scores(small_config, first, list(outside))
    classes = ("disc", "square", "stripe")
    assert list(outside.values()) == [classes[c] for c in scores.argmax(axis=1)]

    # Equal features stay where they are, other ones move.
    start, same, moved = (
        np.array([(float(row["x"]), float(row["y"])) for row in panel])
        for panel in panels.values()
    )
    assert start.std() > 1
    assert procrustes(start, same)[2] < 0.01
    assert procrustes(start, moved)[2] > 0.01

    # Of two classes, images that show one of them; no more of each than is asked for.
    some = ("--classes", "disc", "stripe", "--perplexity", 2, "--max-images", 1)
    for name in ("one.png", "two.png"):
        run_tool(tool, wood_config, first, *some, "--out", name, *options)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    rows = read_rows(tmp_path / "one.csv")
    assert {row["panel"] for row in rows} == {"epoch_1"}
    shown = [(row["class"], int(row["image"][-5])) for row in rows if row["ood"] == "0"]
    assert [name for name, _ in shown] == ["disc", "stripe"]
    assert shown[0][1] in (0, 3)
    assert shown[1][1] in (1, 2)
    taken_for = [row["class"] for row in rows if row["ood"] == "1"]
    assert taken_for == [c for c in ("disc", "stripe") if c in outside.values()]


@pytest.mark.slow
def test_tsne_refusals(small_config, wood_config, classifier, run_tool, tmp_path):
    def refusal(config: Path, checkpoint: object, *classes: str) -> str:
        text = run_tool(
            *("analysis_tools/tsne.py", config, checkpoint, "--classes", *classes),
            *("--out", "tsne.png", "--work-dir", "work"),
            *("--cfg-options", "test_dataloader.num_workers=0"),
            "default_hooks.checkpoint_guard=None",
            fails=True,
        )
        assert "Traceback" not in text
        return text

    assert "there is no file none.pth" in refusal(wood_config, "none.pth", "disc")
    assert "no more than 7" in refusal(wood_config, classifier, *map(str, range(8)))
    assert "must be a mmwood.OoDMixDataset" in refusal(small_config, classifier, "disc")
    assert "['train'] are not among ['disc'" in refusal(
        wood_config, classifier, "train"
    )
    text = refusal(wood_config, classifier, "disc", "square")
    assert "--perplexity must be below the number of images" in text
    torch.save(dict(state_dict={"other": torch.zeros(1)}), tmp_path / "other.pth")
    text = refusal(wood_config, "other.pth", "disc")
    assert "the checkpoint other.pth holds no head.classifier.weight" in text
    # One of many weights is missing.
    state = torch.load(classifier, map_location="cpu", weights_only=False)["state_dict"]
    name = next(name for name in state if name.endswith("conv2.weight"))
    del state[name]
    torch.save(dict(state_dict=state), tmp_path / "other.pth")
    text = refusal(wood_config, "other.pth", "disc")
    assert f"the checkpoint other.pth holds no {name}" in text


def one_curve(folder):
    return write_curve(folder / "curve.json", (80.0, 30.0, 20.0), 43.0)


def class_change(folder):
    one = one_curve(folder)
    return ["class_change.py", "--base", one, "--other", one, "--out", "tags.png"]


def ood_amount(folder):
    return ["ood_amount.py", "--run", f"5={one_curve(folder)}", "--out", "tags.png"]


def size_report(folder):
    (folder / "masks").mkdir(exist_ok=True)
    Image.fromarray(np.ones((6, 8), np.uint8)).save(folder / "masks/a.png")
    return ["size_report.py", "data", "masks", "--classes", "cat", "--out", "tags.png"]


def ood_clusters(folder):
    return ["ood_clusters.py", ".", "--out", "."]


def tsne(folder):
    for name in ("config.py", "a.pth"):
        (folder / name).touch()
    return ["tsne.py", "config.py", "a.pth", "--classes", "cat", "--out", "tags.png"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "figure", "beside"),
    [
        (class_change, "tags.png", "tags.json"),
        (ood_amount, "tags.png", "tags.json"),
        (size_report, "tags.png", "tags.json"),
        (ood_clusters, "overview.png", "index.csv"),
        (tsne, "tags.png", "tags.csv"),
    ],
)
def test_figures_and_their_numbers_replace_nothing_of_the_users(
    command, figure, beside, run_tool, tmp_path
):
    tool, *arguments = command(tmp_path)
    for name, fault in (
        (figure, "is there, and mmwood did not draw it"),
        (beside, f"is there, without .*{figure}, whose numbers it would hold"),
    ):
        (tmp_path / name).write_text("the user's own")
        text = run_tool(f"analysis_tools/{tool}", *arguments, fails=True)
        assert "Traceback" not in text
        assert re.search(f"{name} {fault}", text), text
        assert (tmp_path / name).read_text() == "the user's own"
        (tmp_path / name).unlink()
