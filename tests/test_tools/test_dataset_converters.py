"""The converters' commands: what they print, and how they exit."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mmwood.fileio.labels import save_label_png


@pytest.mark.slow
def test_voc_aug(voc_folder, run_tool, tmp_path):
    sbd = tmp_path / "sbd"
    (sbd / "cls").mkdir(parents=True)
    (sbd / "inst").mkdir()
    lists = voc_folder / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("image_0\nimage_1\n")
    (lists / "val.txt").write_text("image_2\n")
    (sbd / "train.txt").write_text("image_3\nimage_2\n")
    (sbd / "val.txt").write_text("image_4\n")
    objects = voc_folder / "SegmentationObject"
    objects.symlink_to("SegmentationClass")
    for number in (3, 4):
        mask = np.array(Image.open(objects / f"image_{number}.png")) % 255
        for folder, key in (("cls", "GTcls"), ("inst", "GTinst")):
            path = sbd / folder / f"image_{number}.mat"
            savemat(path, {key: dict(Segmentation=mask)})
    command = ("dataset_converters/voc_aug.py", voc_folder)
    text = run_tool(*command, "--sbd", sbd, "--objects", "--check")
    assert "trainaug: 4 images" in text
    assert "3 from VOC, 2 from SBD" in text
    assert "no errors" in text
    assert "11 written, 0 kept" in text
    os.truncate(voc_folder / "SegmentationClassAug/image_3.png", 70)
    text = run_tool(*command, "--check", fails=True)
    assert "trainaug.txt:3: mask damaged" in text
    assert "errors (1)" in text
    (sbd / "cls/image_4.mat").write_bytes(b"none")
    text = run_tool(*command, "--sbd", sbd, fails=True)
    assert "image_4.mat is damaged" in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_coco(voc_folder, run_tool):
    pytest.importorskip("pycocotools")
    path = voc_folder / "instances.json"
    content = dict(
        images=[dict(id=1, file_name="image_0.jpg", height=40, width=48)],
        annotations=[
            dict(id=1, image_id=1, category_id=2, segmentation=[[2, 2, 9, 2, 9, 9]]),
            dict(id=2, image_id=1, category_id=2, segmentation=[]),
        ],
        categories=[dict(id=2, name="disc"), dict(id=1, name="square")],
    )
    path.write_text(json.dumps(content))
    out = voc_folder.parent / "coco"
    (out / "train2014").mkdir(parents=True)
    image = voc_folder / "JPEGImages/image_0.jpg"
    (out / "train2014/image_0.jpg").symlink_to(image)
    command = ("dataset_converters/coco.py", out)
    text = run_tool(*command, "--split", f"train2014={path}", "--check")
    assert "| annotations        |         2 |" in text
    assert "instances.json: annotation id 2" in text
    assert "classes that no image has: square" in text
    (out / "names.txt").write_text("disc\n")
    text = run_tool(
        *(*command, "--split", f"train2014={path}", "--tags-only", "--overwrite"),
        *("--categories", out / "names.txt"),
    )
    # The list and the tables are the same, classes.txt is not.
    assert "3 kept, 1 replaced" in text
    assert (out / "classes.txt").read_text() == "disc\n"
    save_label_png(np.zeros((5, 5), np.uint8), out / "SegmentationClass/image_0.png")
    text = run_tool(*command, "--check", fails=True)
    assert "train2014.txt:1: mask of another size" in text


@pytest.mark.slow
def test_tags(voc_folder, run_tool, tmp_path):
    command = ("dataset_converters/tags.py", voc_folder)
    (tmp_path / "t.csv").write_text("file;tag\nimage_0.jpg;disc\nimage_1.jpg;\n")
    table = ("--table", "t.csv", "--image-column", "file", "--label-column", "tag")
    text = run_tool(*command, *table, "--images", "JPEGImages", "--check")
    assert "| disc  |      1 |" in text
    assert "2 images, 1 of them without a tag" in text
    assert "no errors" in text
    text = run_tool(*command, *table, fails=True)
    assert "t.csv:2: image_0.jpg" in text
    assert "Traceback" not in text
    # A table with more columns, under the name of what is written.
    own = voc_folder / "tags.csv"
    written = own.read_text()
    own.write_text("image,labels,note\nJPEGImages/image_0.jpg,disc,mine\n")
    text = run_tool(*command, "--table", own, "--overwrite", fails=True)
    assert text == (
        f"--table: {own} is the file that --overwrite would replace: rename it first\n"
    )
    assert "mine" in own.read_text()
    own.write_text(written)

    tasks = [
        dict(
            id=7,
            data=dict(image="/data/upload/1/01234567-image_3.jpg"),
            annotations=[
                dict(
                    result=[
                        dict(
                            type="choices",
                            from_name="kind",
                            value=dict(choices=["disc", "square"]),
                        )
                    ]
                )
            ],
        ),
        dict(id=8, data=dict(image="x.jpg"), annotations=[]),
    ]
    (tmp_path / "p.json").write_text(json.dumps(tasks))
    options = ("--label-studio", "p.json", "--images", "JPEGImages")
    (tmp_path / "names.txt").write_text("square\ndisc\n")
    text = run_tool(*command, *options, "--overwrite", "--classes", "names.txt")
    assert "1 tasks have no annotation and are left out" in text
    row = "image,labels\nJPEGImages/image_3.jpg,square;disc\n"
    assert (voc_folder / "tags.csv").read_text() == row

    (tmp_path / "a.xml").write_text(
        '<annotations><image id="0" name="image_2.jpg"><tag label="disc"/></image>'
        "</annotations>"
    )
    options = ("--cvat", "a.xml", "--images", "JPEGImages", "--overwrite")
    os.truncate(voc_folder / "JPEGImages/image_2.jpg", 600)
    text = run_tool(*command, *options, "--check", fails=True)
    assert "tags.csv:2: image damaged" in text


def test_check(voc_folder, run_tool):
    command = ("dataset_converters/check.py", voc_folder, "--list")
    options = ("ImageSets/Segmentation/train.txt", "--masks", "SegmentationClass")
    (voc_folder / "classes.txt").write_text("disc\nsquare\nstripe\n")
    text = run_tool(*command, *options, "--classes", "classes.txt")
    assert "no errors" in text
    text = run_tool(*command, *options, "--classes", "disc", "square", fails=True)
    assert "train.txt:2: mask with other values" in text
