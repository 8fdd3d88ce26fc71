"""What is read from a folder, and what a person may get wrong."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mmwood.own_images.plan import plan_own_images
from mmwood.own_images.source import read_own_images

CONFIGS = Path(__file__).parents[2] / "configs"


def write_tags(folder: Path, *rows: str) -> None:
    (folder / "tags.csv").write_text("\n".join(["image,labels", *rows]) + "\n")


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


def one_class(folder: Path) -> None:
    write_tags(folder, "a.jpg,boat", "b.png,boat")
    for name in ("walks/c.tif", "walks/d.JPG", "empty 1.jpg", "empty 2.png"):
        (folder / name).unlink()


#: What a person may get wrong: what happens to the folder, options, what is said.
WRONG = {
    "no folder": (None, dict(data="none"), "--data: there is no folder none"),
    "no tags": (
        lambda folder: (folder / "tags.csv").unlink(),
        {},
        "holds no tags.csv: write one with the columns image,labels",
    ),
    "empty file": (
        lambda folder: (folder / "tags.csv").write_text(""),
        {},
        "tags.csv:1: the header must name each of the columns 'image', 'labels'",
    ),
    "header alone": (write_tags, {}, "tags.csv: lists no image"),
    "other columns": (
        lambda folder: (folder / "tags.csv").write_text("file,species\na.jpg,boat\n"),
        {},
        "the header must name each of the columns 'image', 'labels'",
    ),
    "workbook": (
        lambda folder: (folder / "tags.csv").write_bytes(b"PK\3\4"),
        {},
        "is an Excel workbook or an archive, not text",
    ),
    "no tag at all": (
        lambda folder: write_tags(folder, "a.jpg,", "b.png,"),
        {},
        "no image has a tag",
    ),
    "missing images": (
        lambda folder: write_tags(folder, "a.jpg,boat", "x.jpg,train"),
        {},
        "1 of 2 images are not in",
    ),
    "listed twice": (
        lambda folder: write_tags(folder, "a.jpg,boat", "a.jpg,train", "x,train"),
        {},
        "images are not in|was listed before",
    ),
    "one label file": (
        lambda folder: (
            (folder / "a.png").write_bytes((folder / "a.jpg").read_bytes()),
            write_tags(folder, "a.jpg,boat", "a.png,train"),
        ),
        {},
        "image 'a.png' was listed before, as 'a.jpg'",
    ),
    "outside": (
        lambda folder: write_tags(folder, "../a.jpg,boat"),
        {},
        "images are not in",
    ),
    "two names of a class": (
        lambda folder: write_tags(folder, "a.jpg,boat", "b.png,Boat"),
        {},
        "or write the names of the classes into .*classes.txt",
    ),
    "nan": (
        lambda folder: write_tags(folder, "a.jpg,boat", "b.png,nan"),
        {},
        "is what programs write into an empty field",
    ),
    "background": (
        lambda folder: write_tags(folder, "a.jpg,background", "b.png,boat"),
        {},
        "leave it out",
    ),
    "one class alone": (one_class, {}, "all tagged images have the one tag 'boat'"),
    "no such tags": (None, dict(tags="no.csv"), "--tags: there is no file no.csv"),
    "tags of no format": (
        lambda folder: (folder / "export.json").write_text("{}"),
        dict(tags="my_images/export.json"),
        "is not an export of Label Studio",
    ),
    "no candidates": (
        lambda folder: (folder.parent / "empty").mkdir(),
        dict(candidates="empty"),
        "--candidates: empty holds no image",
    ),
    "no folder of candidates": (
        None,
        dict(candidates="none"),
        "--candidates: there is no folder none",
    ),
    "no masks": (None, dict(masks="none"), "--masks: there is no folder none"),
    "masks of others": (
        lambda folder: (folder.parent / "empty").mkdir(),
        dict(masks="empty"),
        "--masks: empty holds no mask of a tagged image, such as empty/a.png",
    ),
    "work dir inside": (
        None,
        dict(work_dir="my_images/work"),
        "--work-dir: .* lies in --data .*my_images, which is only read",
    ),
    "work dir itself": (None, dict(work_dir="my_images"), "--work-dir: .* lies in"),
    "work dir around the copy": (
        lambda folder: folder.rename(folder.parent / "data"),
        dict(data="data", work_dir="."),
        "--data: .* lies where the working copy goes",
    ),
    "backbone": (
        None,
        dict(backbone="vgg"),
        "--backbone: there is no 'vgg'; there are",
    ),
    "damaged image": (
        lambda folder: (folder / "a.jpg").write_bytes(b"no image"),
        {},
        "1 of 4 images cannot be read:\n  image: my_images/a.jpg: not an image",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_and_writes_nothing(name, folder, monkeypatch):
    change, options, message = WRONG[name]
    monkeypatch.chdir(folder.parent)
    if change is not None:
        change(folder)
    before = sorted(folder.parent.rglob("*"))
    paths = {
        key: value if key == "backbone" else Path(value)
        for key, value in options.items()
    }
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        plan_own_images(CONFIGS, **{"data": Path("my_images"), **paths})
    # Faults of several images have a line each.
    assert "Traceback" not in str(error.value)
    assert sorted(folder.parent.rglob("*")) == before
