"""Every kind of fault, in a data set that has one of each."""

import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from mmwood.converters.check import (
    ERRORS,
    check_dataset,
    coco_entries,
    list_entries,
    tag_entries,
)
from mmwood.converters.coco import convert_coco
from mmwood.converters.source import TagSource
from mmwood.converters.tags import convert_tags
from mmwood.fileio.labels import save_label_png
from mmwood.fileio.lists import TaggedImage

CLASSES = ("disc", "square", "stripe")


def entries(root, **options):
    return list_entries(
        root / "ImageSets/Segmentation/train.txt",
        root / "JPEGImages",
        masks=root / "SegmentationClass",
        **options,
    )


def test_a_good_data_set(voc_folder):
    report = check_dataset(dict(train=entries(voc_folder)), CLASSES)
    assert (report.errors, report.warnings) == ([], [])
    assert report.counts["train"] == dict(images=6, masks=6)
    assert [count["in masks"] for count in report.classes.values()] == [3, 3, 3]
    assert str(report).endswith("no errors")


def test_each_fault(voc_folder):
    lines = voc_folder / "ImageSets/Segmentation/train.txt"
    images, masks = voc_folder / "JPEGImages", voc_folder / "SegmentationClass"
    lines.write_text(lines.read_text() + "\nimage_0\n")
    (images / "image_1.jpg").unlink()
    os.truncate(images / "image_2.jpg", 700)
    (masks / "image_3.png").unlink()
    os.truncate(masks / "image_4.png", 80)
    mask = np.array(Image.open(masks / "image_5.png"))
    mask[0, 0] = 4
    save_label_png(mask[:, :-1], masks / "image_5.png")
    report = check_dataset(dict(train=entries(voc_folder)), CLASSES)
    assert report.counts["train"] == {
        "images": 7,
        # Those that can be read and hold classes only.
        "masks": 4,
        **{kind: 1 for kind in ERRORS if kind != "unknown class"},
    }
    expected = [
        f"{lines}:2: image missing: ",
        f"{lines}:3: image damaged: ",
        f"{lines}:4: mask missing: ",
        f"{lines}:5: mask damaged: ",
        f"{lines}:6: mask of another size: ",
        f"{lines}:6: mask with other values: ",
        f"{lines}:8: listed twice: as at {lines}:1",
    ]
    assert len(report.errors) == len(expected)
    for error, start in zip(report.errors, expected):
        assert error.startswith(start)
    assert "holds [4]; with 3 classes it may hold 0..3 and 255" in report.errors[5]
    assert "errors (7):" in str(report)


def test_tags_and_masks(voc_folder):
    rows = ["image,labels"]
    # Image 0 shows disc only, image 1 square and stripe.
    rows += ["JPEGImages/image_0.jpg,disc;stripe", "JPEGImages/image_1.jpg,square"]
    rows += ["JPEGImages/image_2.jpg,stripe;moon"]
    (voc_folder / "tags.csv").write_text("\n".join(rows))
    flat = voc_folder / "labels/JPEGImages"
    flat.parent.mkdir()
    flat.symlink_to(voc_folder / "SegmentationClass")
    tagged = tag_entries(voc_folder / "tags.csv", voc_folder, voc_folder / "labels")
    report = check_dataset({"tags": tagged, "again": tagged[:1]}, (*CLASSES, "sun"))
    (error,) = report.errors
    assert error.startswith(f"{voc_folder}/tags.csv:4: unknown class: ['moon']")
    assert report.warnings == [
        "1 images are in tags and in again",
        "the tags of 3 images are not the classes in their masks",
        "classes that no image has: sun",
    ]
    assert report.classes["stripe"] == {
        "tagged": 3,
        "in masks": 2,
        "tag only": 2,
        "mask only": 1,
    }
    assert "images by class" in str(report)


def test_turned_image_and_instance_maps(voc_folder):
    """Pixels are compared as the data set loads them: turned by EXIF."""
    path = voc_folder / "JPEGImages/image_0.jpg"
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(path, exif=exif)
    objects = voc_folder / "SegmentationClass"
    report = check_dataset(dict(train=entries(voc_folder, objects=objects)), CLASSES)
    assert not report.errors
    other = voc_folder / "SegmentationObject"
    report = check_dataset(dict(train=entries(voc_folder, objects=other)), CLASSES)
    assert report.counts["train"]["mask missing"] == 6


def test_lists_that_contradict_each_other(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"classes\.txt"):
        coco_entries(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(FileNotFoundError, match=r"tags_SPLIT\.csv"):
        coco_entries(tmp_path)
    (tmp_path / "tags_a.csv").write_text("image,labels\na/one.jpg,cat\na/two.jpg,\n")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*a\.txt"):
        coco_entries(tmp_path)
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets/a.txt").write_text("one\n")
    with pytest.raises(ValueError, match=r"tags_a\.csv:3: 'two' is not in .*a\.txt"):
        coco_entries(tmp_path)
    (tmp_path / "ImageSets/a.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(ValueError, match=r"a\.txt:3: 'three' is not in .*tags_a\.csv"):
        coco_entries(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        list_entries(tmp_path / "none.txt", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"a\.txt:1: there is no annotation"):
        list_entries(tmp_path / "ImageSets/a.txt", tmp_path, annotations=tmp_path)
    empty = check_dataset({"none.txt": []}, ("cat",))
    assert empty.errors == ["none.txt: lists no image"]


@pytest.mark.parametrize("name", ["/{root}/a", "../voc/JPEGImages/image_0", "C:/a"])
def test_ids_are_those_of_data_sets(name, voc_folder):
    name = name.format(root=voc_folder)
    (voc_folder / "list.txt").write_text(f"image_1\n{name}\n")
    (voc_folder / "tags.csv").write_text(f"image,labels\n{name}.jpg,disc\n")
    with pytest.raises(ValueError, match=r"list\.txt:2: image "):
        list_entries(voc_folder / "list.txt", voc_folder / "JPEGImages")
    with pytest.raises(ValueError, match=r"tags\.csv:2: image "):
        tag_entries(voc_folder / "tags.csv", voc_folder)


def test_names_are_found_as_data_sets_find_them(tmp_path):
    composed, decomposed = (unicodedata.normalize(f, "x/ü") for f in ("NFC", "NFD"))
    (tmp_path / "x").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / f"{decomposed}.jpg")
    for name in (composed, decomposed, decomposed.replace("/", "\\")):
        (tmp_path / "list.txt").write_text(f"{name}\n")
        (tmp_path / "tags.csv").write_text(f"image,labels\n{name}.jpg,disc\n")
        lists = dict(
            list=list_entries(tmp_path / "list.txt", tmp_path),
            tags=tag_entries(tmp_path / "tags.csv", tmp_path),
        )
        assert check_dataset(lists, CLASSES).errors == []


def test_background_is_no_class(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg")
    source = TagSource([TaggedImage("a.jpg", {"disc", "Background"}, "t.csv:2")])
    coco = dict(images=[], annotations=[], categories=[dict(id=1, name="background")])
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    for convert in (
        lambda: check_dataset({}, ["background", "disc"]),
        lambda: convert_tags(tmp_path, source),
        lambda: convert_tags(tmp_path, source, classes=["Background", "disc"]),
        lambda: convert_coco(tmp_path, dict(train=tmp_path / "coco.json")),
    ):
        with pytest.raises(ValueError, match="name the background, which is no class"):
            convert()
    assert not (tmp_path / "tags.csv").exists()
