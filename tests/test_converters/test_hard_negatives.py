"""Exports for other trainers, read back by their own readers where there are any."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mmwood.converters.hard_negatives import export_hard_negatives

CLASSES = ("cat", "dog")


@pytest.fixture
def images(tmp_path) -> list[Path]:
    """Two of one name, one that a camera turned, a grey one and one with alpha."""
    rng = np.random.default_rng(0)
    kinds = {"a/x.jpg": "RGB", "b/X.png": "RGB", "turned.jpg": "RGB"}
    kinds |= {"grey.png": "L", "clear.png": "RGBA"}
    paths = []
    for number, (name, mode) in enumerate(kinds.items()):
        shape = (8 + number, 12, *([len(mode)] if len(mode) > 1 else []))
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        exif = Image.Exif()
        if name == "turned.jpg":
            exif[0x0112] = 6
        image.save(path, exif=exif)
        paths.append(path)
    return paths


def names_of(out: Path, images: list[Path]) -> dict[str, Path]:
    """Name -> image, as the export says; in the order of the images."""
    record = json.loads((out / "mmwood.json").read_text())
    assert [Path(path) for path in record["images"].values()] == images
    names = [*record["images"]]
    assert names[2:] == ["ood_turned", "ood_grey", "ood_clear"]
    # One file on Windows, but for the hashes.
    assert names[0].startswith("ood_x_")
    assert names[1].startswith("ood_X_")
    return dict(zip(names, images))


def test_yolo(images, tmp_path):
    out = tmp_path / "it's out"
    done = export_hard_negatives(images, out, "yolo", CLASSES)
    assert done == dict(
        images=5, suffixes={".jpg": 2, ".png": 3}, written=12, kept=0, replaced=0
    )
    names = names_of(out, images)
    lines = (out / "train.txt").read_text().splitlines()
    for line, (name, image) in zip(lines, names.items()):
        path = out / line
        assert line == f"./images/{name}{image.suffix}"
        assert path.read_bytes() == image.read_bytes()
        # As YOLO finds the labels of an image.
        head, _, tail = str(path).rpartition("/images/")
        assert Path(f"{head}/labels/{tail}").with_suffix(".txt").read_bytes() == b""
    assert len(lines) == len(names) == len(list((out / "labels").iterdir()))
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert data == dict(train=["images/train", str(out / "images")])


def test_coco(images, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    export_hard_negatives(images, tmp_path / "out", "coco", CLASSES)
    own = dict(
        images=[dict(id=41, file_name="m.jpg"), dict(id=7, file_name="n.jpg")],
        categories=[dict(id=5, name="dog", supercategory="animal")],
    )
    (tmp_path / "own.json").write_text(json.dumps(own))
    like = tmp_path / "own.json"
    export_hard_negatives(images, tmp_path / "more", "coco", CLASSES, like=like)
    for out, first in ((tmp_path / "out", 1), (tmp_path / "more", 42)):
        read = coco.COCO(out / "annotations.json")
        assert read.getAnnIds() == []
        assert read.getImgIds() == [*range(first, first + 5)]
        for entry, image in zip(read.loadImgs(read.getImgIds()), images):
            path = out / "images" / entry["file_name"]
            assert path.read_bytes() == image.read_bytes()
            width, height = Image.open(image).size
            if image.name == "turned.jpg":
                width, height = height, width
            assert (entry["width"], entry["height"]) == (width, height)
        if first == 42:
            assert read.loadCats(read.getCatIds()) == own["categories"]
        else:
            assert [c["name"] for c in read.loadCats([1, 2])] == [*CLASSES]


@pytest.mark.parametrize(("channels", "ending"), [(3, ".png"), (1, ".tif")])
def test_nnunet(channels, ending, images, tmp_path):
    out, like = tmp_path / "out", None
    labels = dict(background=0, cat=1, dog=2)
    if channels == 1:
        labels = dict(background=0, cell=1)
        like = tmp_path / "dataset.json"
        content = dict(channel_names={"0": "grey"}, labels=labels, file_ending=ending)
        like.write_text(json.dumps(dict(content, numTraining=9)))
    export_hard_negatives(images, out, "nnunet", CLASSES, like=like)
    written = json.loads((out / "dataset.json").read_text())
    assert len(written["channel_names"]) == channels
    assert written["labels"] == labels
    assert (written["numTraining"], written["file_ending"]) == (5, ending)
    for name, image in names_of(out, images).items():
        pixels = np.array(Image.open(out / "imagesTr" / f"{name}_0000{ending}"))
        label = np.array(Image.open(out / "labelsTr" / f"{name}{ending}"))
        assert pixels.ndim == (2 if channels == 1 else 3)
        assert label.shape == pixels.shape[:2]
        assert label.dtype == np.uint8
        assert not label.any()
        with Image.open(image) as original:
            if image.name == "turned.jpg":
                original = original.transpose(Image.Transpose.ROTATE_270)
            mode = "L" if channels == 1 else "RGB"
            assert np.array_equal(pixels, np.array(original.convert(mode)))


@pytest.mark.slow
def test_mmseg(images, tmp_path):
    datasets = pytest.importorskip("mmseg.datasets")
    out = tmp_path / "out"
    export_hard_negatives(images, out, "mmseg", CLASSES)
    names = names_of(out, images)
    found = {}
    for suffix in ("jpg", "png"):
        dataset = datasets.BaseSegDataset(
            data_root=str(out),
            ann_file=f"{suffix}.txt",
            data_prefix=dict(img_path="images", seg_map_path="masks"),
            img_suffix=f".{suffix}",
            metainfo=dict(classes=("background", *CLASSES)),
            pipeline=[
                dict(type="mmseg.LoadImageFromFile"),
                dict(type="mmseg.LoadAnnotations"),
            ],
        )
        for number in range(len(dataset)):
            sample = dataset[number]
            name = Path(sample["img_path"]).stem
            found[name] = sample["img_path"]
            assert sample["gt_seg_map"].shape == sample["img"].shape[:2]
            assert not sample["gt_seg_map"].any()
    assert found == {n: str(out / f"images/{n}{i.suffix}") for n, i in names.items()}


def test_list_and_links(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = [path.relative_to(tmp_path) for path in images]
    export_hard_negatives(relative, Path("list"), "list", CLASSES)
    lines = Path("list/images.txt").read_text().splitlines()
    assert lines == [str(path) for path in images]
    export_hard_negatives(relative, Path("out"), "yolo", CLASSES, link=True)
    found = {os.readlink(path) for path in Path("out/images").iterdir()}
    assert found == {str(image) for image in images}
    done = export_hard_negatives(relative, Path("out"), "yolo", CLASSES, link=True)
    assert (done["written"], done["kept"]) == (0, 12)


def test_nothing_is_overwritten(images, tmp_path, hashes):
    out = tmp_path / "out"
    export_hard_negatives(images, out, "yolo", CLASSES)
    (out / "train.txt").unlink()
    # As if it had been killed.
    done = export_hard_negatives(images, out, "yolo", CLASSES)
    assert (done["written"], done["kept"]) == (1, 11)
    (out / "train.txt").write_text("mine\n")
    before = hashes(out)
    with pytest.raises(FileExistsError, match=r"train\.txt is there and holds"):
        export_hard_negatives(images, out, "yolo", CLASSES)
    for other in (
        dict(images=images[1:], trainer="yolo"),
        dict(images=images, trainer="coco"),
        dict(images=images, trainer="yolo", link=True),
    ):
        with pytest.raises(ValueError, match="holds something else"):
            export_hard_negatives(out=out, classes=CLASSES, **other)
    assert hashes(out) == before


@pytest.mark.parametrize(
    ("trainer", "content", "reason"),
    [
        ("yolo", {}, "--like is for coco and nnunet, not for yolo"),
        ("nnunet", {}, "no dataset.json of nnU-Net: it lacks channel_names, labels"),
        (
            "nnunet",
            dict(channel_names={"0": "CT"}, labels={}, file_ending=".nii.gz"),
            r"is of \.nii\.gz with 1 channels; images become \.png",
        ),
        (
            "nnunet",
            dict(channel_names={"0": "R"}, labels=dict(cell=1), file_ending=".png"),
            "its labels have no background 0",
        ),
        ("coco", {}, "is no COCO annotation"),
        (
            "coco",
            dict(images=[dict(id="a")], categories=[]),
            "not all ids of images are integers",
        ),
    ],
)
def test_wrong_likes(trainer, content, reason, images, tmp_path):
    like = tmp_path / "like.json"
    like.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=reason):
        export_hard_negatives(images, tmp_path / "out", trainer, CLASSES, like=like)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="there is no image"):
        export_hard_negatives([], tmp_path / "out", "list", CLASSES)
