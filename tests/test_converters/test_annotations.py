"""Masks to the formats of annotation tools and back: what each tool reads, and faults.

Independent readers: pycocotools, and slow decoders of the other two formats.
"""

import json
import unicodedata
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy import ndimage

from mmwood.converters.annotations import LabelFile, make_labels, write_annotations
from mmwood.converters.regions import read_regions, regions_to_masks
from mmwood.converters.voc_aug import VOC_CLASSES
from mmwood.fileio.files import files_by_id, write_json
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.fileio.run_lengths import encode_brush

TO = "dataset_converters/masks_to_annotations.py"
FROM = "dataset_converters/masks_from_annotations.py"
FORMATS = ("coco", "label-studio", "cvat")
#: Folders, spaces, umlauts and what URLs and XML have other uses for.
NAMES = ("a.jpg", "Ä ö/b 1.png", "x & y/c#%+?'<.png", "x & y/d.jpeg")
ORIENTATION, TURNED = 0x0112, 6


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Images, one turned by its camera, and label maps of two classes and void."""
    images, labels = tmp_path / "my images", tmp_path / "labels"
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if number == 3:
            exif[ORIENTATION] = TURNED
        Image.new("RGB", (31, 20)).save(images / name, exif=exif)
        size = (31, 20) if number == 3 else (20, 31)
        blocks = np.kron(rng.integers(0, 4, (8, 8)), np.ones((4, 4)))
        label = blocks[: size[0], : size[1]].astype(np.uint8)
        label[label == 3] = 255
        # The third shows nothing.
        save_label_png(label * (number != 2), labels / Path(name).with_suffix(".png"))
    return images, labels


def submitted(path: Path) -> Path:
    """What Label Studio exports when predictions are submitted as they are."""
    tasks = json.loads(path.read_text())
    for number, task in enumerate(tasks):
        (prediction,) = task.pop("predictions")
        task |= dict(id=number, annotations=[dict(result=prediction["result"])])
    export = path.with_name("export.json")
    export.write_text(json.dumps(tasks))
    return export


def slow_masks(folder: Path, values: dict[str, int]) -> dict[str, dict]:
    """The label maps in the files of each format, read without mmwood, by image."""
    found: dict[str, dict] = {name: {} for name in FORMATS}
    coco = COCO(str(folder / "coco.json"))
    for entry in coco.dataset["images"]:
        label = np.zeros((entry["height"], entry["width"]), np.uint8)
        for annotation in coco.imgToAnns[entry["id"]]:
            mask = coco.annToMask(annotation).astype(bool)
            assert not label[mask].any()
            name = coco.cats[annotation["category_id"]]["name"]
            assert annotation["area"] == mask.sum()
            (box,) = ndimage.find_objects(mask.astype(int))
            left, top, width, height = annotation["bbox"]
            assert box == np.s_[top : top + height, left : left + width]
            assert ndimage.label(mask, np.ones((3, 3)))[1] == 1 or name == "void"
            label[mask] = values[name]
        found["coco"][entry["file_name"]] = label
    for task in json.loads((folder / "label-studio.json").read_text()):
        address = urlsplit(task["data"]["image"])
        name = parse_qs(address.query)["d"][0].removeprefix("my images/")
        label = None
        for result in task["predictions"][0]["result"]:
            size = result["original_height"], result["original_width"]
            label = np.zeros(size, np.uint8) if label is None else label
            mask = slow_brush(result["value"]["rle"]).reshape(*size, 4)[..., 3] == 255
            assert not label[mask].any()
            label[mask] = values[result["value"]["brushlabels"][0]]
        found["label-studio"][name] = label
    for image in ElementTree.parse(folder / "cvat.xml").getroot().iter("image"):
        label = np.zeros((int(image.get("height")), int(image.get("width"))), np.uint8)
        for mask in image.iter("mask"):
            left, top, width, height = (
                int(mask.get(key)) for key in ("left", "top", "width", "height")
            )
            runs = [int(run) for run in mask.get("rle").split(",")]
            part = label[top : top + height, left : left + width]
            inside = np.repeat(np.arange(len(runs)) % 2, runs).reshape(part.shape) > 0
            assert not part[inside].any()
            part[inside] = values[mask.get("label")]
        found["cvat"][image.get("name")] = label
    return found


def slow_brush(data: list[int]) -> np.ndarray:
    """The values of a brush: it has runs of equal values alone when we write it."""
    bits = "".join(f"{byte:08b}" for byte in data)
    values, lengths, place, left = [], [], 53, int(bits[:32], 2)
    while left > 0:
        assert bits[place] == "1"
        size = (3, 4, 8, 16)[int(bits[place + 1 : place + 3], 2)]
        lengths.append(int(bits[place + 3 : place + 3 + size], 2) + 1)
        values.append(int(bits[place + 3 + size : place + 11 + size], 2))
        place += 11 + size
        left -= lengths[-1]
    return np.repeat(values, lengths)


def files_of(folder: Path, out: Path) -> list[Path]:
    return [out / "coco.json", submitted(out / "label-studio.json"), out / "cvat.xml"]


def test_there_and_back(folders, call_main, tmp_path):
    images, labels = folders
    options = ("--images", images, "--classes", "disc", "a & ä", "--out", "to correct")
    text = call_main(TO, labels, *options, "--format", ",".join(FORMATS))
    assert "4 label maps in" in text
    out = tmp_path / "to correct"
    values = {"disc": 1, "a & ä": 2, "void": 255}
    for name, found in slow_masks(out, values).items():
        assert [*found] == sorted(NAMES), name
        for image, label in found.items():
            # A task without a region says no size.
            if label is not None:
                expected = read_label_png((labels / image).with_suffix(".png"))
                np.testing.assert_array_equal(label, expected)
    config = ElementTree.parse(out / "label-studio.xml").getroot()
    assert [label.get("value") for label in config.iter("Label")] == [*values]
    entries = json.loads((out / "cvat-labels.json").read_text())
    assert [entry["name"] for entry in entries] == [*values]
    for path in files_of(labels, out):
        back = tmp_path / path.stem
        command = (FROM, path, "--images", images, "--out", back)
        text = call_main(*command, "--classes", out / "classes.txt")
        assert "masks of 4 images" in text
        assert "overlap" not in text
        ids = files_by_id(labels)
        assert [*files_by_id(back)] == [*ids]
        for image_id, label in ids.items():
            mask = read_label_png(back / f"{image_id}.png")
            np.testing.assert_array_equal(mask, read_label_png(label))


@pytest.mark.slow
def test_masks_of_real_objects(mini_voc, tmp_path):
    paths = sorted((mini_voc / "SegmentationClass").glob("*.png"))[::26]
    assert len(paths) == 50
    images = [LabelFile(f"{path.stem}.jpg", path) for path in paths]
    labels = make_labels(VOC_CLASSES)
    write_annotations(tmp_path, images, labels, FORMATS, "/data/local-files/?d=")
    values = {label.name: label.value for label in labels}
    expected = {f"{path.stem}.jpg": read_label_png(path) for path in paths}
    assert any(255 in label for label in expected.values())
    for found in slow_masks(tmp_path, values).values():
        assert [*found] == [*expected]
        for name, label in found.items():
            np.testing.assert_array_equal(label, expected[name])
    for path in files_of(tmp_path, tmp_path):
        out = tmp_path / path.stem
        source, folder = read_regions(path), mini_voc / "JPEGImages"
        done = regions_to_masks(source, folder, VOC_CLASSES, out)
        assert (done["written"], done["overlapping"]) == (50, {})
        for name, label in expected.items():
            mask = read_label_png(out / Path(name).with_suffix(".png"))
            np.testing.assert_array_equal(mask, label)


def test_networks_without_a_background_and_with_many_classes(tmp_path):
    label = np.arange(300, dtype=np.uint16).reshape(15, 20)
    save_label_png(label, tmp_path / "a.png")
    images = [LabelFile("a.png", tmp_path / "a.png")]
    labels = make_labels([f"class {number}" for number in range(300)], first=0)
    write_annotations(tmp_path, images, labels, FORMATS, "")
    coco = COCO(str(tmp_path / "coco.json"))
    assert len(coco.anns) == len(coco.cats) == 300
    for annotation in coco.anns.values():
        number = int(coco.cats[annotation["category_id"]]["name"].split()[1])
        assert (coco.annToMask(annotation) == (label == number)).all()
    names = (tmp_path / "classes.txt").read_text().splitlines()
    # 255 is a class: nothing is void.
    assert names == [label.name for label in labels]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """a.png and b/c.png of 10 x 8 pixels."""
    for name in ("a.png", "b/c.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 8)).save(path)
    return tmp_path / "photos"


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((8, 10), bool)
    mask[top:bottom, left:right] = True
    return mask


#: Label and corners of regions, in the order in which they were drawn.
DRAWN = (
    ("disc", (0, 0, 4, 4)),
    ("square", (2, 2, 8, 8)),
    ("void", (3, 3, 4, 4)),
    ("background", (6, 6, 8, 8)),
)


def coco(regions, **changes) -> str:
    names = [*dict.fromkeys(name for name, _ in regions)]
    annotations = [
        dict(id=n, image_id=1, category_id=names.index(name), iscrowd=n % 2)
        | dict(segmentation=[[x0, y0, x1, y0, x1, y1, x0, y1]])
        for n, (name, (x0, y0, x1, y1)) in enumerate(regions)
    ]
    image = dict(id=1, file_name="b/c.png", width=10, height=8) | changes
    categories = [dict(id=n, name=name) for n, name in enumerate(names)]
    return json.dumps(
        dict(images=[image], annotations=annotations, categories=categories)
    )


def studio(regions, brush=False, **changes) -> str:
    results = []
    for name, (x0, y0, x1, y1) in regions:
        kind = "brushlabels" if brush else "polygonlabels"
        corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
        value = {kind: [name], "points": [[10 * x, 12.5 * y] for x, y in corners]}
        if brush:
            value["rle"] = encode_brush(rectangle(x0, y0, x1, y1))
        result = dict(id="r", type=kind, original_width=10, original_height=8)
        results.append(result | dict(value=value) | changes)
    results.append(dict(type="rectanglelabels", value={}))
    old = dict(updated_at="2024-01-01T00:00:00Z", result=[])
    new = dict(updated_at="2024-02-01T00:00:00Z", result=results)
    tasks = [
        dict(id=7, data=dict(image="/data/upload/1/b/c.png"), annotations=[new, old]),
        dict(id=8, data=dict(image="a.png"), annotations=[]),
    ]
    return json.dumps(tasks)


def cvat(regions, layers=(0, 0, 0, 0), name="b/c.png", width=10) -> str:
    shapes = "".join(
        f'<polygon label="{label}" z_order="{layer}" '
        f'points="{x0},{y0};{x1},{y0};{x1},{y1};{x0},{y1}"/>'
        for layer, (label, (x0, y0, x1, y1)) in zip(layers, regions)
    )
    return (
        f'<annotations><image id="3" name="{name}" width="{width}" height="8">'
        f"{shapes}<box/></image></annotations>"
    )


@pytest.mark.parametrize(
    ("file", "content", "order"),
    [
        # The smaller one is seen.
        ("a.json", coco(DRAWN), (1, 0, 3, 2)),
        ("a.json", studio(DRAWN), (0, 1, 2, 3)),
        ("a.json", studio(DRAWN, brush=True), (0, 1, 2, 3)),
        ("a.xml", cvat(DRAWN), (0, 1, 2, 3)),
        ("a.xml", cvat(DRAWN, layers=(2, 0, 1, 0)), (1, 3, 2, 0)),
    ],
)
def test_what_covers_what(file, content, order, photos, call_main, tmp_path):
    (tmp_path / file).write_text(content)
    options = ("--images", photos, "--classes", "disc", "square", "--out", "masks")
    text = call_main(FROM, file, *options)
    values = dict(background=0, disc=1, square=2, void=255)
    expected = np.zeros((8, 10), np.uint8)
    for number in order:
        name, corners = DRAWN[number]
        expected[rectangle(*corners)] = values[name]
    assert [*files_by_id(tmp_path / "masks")] == ["b/c"]
    np.testing.assert_array_equal(read_label_png(tmp_path / "masks/b/c.png"), expected)
    # 2 x 2 of disc and square, void among them; 2 x 2 of square and background.
    assert "b/c.png: 8 pixels" in text
    if "rectanglelabels" in content:
        assert "1 tasks have no annotation" in text
        assert "1 tasks have several annotations: the one that was changed last" in text
        assert "1 results of the type 'rectanglelabels' are left out" in text
    if file == "a.xml":
        assert "1 <box> elements are left out" in text


BOX = (0, 0, 3, 3)
WRONG = dict(original_width=12)


@pytest.mark.parametrize(
    ("file", "content", "lines"),
    [
        ("a.json", coco([("Disc", BOX)]), ["unknown class ['Disc']", "mean 'disc'?"]),
        ("a.json", studio([("x", BOX)] * 3), ["task 7: region 'r' (and 2 more) has"]),
        ("a.xml", cvat([("x", BOX)]), ["image id 3: <polygon> [0]", "['x']"]),
        ("a.json", coco([("disc", BOX)], width=9), ["images[0] (id 1): says (H, W)"]),
        ("a.json", studio([("disc", BOX)], **WRONG), ["task 7: says (H, W) = (8, 12)"]),
        ("a.xml", cvat([("disc", BOX)], width=9), ["image id 3: says (H, W) = (8, 9)"]),
        (
            "a.json",
            coco([("x", BOX)], file_name="A.jpg"),
            ["2 faults", "['x']", "there is no image A.jpg (there is a.png)"],
        ),
        (
            "a.json",
            studio([("disc", BOX)], image_rotation=90),
            ["task 7: region 'r': the image was turned by 90 degrees"],
        ),
        (
            "a.json",
            studio([("disc", BOX)], value=dict(polygonlabels=["disc", "x"])),
            ["region 'r': needs one label, it has ['disc', 'x']"],
        ),
        (
            "a.json",
            studio([("disc", BOX)], True, value=dict(rle=[1], brushlabels=["disc"])),
            ["1 regions cannot be drawn", "task 7: region 'r': its rle is cut off"],
        ),
        ("a.xml", cvat([("", BOX)]), ["<polygon> [0]: has no label"]),
        ("a.xml", cvat([]).replace('"8"', '"x"'), ["height, width must be whole"]),
        ("a.json", "[]", ["no image is annotated"]),
        ("a.json", '[{"data": []}]', ["task [0]: its data has no 'image'"]),
        (
            "a.json",
            '[{"data": {"url": "a.png"}, "annotations": [{"result": [1]}]}]',
            ["task [0]: its result is 1, no JSON object"],
        ),
        ("a.json", '{"images": []}', ["is no COCO annotation"]),
        ("a.zip", "PK", ["an archive must be unpacked"]),
        ("a.json", None, ["there is no file a.json"]),
    ],
)
def test_faults_are_named(file, content, lines, photos, call_main, tmp_path):
    if content is not None:
        (tmp_path / file).write_text(content)
    options = ("--images", photos, "--classes", "disc", "square", "--out", "masks")
    text = call_main(FROM, file, *options, fails=True)
    for line in lines:
        assert line in text
    assert not files_by_id(tmp_path / "masks")


def test_masks_are_not_written_over_nor_beside_images(photos, call_main, tmp_path):
    (tmp_path / "a.xml").write_text(cvat([("disc", BOX)]))
    options = ("--images", photos, "--classes", "disc", "--out")
    assert "masks would" in call_main(FROM, "a.xml", *options, photos / "m", fails=True)
    save_label_png(np.ones((8, 10), np.uint8), tmp_path / "masks/b/c.png")
    text = call_main(FROM, "a.xml", *options, "masks", fails=True)
    assert "c.png is there and holds something else" in text
    call_main(FROM, "a.xml", *options, "masks", "--overwrite")
    assert read_label_png(tmp_path / "masks/b/c.png").sum() == 9


def test_what_a_person_changed_stays(folders, call_main, tmp_path, hashes):
    images, labels = folders
    command = [TO, labels, "--images", images, "--classes", "x", "y", "--out", "out"]
    command += ["--format", "coco,cvat"]
    call_main(*command)
    before = hashes(tmp_path / "out")
    call_main(*command)
    assert hashes(tmp_path / "out") == before
    path = tmp_path / "out/coco.json"
    path.write_text(path.read_text() + "\n")
    text = call_main(*command, fails=True)
    assert "coco.json is there, and not as mmwood wrote it" in text
    call_main(*command, "--overwrite")
    assert hashes(tmp_path / "out") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other/annotations.json").write_text("{}")
    text = call_main(*command[:-4], "--out", "other", "--format", "cvat", fails=True)
    assert "mmwood did not write it" in text


def test_masks_that_cannot_be_written(folders, call_main, tmp_path):
    images, labels = folders
    to = ("--images", images, "--format", "cvat", "--out", "out")
    text = call_main(TO, labels, *to, fails=True)
    assert "--classes: " in text
    text = call_main(TO, labels, *to, "--classes", "x", fails=True)
    assert "a.png holds [2]; with these classes it may hold 0..1 and 255" in text
    text = call_main(TO, labels, *to, "--classes", "x", "void", fails=True)
    assert "'void' is what pixels without a label" in text
    (images / "a.jpg").unlink()
    Image.new("RGB", (5, 5)).save(images / NAMES[1])
    Image.new("RGB", (5, 5)).save(images / f"{NAMES[3]}.jpg".replace(".jpeg", ""))
    text = call_main(TO, labels, *to, "--classes", "x", "y", fails=True)
    assert "3 of 4 label maps are not those of these classes" in text
    assert "a.png: has no image" in text
    assert "b 1.png has (W, H) = (31, 20)" in text
    assert "d.png: may be of any of" in text
    assert not (tmp_path / "out").exists()


def test_folders_of_mmwood_say_their_classes(folders, call_main, tmp_path):
    images, labels = folders
    made = tmp_path / "pseudo"
    made.mkdir()
    labels.rename(made / "labels")
    manifest = dict(format="mmwood pseudo labels 1", classes=["x", "y"])
    write_json(made / "manifest.json", manifest)
    # A name as macOS writes it.
    decomposed = unicodedata.normalize("NFD", NAMES[1])
    (images / decomposed).parent.mkdir()
    (images / NAMES[1]).rename(images / decomposed)
    Image.new("RGB", (5, 5)).save(images / "new.png")
    to = ("--images", images, "--format", "coco", "--out", "out")
    for folder in (made, made / "labels"):
        text = call_main(TO, folder, *to)
        assert "1 images in" in text
        names = COCO(str(tmp_path / "out/coco.json")).dataset["categories"]
        assert [entry["name"] for entry in names] == ["x", "y", "void"]
    text = call_main(TO, made, *to, "--classes", "y", "x", fails=True)
    assert "are not those of" in text
    write_json(made / "manifest.json", dict(format="mmwood affinity labels 1"))
    assert "not of label maps" in call_main(TO, made, *to, fails=True)
