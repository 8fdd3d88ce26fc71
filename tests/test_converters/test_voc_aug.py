"""A small VOC 2012 and a small SBD, as they are unpacked."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from mmwood.converters.check import check_dataset, voc_aug_entries
from mmwood.converters.voc_aug import VOC_CLASSES, convert_voc_aug, read_sbd
from mmwood.fileio.labels import save_label_png

SIZE = (20, 26)
VOC = dict(train=["a", "b"], val=["c", "d"])
#: SBD knows images of VOC's train (b) and val (c) too.
SBD = dict(train=["f", "b", "c"], val=["e"])


def save_mat(path, key, label, compressed=True):
    """As SBD's files: a struct with a cell array of sparse boundaries."""
    boundaries = np.empty((20, 1), dtype=object)
    for number in range(20):
        boundaries[number, 0] = csc_matrix(label == number + 1, dtype=float)
    present = np.setdiff1d(label, 0)
    struct = dict(Boundaries=boundaries, Segmentation=label, CategoriesPresent=present)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {key: struct}, do_compression=compressed)


def label_of(name, largest):
    rng = np.random.default_rng(ord(name))
    label = np.zeros(SIZE, dtype=np.uint8)
    label[3:9, 4:20] = rng.integers(1, largest + 1)
    label[12:18, 5:15] = rng.integers(1, largest + 1)
    return label


@pytest.fixture
def folders(tmp_path):
    voc, sbd = tmp_path / "VOC2012", tmp_path / "benchmark_RELEASE"
    for root, lists in ((voc / "ImageSets/Segmentation", VOC), (sbd / "dataset", SBD)):
        root.mkdir(parents=True)
        for split, names in lists.items():
            (root / f"{split}.txt").write_text("".join(f"{n}\n" for n in names))
    (voc / "JPEGImages").mkdir()
    (voc / "Annotations").mkdir()
    for name in "abcdef":
        Image.new("RGB", SIZE[::-1]).save(voc / f"JPEGImages/{name}.jpg")
        (voc / f"Annotations/{name}.xml").write_text("<annotation/>")
    for name in "abcd":
        for folder in ("SegmentationClass", "SegmentationObject"):
            label = label_of(name, 20)
            label[0] = 255
            save_label_png(label, voc / f"{folder}/{name}.png")
    for name in "fbce":
        label = label_of(name.upper(), 20)
        save_mat(sbd / f"dataset/cls/{name}.mat", "GTcls", label)
        save_mat(sbd / f"dataset/inst/{name}.mat", "GTinst", label_of(name, 3), False)
    return voc, sbd


def test_masks_and_list(folders):
    voc, sbd = folders
    done = convert_voc_aug(voc, sbd, objects=True)
    assert done == dict(trainaug=4, voc=4, sbd=2, written=13, kept=0, replaced=0)
    path = voc / "ImageSets/Segmentation/trainaug.txt"
    assert path.read_text().split() == ["a", "b", "e", "f"]
    for name in "abcdef":
        with Image.open(voc / f"SegmentationClassAug/{name}.png") as image:
            assert image.mode == "P"
            assert image.getpalette()[3:6] == [128, 0, 0]
            found = np.array(image)
        objects = np.array(Image.open(voc / f"SegmentationObjectAug/{name}.png"))
        expected = label_of(name if name in "abcd" else name.upper(), 20)
        expected_objects = label_of(name, 20 if name in "abcd" else 3)
        if name in "abcd":
            expected[0] = expected_objects[0] = 255
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(objects, expected_objects)

    report = check_dataset(*voc_aug_entries(voc))
    assert not report.errors
    assert report.counts["trainaug"]["masks"] == 4
    # The annotations name no object.
    assert "the tags of 6 images" in report.warnings[0]


def test_classes_are_those_of_the_configs():
    path = Path(__file__).parents[2] / "configs/_base_/datasets/voc_classes.py"
    assert tuple(Config.fromfile(path).classes) == VOC_CLASSES


def test_again_keeps_and_repairs(folders):
    voc, sbd = folders
    convert_voc_aug(voc, sbd / "dataset")
    masks = voc / "SegmentationClassAug"
    before = {path.name: path.stat().st_ino for path in masks.iterdir()}
    whole = (masks / "e.png").read_bytes()
    (masks / "e.png").write_bytes(whole[:60])
    (masks / "f.png").unlink()
    (masks / ".tmp-a-1.png").write_bytes(b"half")
    done = convert_voc_aug(voc, sbd)
    assert (done["written"], done["kept"]) == (2, 5)
    assert (masks / "e.png").read_bytes() == whole
    after = {path.name: path.stat().st_ino for path in masks.iterdir()}
    assert set(after) == set(before)
    assert all(after[f"{name}.png"] == before[f"{name}.png"] for name in "abcd")

    # Somebody's own mask is not overwritten unasked.
    save_label_png(np.ones(SIZE, np.uint8), masks / "a.png")
    with pytest.raises(FileExistsError, match=r"a\.png is there and holds something"):
        convert_voc_aug(voc, sbd)
    assert convert_voc_aug(voc, sbd, overwrite=True)["replaced"] == 1


def test_damaged_mat_files(tmp_path):
    label = label_of("x", 20)
    for compressed in (True, False):
        path = tmp_path / "x.mat"
        save_mat(path, "GTcls", label, compressed)
        np.testing.assert_array_equal(read_sbd(path), label)
        whole = path.read_bytes()
        for length in range(0, len(whole) - 1, len(whole) // 70):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=r"x\.mat"):
                read_sbd(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"x\.mat is damaged, or no MATLAB 5 file"):
        read_sbd(path)
    save_mat(path, "GTinst", label)
    with pytest.raises(ValueError, match="expected a struct GTcls with a field"):
        read_sbd(path)
    savemat(path, dict(GTcls=label))
    with pytest.raises(ValueError, match="expected a struct GTcls with a field"):
        read_sbd(path)
    savemat(path, dict(GTcls=dict(Segmentation=label[None].astype(float))))
    with pytest.raises(ValueError, match=r"must be \(H, W\) uint8, but is float64"):
        read_sbd(path)


def test_refusals(folders):
    voc, sbd = folders
    mat = sbd / "dataset/cls/e.mat"
    save_mat(mat, "GTcls", np.full(SIZE, 21, np.uint8))
    with pytest.raises(ValueError, match=r"val\.txt:1: mask .*e\.mat holds \[21\]"):
        convert_voc_aug(voc, sbd)
    save_mat(mat, "GTcls", np.zeros((26, 20), np.uint8))
    with pytest.raises(ValueError, match=r"e\.mat has \(W, H\) = \(20, 26\), its"):
        convert_voc_aug(voc, sbd)
    mat.unlink()
    with pytest.raises(FileNotFoundError, match=r"dataset/val\.txt:1: .*cls/e\.mat"):
        convert_voc_aug(voc, sbd)
    (voc / "SegmentationClass/b.png").write_bytes(b"")
    save_mat(mat, "GTcls", label_of("e", 20))
    with pytest.raises(ValueError, match=r"b\.png is damaged"):
        convert_voc_aug(voc, sbd)
    (voc / "JPEGImages/f.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"dataset/train\.txt:1: .*f\.jpg"):
        convert_voc_aug(voc, sbd)
    (sbd / "dataset/train.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"there is no file .*dataset/train\.txt"
    ):
        convert_voc_aug(voc, sbd)
    assert not (voc / "ImageSets/Segmentation/trainaug.txt").exists()
