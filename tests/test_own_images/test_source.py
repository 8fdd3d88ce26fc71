"""What is read from a folder."""

import json

import numpy as np
import pytest
from PIL import Image

from mmwood.fileio.labels import save_label_png
from mmwood.own_images.source import read_own_images


def test_what_there_is(folder):
    own = read_own_images(folder)
    assert own.classes == ["boat", "train"]
    names = ["a.jpg", "b.png", "walks/c.tif", "walks/d.JPG"]
    assert [item.image for item in own.tagged] == names
    assert own.untagged == ["empty 1.jpg", "empty 2.png"]
    assert own.left_out == 0
    assert read_own_images(folder, untagged="leave-out").left_out == 2


def test_images_that_the_table_does_not_list(folder, save_image):
    save_image(folder / "new.png", (60, 48), 9)
    # Masks and candidates inside the folder are no images of it.
    for name in ("masks/a.png", "candidates/x.png"):
        save_image(folder / name, (60, 48), 9)
    Image.new("L", (60, 48)).save(folder / "masks/a.png")
    others = dict(candidates=folder / "candidates", masks=folder / "masks")
    own = read_own_images(folder, **others)
    assert own.untagged == ["empty 1.jpg", "empty 2.png", "new.png"]
    assert own.candidates == ["x.png"]
    assert own.masks == {"a": folder / "masks/a.png"}
    assert "1 images of the folder are not among the tags: they count" in own.notes[0]
    own = read_own_images(folder, **others, untagged="listed")
    assert own.untagged == ["empty 1.jpg", "empty 2.png"]
    assert own.left_out == 1
    assert "nobody may have looked at them" in own.notes[0]


def test_tags_of_annotation_tools(folder, tmp_path):
    tasks = [
        dict(id=number, data=dict(image=f"/data/upload/1/0123abcd-{name}"))
        | dict(annotations=[dict(result=[result(name) for name in names])])
        for number, (name, names) in enumerate({"a.jpg": ["z"], "b.png": []}.items())
    ]
    export = tmp_path / "export.json"
    export.write_text(json.dumps(tasks))
    own = read_own_images(folder, tags=export)
    assert [item.image for item in own.tagged] == ["a.jpg"]
    # Looked at and found empty; what was not annotated is left out.
    assert own.untagged == ["b.png"]
    assert own.left_out == 4

    table = tmp_path / "export.csv"
    table.write_text("image,choice\na.jpg,z\nb.png,y\n")
    assert read_own_images(folder, tags=table).classes == ["y", "z"]

    label = "<label><name>{}</name><type>tag</type></label>"
    names = "".join(map(label.format, ("train", "boat")))
    image = '<image id="{}" name="{}" width="60" height="48"><tag label="{}"/></image>'
    images = "".join(
        [image.format(0, "a.jpg", "boat"), image.format(1, "b.png", "train")]
    )
    xml = tmp_path / "annotations.xml"
    xml.write_text(
        f"<annotations><meta><labels>{names}</labels></meta>{images}</annotations>"
    )
    # In CVAT's order.
    assert read_own_images(folder, tags=xml).classes == ["train", "boat"]


def result(name: str) -> dict:
    return dict(type="choices", from_name="kind", value=dict(choices=[name]))


def test_order_of_the_classes(folder):
    (folder / "classes.txt").write_text("train\nship\nboat\n")
    own = read_own_images(folder)
    assert own.classes == ["train", "boat"]
    assert own.notes == ["classes without an image, left out: ship"]


@pytest.mark.parametrize("below", ["photos/2024/", ""])
def test_masks_with_and_without_the_folder_of_all_images(below, tmp_path, save_image):
    root, masks = tmp_path / "my_images", tmp_path / "masks"
    names = ("photos/2024/a", "photos/2024/night/b")
    for name in names:
        save_image(root / f"{name}.jpg", (6, 5), 0)
    (root / "tags.csv").write_text(
        f"image,labels\n{names[0]}.jpg,boat\n{names[1]}.jpg,train\n"
    )
    path = masks / below / "night/b.png"
    path.parent.mkdir(parents=True)
    save_label_png(np.ones((5, 6), np.uint8), path)
    assert read_own_images(root, masks=masks).masks == {names[1]: path}
