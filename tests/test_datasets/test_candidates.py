import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmpretrain")

from mmengine.registry import init_default_scope

from mmwood.datasets import CandidateDataset, write_candidate_list

PIPELINE = [dict(type="mmwood.LoadImage"), dict(type="PackInputs")]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmpretrain")


def make_image(path: Path, value: int = 7, size=(40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255)).save(path)
    return path


def names(path: Path) -> list[str]:
    dataset = CandidateDataset(str(path), PIPELINE)
    return [dataset.get_data_info(index)["img_path"] for index in range(len(dataset))]


def test_a_folder_gives_its_images_in_sorted_order(tmp_path):
    folder = tmp_path / "images"
    for name in ("b.png", "a/z.JPG", "a.png", "a/b/ä ö.webp", "a/notes.txt", "B.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    # A folder that is called like an image, and a link that leads in a circle.
    (folder / "c.png").mkdir()
    (folder / "a/loop").symlink_to(folder, target_is_directory=True)
    path = tmp_path / "list.txt"
    assert write_candidate_list(folder, path) == 5
    found = names(path)
    assert found == [
        str(folder / name)
        for name in ("B.tif", "a/b/ä ö.webp", "a/z.JPG", "a.png", "b.png")
    ]
    assert found == [str(p) for p in sorted(map(Path, found))]


def test_a_list_is_relative_to_its_folder_or_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("sub/some.txt").write_bytes(
        "\ufeffx/ä.jpg\r\n\n  \n/abs/b.jpg\nlast.jpg".encode()
    )
    assert write_candidate_list("sub/some.txt", "out.txt") == 3
    assert names(Path("out.txt")) == ["sub/x/ä.jpg", "/abs/b.jpg", "sub/last.jpg"]
    Path("images").mkdir()
    write_candidate_list("sub/some.txt", "out.txt", root="images")
    assert names(Path("out.txt")) == ["images/x/ä.jpg", "/abs/b.jpg", "images/last.jpg"]


def test_what_cannot_be_a_list_of_candidates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty/notes.txt").touch()
    Path("blank.txt").write_text("\n \n")
    Path("twice.txt").write_text("a.jpg\n\nb.jpg\n./a.jpg\n")
    Path("latin.txt").write_bytes("a.jpg\nä.jpg\n".encode("latin-1"))
    make_image(Path("broken/a\nb.png"))
    for arguments, kind, message in (
        (("empty",), ValueError, "the folder empty holds no image"),
        (("blank.txt",), ValueError, "the list blank.txt names no image"),
        (("none",), FileNotFoundError, "no folder or list none"),
        (("twice.txt", "no_root"), FileNotFoundError, "--root: there is no folder"),
        (("empty", "empty"), ValueError, "--root is for lists"),
        (("twice.txt",), ValueError, "twice.txt:4: .*'a.jpg' .* at twice.txt:1"),
        (("latin.txt",), ValueError, "latin.txt:2: the name .* is not UTF-8"),
        (("broken",), ValueError, "has a line break"),
    ):
        source, root = (*arguments, None)[:2]
        with pytest.raises(kind, match=message):
            write_candidate_list(source, "out.txt", root=root)
    assert not list(tmp_path.glob("*out*"))


def test_a_frozen_list_may_not_change(tmp_path):
    make_image(tmp_path / "images/a.png")
    path = tmp_path / "list.txt"
    for _ in range(2):
        assert write_candidate_list(tmp_path / "images", path, frozen=True) == 1
    make_image(tmp_path / "images/b.png")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="other images than"):
        write_candidate_list(tmp_path / "images", path, frozen=True)
    assert path.read_bytes() == before
    assert len(CandidateDataset(str(path), PIPELINE)) == 1
    assert write_candidate_list(tmp_path / "images", path) == 2


def test_unreadable_images_have_a_stand_in(tmp_path):
    folder = tmp_path / "images"
    make_image(folder / "a.png", 9)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "b.jpg")
    os.truncate(folder / "b.jpg", 1000)
    (folder / "c.png").write_text("no image")
    (folder / "d.png").touch()
    make_image(folder / "e.png")
    path = tmp_path / "list.txt"
    write_candidate_list(folder, path)
    (folder / "e.png").unlink()
    resize = dict(type="Resize", scale=(20, 20), keep_ratio=True)
    pipeline = [PIPELINE[0], resize, PIPELINE[1]]
    dataset = CandidateDataset(str(path), pipeline, metainfo=dict(classes=["x"]))
    assert dataset.metainfo["classes"] == ["x"]
    items = [dataset[index] for index in range(5)]
    samples = [item["data_samples"] for item in items]
    assert [sample.candidate for sample in samples] == list(range(5))
    assert [Path(sample.img_path).name for sample in samples] == [
        "a.png",
        "b.jpg",
        "c.png",
        "d.png",
        "e.png",
    ]
    faults = [sample.fault for sample in samples]
    assert faults[0] is None
    assert "truncated" in faults[1]
    assert faults[2] == faults[3] == "not an image"
    assert faults[4] == "No such file or directory"
    # BGR, as mmcv loads.
    expected = torch.tensor([255, 0, 9], dtype=torch.uint8).view(3, 1, 1)
    assert torch.equal(items[0]["inputs"], expected.expand(3, 15, 20))
    for item in items[1:]:
        assert item["inputs"].shape == (3, 20, 20)
        assert not item["inputs"].any()


def test_a_fault_of_the_pipeline_is_no_fault_of_the_image(tmp_path):
    make_image(tmp_path / "images/a.png")
    path = tmp_path / "list.txt"
    write_candidate_list(tmp_path / "images", path)
    pipeline = [PIPELINE[0], dict(type="Resize", scale=(0, 0)), PIPELINE[1]]
    dataset = CandidateDataset(str(path), pipeline)
    with pytest.raises(Exception, match="resize"):
        dataset[0]


def test_list_and_offsets_belong_together(tmp_path):
    make_image(tmp_path / "images/a.png")
    path = tmp_path / "list.txt"
    write_candidate_list(tmp_path / "images", path)
    path.write_text("other.png\n")
    with pytest.raises(ValueError, match="made for another list"):
        CandidateDataset(str(path), PIPELINE)
    path.with_suffix(".npy").unlink()
    with pytest.raises(FileNotFoundError, match="write_candidate_list"):
        CandidateDataset(str(path), PIPELINE)
