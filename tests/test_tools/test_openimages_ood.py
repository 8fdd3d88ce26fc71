"""From the official files to a mined manifest, by the real commands."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.slow

HEADER = "ImageID,Source,LabelName,Confidence\n"
TREE = {
    "LabelName": "/m/0bl9f",
    "Subcategory": [
        {"LabelName": "/m/01x3z", "Subcategory": [{"LabelName": "/m/0h8mzrc"}]}
    ],
}
TOOL = "dataset_converters/openimages_ood.py"
OPTIONS = (
    *("--classes", "mine.csv", "--descriptions", "classes.csv"),
    *("--hierarchy", "tree.json", "--labels", "human.csv", "machine.csv"),
    *("--out", "lists/candidates.txt", "--images", "jpg"),
    *("--image-ids", "urls.csv", "--download", "lists/left.csv"),
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Six images: 0 and 1 show a clock, 2 to 5 do not; 4 and 5 are not there yet."""
    ids = [f"{number:016x}" for number in range(6)]
    (tmp_path / "classes.csv").write_text(
        "/m/01x3z,Clock\n/m/0h8mzrc,Wall clock\n/m/07j7r,Tree\n"
    )
    (tmp_path / "tree.json").write_text(json.dumps(TREE))
    (tmp_path / "mine.csv").write_text("class,name\ndisc,Clock\n")
    (tmp_path / "human.csv").write_text(
        f"{HEADER}{ids[0]},verification,/m/0h8mzrc,1\n"
        f"{ids[2]},verification,/m/01x3z,0\n"
    )
    (tmp_path / "machine.csv").write_text(
        HEADER
        + "".join(f"{image},machine,/m/07j7r,0.9\n" for image in ids)
        + f"{ids[1]},machine,/m/01x3z,0.8\n{ids[2]},machine,/m/01x3z,0.8\n"
    )
    urls = "ImageID,Subset,OriginalURL,Author,Thumbnail300KURL,Rotation\n"
    urls += "".join(f'{i},train,https://x/{i}_o.jpg,"A, B",,\n' for i in ids)
    (tmp_path / "urls.csv").write_text(urls)
    (tmp_path / "jpg").mkdir()
    rng = np.random.default_rng(0)
    for image in ids[:4]:
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"jpg/{image}.jpg")
    return tmp_path


def left(folder: Path) -> list[str]:
    with (folder / "lists/left.csv").open(newline="") as file:
        return [row["ImageID"] for row in csv.DictReader(file)]


def test_lists_what_is_left_and_refuses(files, run_tool):
    text = run_tool(TOOL, *OPTIONS)
    assert "wrote lists/candidates.txt and lists/candidates.json" in text
    assert (files / "lists/candidates.txt").read_text() == "".join(
        f"../jpg/{number:016x}.jpg\n" for number in range(2, 6)
    )
    assert left(files) == [f"{number:016x}" for number in (4, 5)]
    summary = json.loads((files / "lists/candidates.json").read_text())
    assert summary["per_class"] == [dict(name="disc", images=2, alone=2)]
    assert summary["denied"] == 1
    # One more was downloaded.
    (files / f"jpg/{4:016x}.jpg").write_bytes(b"x")
    run_tool(TOOL, *OPTIONS)
    assert left(files) == [f"{5:016x}"]

    before = (files / "lists/candidates.txt").read_bytes()
    (files / "mine.csv").write_text("class,name\ndisc,Clocks\n")
    text = run_tool(TOOL, *OPTIONS, fails=True)
    assert text == "mine.csv:2: classes.csv has no class named 'Clocks'\n"
    text = run_tool(TOOL, *OPTIONS, "--classes", "voc", fails=True)
    assert "openimages/voc.csv:2: classes.csv does not have the label" in text
    assert (files / "lists/candidates.txt").read_bytes() == before


def test_list_is_what_mining_reads(files, small_config, run_tool):
    pytest.importorskip("mmpretrain")
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    run_tool(TOOL, *OPTIONS)
    init_default_scope("mmpretrain")
    model = MODELS.build(Config.fromfile(small_config).model)
    meta = dict(dataset_meta=dict(classes=("disc", "square", "stripe")))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), files / "model.pth")
    text = run_tool(
        *("mine_ood.py", small_config, "model.pth", "--work-dir", "mined"),
        *("--candidates", "lists/candidates.txt", "--out", "ood.csv"),
        *("--threshold", "0", "--num-workers", "0"),
    )
    assert "2 images cannot be read" in text
    with (files / "ood.csv").open(newline="") as file:
        mined = {(files / row["image"]).resolve() for row in csv.DictReader(file)}
    assert mined == {(files / f"jpg/{number:016x}.jpg").resolve() for number in (2, 3)}
