import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmpretrain")

from mmengine.registry import init_default_scope

from mmwood.datasets import CandidateDataset

PIPELINE = [dict(type="mmwood.LoadImage"), dict(type="PackInputs")]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmpretrain")


def candidates(folder: Path, names: str, pipeline: list, **kwargs) -> CandidateDataset:
    paths = [f"{folder / name}\n" for name in names.split()]
    (folder / "list.txt").write_text("".join(paths), encoding="utf-8")
    return CandidateDataset(str(folder / "list.txt"), pipeline, **kwargs)


def make_image(path: Path) -> None:
    Image.new("RGB", (40, 30), (9, 0, 255)).save(path)


def test_a_list_of_any_names(tmp_path):
    names = "a.png ä/ö.jpg ./c"
    dataset = candidates(tmp_path, names, PIPELINE)
    assert len(dataset) == 3
    for index, name in enumerate(names.split()):
        info = dict(img_path=str(tmp_path / name), sample_idx=index)
        assert dataset.get_data_info(index) == info
    # As programs on Windows write it.
    (tmp_path / "list.txt").write_bytes(b"a.png\r\nb.png\r\n")
    dataset = CandidateDataset(str(tmp_path / "list.txt"), PIPELINE)
    found = [dataset.get_data_info(index)["img_path"] for index in range(2)]
    assert found == ["a.png", "b.png"]
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match=r"ann_file: .*empty\.txt lists no image"):
        CandidateDataset(str(tmp_path / "empty.txt"), PIPELINE)
    with pytest.raises(FileNotFoundError, match=r"ann_file: .*none\.txt"):
        CandidateDataset(str(tmp_path / "none.txt"), PIPELINE)


def test_unreadable_images_have_a_stand_in(tmp_path):
    make_image(tmp_path / "a.png")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.jpg")
    os.truncate(tmp_path / "b.jpg", 1000)
    (tmp_path / "c.png").write_text("no image")
    (tmp_path / "d.png").touch()
    resize = dict(type="Resize", scale=(20, 20), keep_ratio=True)
    pipeline = [PIPELINE[0], resize, PIPELINE[1]]
    names = "a.png b.jpg c.png d.png e.png"
    dataset = candidates(tmp_path, names, pipeline, metainfo=dict(classes=["x"]))
    assert dataset.metainfo["classes"] == ["x"]
    items = [dataset[index] for index in range(5)]
    samples = [item["data_samples"] for item in items]
    assert [sample.candidate for sample in samples] == list(range(5))
    found = [Path(sample.img_path).name for sample in samples]
    assert found == names.split()
    faults = [sample.fault for sample in samples]
    assert faults[0] is None
    assert "truncated" in faults[1]
    assert faults[2] == faults[3] == "not an image that Pillow reads"
    assert faults[4] == "No such file or directory"
    # BGR, as mmcv loads.
    expected = torch.tensor([255, 0, 9], dtype=torch.uint8).view(3, 1, 1)
    assert torch.equal(items[0]["inputs"], expected.expand(3, 15, 20))
    for item in items[1:]:
        assert item["inputs"].shape == (3, 20, 20)
        assert not item["inputs"].any()


def test_a_fault_of_the_pipeline_is_no_fault_of_the_image(tmp_path):
    make_image(tmp_path / "a.png")
    pipeline = [PIPELINE[0], dict(type="Resize", scale=(0, 0)), PIPELINE[1]]
    dataset = candidates(tmp_path, "a.png", pipeline)
    with pytest.raises(Exception, match="resize"):
        dataset[0]


def test_images_of_stores(tmp_path):
    make_image(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "s.tar").write_bytes(bytes(9) + content)
    shard = f"tar:{tmp_path}/s.tar"
    (tmp_path / "list.txt").write_text(
        f"{shard}#9,{len(content)},a.png\n{shard}#9,20,b.png\n{tmp_path}/a.png\n"
    )
    dataset = CandidateDataset(str(tmp_path / "list.txt"), PIPELINE)
    items = [dataset[index] for index in range(3)]
    assert torch.equal(items[0]["inputs"], items[2]["inputs"])
    faults = [item["data_samples"].fault for item in items]
    assert faults[0] is None
    assert faults[2] is None
    assert faults[1] is not None
    assert items[1]["data_samples"].img_path == f"{shard}#9,20,b.png"
    for loading in (
        dict(type="LoadImageFromFile"),
        dict(type="mmwood.LoadImage", color_type="grayscale"),
        dict(type="mmwood.LoadImage", backend_args=dict(backend="local")),
    ):
        with pytest.raises(ValueError, match=r"images of stores, such as tar:.*a\.png"):
            CandidateDataset(str(tmp_path / "list.txt"), [loading, PIPELINE[1]])
