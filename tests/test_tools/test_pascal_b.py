"""The command that builds PASCAL-B, on a drawn LVIS and on a piece of the real COCO."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwood.converters.pascal_b import read_class_table
from mmwood.fileio.candidates import read_manifest
from mmwood.ood.review.decisions import Review

REPOSITORY = Path(__file__).parents[2]
TINY_COCO = Path(
    os.environ.get("TINY_COCO", REPOSITORY.parent / "shared/data/tiny_coco")
)
TOOL = "dataset_converters/pascal_b.py"
SIZE = (120, 160)


@pytest.fixture
def tiny_coco() -> Path:
    """50 images of COCO; tests that need them skip where they are absent."""
    if not TINY_COCO.is_dir():
        pytest.skip(f"tiny_coco is not at {TINY_COCO} (set TINY_COCO to its folder)")
    return TINY_COCO


@pytest.fixture
def lvis_and_coco(tmp_path: Path) -> tuple[Path, Path]:
    """150 images with discs of LVIS's classes, and potted plants of COCO's."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    labels = read_class_table().labels
    paths = tmp_path / "lvis_v1.json", tmp_path / "instances.json"
    for path, (source, shown) in zip(
        paths, (("lvis", [*labels["lvis"], "flowerpot"]), ("coco", ["potted plant"]))
    ):
        names = sorted({*labels[source], *shown})
        ids = {name: number for number, name in enumerate(names, start=1)}
        content = dict(
            categories=[dict(id=n, name=name) for name, n in ids.items()],
            images=[],
            annotations=[],
        )
        for number in range(1, 151):
            name = f"{number:012d}.jpg"
            image = dict(id=number, height=SIZE[0], width=SIZE[1])
            image["coco_url"] = f"http://images.cocodataset.org/val2017/{name}"
            if source == "lvis":
                image["neg_category_ids"] = []
                partial = [ids["person"]] if number <= 20 else []
                image["not_exhaustive_category_ids"] = partial
            content["images"].append(image)
            for _ in range(rng.integers(0, 5)):
                radius = float(np.exp(rng.uniform(1, 4)))
                x = (rng.uniform(0, SIZE[1]) + radius * np.cos(angle)).clip(0, SIZE[1])
                y = (rng.uniform(0, SIZE[0]) + radius * np.sin(angle)).clip(0, SIZE[0])
                polygon = np.stack([x, y], axis=1).ravel().round(2).tolist()
                area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
                content["annotations"].append(
                    dict(
                        image_id=number,
                        category_id=ids[shown[rng.integers(len(shown))]],
                        segmentation=[polygon],
                        area=float(area),
                    )
                )
        path.write_text(json.dumps(content))
    return paths


def table_rows(text: str) -> dict[str, list[str]]:
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def states(manifest: Path) -> Counter:
    return Counter(row.state for _, row in read_manifest(manifest))


@pytest.mark.slow
def test_lvis_with_the_plants_of_coco(lvis_and_coco, run_tool, call, tmp_path, hashes):
    lvis, coco = lvis_and_coco
    arguments = ("built", "--lvis", lvis, "--coco", coco, "--number", 60)
    text = run_tool(TOOL, *arguments)
    root = tmp_path / "built"
    names = (root / "ImageSets/Segmentation/val.txt").read_text().split()
    assert len(names) == 60
    assert min(map(int, names)) > 20
    assert "left out: 20 images: LVIS has not annotated a class exhaustively" in text
    record = json.loads((root / "pascal_b.json").read_text())
    rows = table_rows(text)
    for name, row in record["instances"].items():
        assert list(map(int, rows[name][:3])) == list(row.values())
    assert int(rows["pottedplant"][3]) > 0
    assert rows["all classes"][4] == "60"
    with Image.open(root / "sizes.png") as image:
        assert image.format == "PNG"
    whole = hashes(root)
    call(*arguments)
    assert hashes(root) == whole

    text = call(*arguments, "--seed", 1, fails=True)
    assert "was made with another seed" in text
    text = call("alone", "--lvis", lvis, "--number", 500)
    assert "--number 500 is more than there are" in text
    assert "without --coco there are no potted plants" in text
    assert table_rows(text)["pottedplant"][3] == "0"


@pytest.mark.slow
def test_a_killed_build_is_resumed_to_the_same_bytes(
    lvis_and_coco, call, start_tool, tmp_path, hashes
):
    lvis, coco = lvis_and_coco
    arguments = ("--lvis", lvis, "--coco", coco)
    call("whole", *arguments)
    process = start_tool(TOOL, "killed", *arguments)
    maps = tmp_path / "killed/SegmentationObject"
    deadline = time.monotonic() + 120
    while len(list(maps.glob("0*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = len(list(maps.glob("0*.png")))
    whole = hashes(tmp_path / "whole")
    assert 2 <= found < sum(name.startswith("SegmentationObject") for name in whole)
    manifest = json.loads((tmp_path / "killed/pascal_b.json").read_text())
    assert not manifest["complete"]
    assert not (tmp_path / "killed/ImageSets").exists()
    call("killed", *arguments)
    assert hashes(tmp_path / "killed") == whole


@pytest.mark.slow
def test_a_piece_of_the_real_coco(tiny_coco, call, tmp_path):
    path = tiny_coco / "annotations/instances_val2017.json"
    text = call("built", "--coco", path, "--images", tiny_coco, "--place", "link")
    root = tmp_path / "built"
    names = (root / "ImageSets/Segmentation/val.txt").read_text().split()
    content = json.loads(path.read_text())
    labels = read_class_table().labels["coco"]
    ids = {c["id"] for c in content["categories"] if c["name"] in labels}
    items = [a for a in content["annotations"] if a["category_id"] in ids]
    shown = {f"{a['image_id']:012d}" for a in items if not a["iscrowd"]}
    assert set(names) == shown
    assert f"{len(shown)} images of {len(shown)} that could be chosen" in text
    total = 0
    for name in names:
        maps = []
        for folder in ("SegmentationClass", "SegmentationObject"):
            with Image.open(root / folder / f"{name}.png") as image:
                maps.append(np.array(image))
        assert ((maps[0] == 255) == (maps[1] == 255)).all()
        assert ((maps[0] == 0) == (maps[1] == 0)).all()
        with Image.open(root / f"JPEGImages/{name}.jpg") as image:
            assert image.size == maps[0].shape[::-1]
        total += len(set(np.unique(maps[1]).tolist()) - {0, 255})
    record = json.loads((root / "pascal_b.json").read_text())
    count = sum(not a["iscrowd"] for a in items)
    assert total + record["not_drawn"] == count


@pytest.mark.slow
def test_a_review_of_the_real_coco(tiny_coco, call, run_tool, tmp_path, hashes):
    path = tiny_coco / "annotations/instances_val2017.json"
    arguments = ("b", "--coco", path, "--images", tiny_coco, "--number", 12)
    arguments += ("--review", "review")
    text = call(*arguments)
    manifest = tmp_path / "review/review.csv"
    total = states(manifest)["unseen"]
    assert total >= 12
    assert f"review: review/review.csv: {total} unseen, 0 kept, 0 rejected" in text
    review = Review(manifest)
    for image in review.images:
        with Image.open(tmp_path / image) as picture:
            picture.load()
    wrong = Path(review.images[0]).stem
    same = [n for n, image in enumerate(review.images) if Path(image).stem == wrong]
    review.decide([n for n in range(total) if n not in same], "kept")
    review.decide(same[:1], "rejected")
    review.close()

    again = (*arguments, "--exclude", "review/review.csv")
    assert "was made with another excluded" in call(*again, fails=True)
    text = call(*again, "--force")
    names = (tmp_path / "b/ImageSets/Segmentation/val.txt").read_text().split()
    assert len(names) == 12
    assert wrong not in names
    assert "left out: 1 images: in the exclude list" in text
    found = states(manifest)
    assert found["kept"] == total - len(same)
    assert found["rejected"] == 1
    assert found["unseen"] >= 1

    # The review program takes the rest; then nothing changes any more.
    whole = hashes(tmp_path / "b")
    run_tool("review_ood.py", manifest, "--auto", "--keep-rest")
    assert states(manifest)["unseen"] == 0
    call(*again)
    assert hashes(tmp_path / "b") == whole
    assert states(manifest) == Counter(kept=sum(found.values()) - 1, rejected=1)

    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([*lines[:3], "x,cat,1,1", ""]))
    text = call(*again, fails=True)
    assert f"exclude: {manifest}:4: expected 6 fields, got 4" in text
