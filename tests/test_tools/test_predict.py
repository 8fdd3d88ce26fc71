"""tools/predict.py: a folder in, masks out, whatever interrupts it."""

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmseg")
pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmseg.apis import MMSegInferencer
from scipy import ndimage

from mmwood.fileio.labels import read_label_png, voc_palette
from mmwood.visualization.panels import overlay_label

TOOL = "predict.py"
IDS = [f"image_{number}" for number in range(6)]


@pytest.fixture
def images(voc_folder) -> Path:
    return voc_folder / "JPEGImages"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_table(folder: Path) -> list[dict]:
    with (folder / "predictions.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def expected_labels(network: Path, images: Path) -> dict[str, np.ndarray]:
    stock = MMSegInferencer(
        str(network / "config.py"), str(network / "weights.pth"), device="cpu"
    )
    return {
        path.stem: stock(str(path))["predictions"] for path in sorted(images.iterdir())
    }


def test_folder(call, network_folder, images, tmp_path):
    (images / "deep/er").mkdir(parents=True)
    (images / "image_5.jpg").rename(images / "deep/er/image_5.jpg")
    text = call(network_folder, images, "--out", "masks", "--overlays")
    assert "masks: 6 label maps made, 0 were there" in text
    out = tmp_path / "masks"
    ids = ["deep/er/image_5", *IDS[:5]]
    shutil.move(images / "deep/er/image_5.jpg", images)
    shutil.rmtree(images / "deep")
    expected = expected_labels(network_folder, images)
    rows = read_table(out)
    assert [*dict.fromkeys(row["image"] for row in rows)] == [f"{i}.jpg" for i in ids]
    names = ["background", "disc", "square", "stripe"]
    for image_id in ids:
        path = out / f"labels/{image_id}.png"
        label = read_label_png(path)
        np.testing.assert_array_equal(label, expected[Path(image_id).name])
        with Image.open(path) as image:
            assert image.getpalette()[:12] == voc_palette(4).ravel().tolist()
        own = {row["class"]: row for row in rows if row["image"] == f"{image_id}.jpg"}
        assert [*own] == [names[value] for value in np.unique(label)]
        for value in np.unique(label):
            row, mask = own[names[value]], label == value
            assert int(row["pixels"]) == mask.sum()
            assert float(row["share"]) == pytest.approx(mask.mean(), abs=1e-6)
            parts = ndimage.label(mask, np.ones((3, 3)))[1]
            assert row["instances"] == ("" if value == 0 else str(parts))
            assert 0.25 < float(row["confidence"]) <= 1
        picture = np.array(Image.open(images / f"{Path(image_id).name}.jpg"))
        drawn = np.array(Image.open(out / f"overlays/{image_id}.png"))
        np.testing.assert_array_equal(drawn, overlay_label(picture, label))
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["images"] == 6
    assert manifest["classes"] == names
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 6 * 200
    # Nothing is left of what was being written.
    assert not [*out.rglob(".tmp-*")]
    before = contents(out)
    text = call(network_folder, images, "--out", "masks", fails=False)
    assert "6 were there" not in text
    assert contents(out).keys() - before.keys() == {
        "labels/image_5.png",
        "tables/image_5.json",
    }


def test_formats_of_annotation_tools(call, network_folder, images, tmp_path):
    (images / "deep/er").mkdir(parents=True)
    (images / "image_5.jpg").rename(images / "deep/er/image_5.jpg")
    (images / "image_4.jpg").write_bytes(b"none")
    command = (network_folder, images, "--out", "masks")
    text = call(*command, "--format", "png,coco,label-studio,cvat", fails=True)
    assert "for annotation tools: coco.json, label-studio.json" in text
    assert "image_4.jpg cannot be read" in text
    out = tmp_path / "masks"
    coco = json.loads((out / "coco.json").read_text())
    names = ["deep/er/image_5.jpg", *(f"image_{number}.jpg" for number in range(4))]
    assert [image["file_name"] for image in coco["images"]] == names
    classes = ["disc", "square", "stripe"]
    assert [category["name"] for category in coco["categories"]] == classes
    (task, *_) = json.loads((out / "label-studio.json").read_text())
    place = "/data/local-files/?d=JPEGImages/deep/er/image_5.jpg"
    assert task["data"]["image"] == place
    # What a person submits unchanged are the predictions.
    tool = "dataset_converters/masks_from_annotations.py"
    options = ("--images", images, "--classes", out / "classes.txt", "--out", "back")
    call.func(tool, out / "cvat.xml", *options)
    assert contents(tmp_path / "back").keys() == contents(out / "labels").keys()
    for name in contents(out / "labels"):
        label = read_label_png(tmp_path / "back" / name)
        np.testing.assert_array_equal(label, read_label_png(out / "labels" / name))
    # A file that a person changed is seen before anything is predicted.
    (out / "cvat.xml").write_text("<annotations/>")
    text = call(*command, "--format", "cvat", fails=True)
    assert "cvat.xml is there, and not as mmwood wrote it" in text
    # All anew: what was written of the old ones goes.
    (images / "image_4.jpg").unlink()
    call(*command, "--overwrite", "--image-url", "s3://b/", "--format", "label-studio")
    assert not (out / "coco.json").exists()
    assert "s3://b/deep/er/image_5.jpg" in (out / "label-studio.json").read_text()
    call(*command, "--overwrite")
    assert not [*out.glob("label-studio*"), *out.glob("annotations*")]


def test_config_and_checkpoint(call, segmentor_config, segmentor_weights, images):
    weights = ("--checkpoint", segmentor_weights)
    call(segmentor_config, images, *weights, "--out", "masks")
    text = call(segmentor_config, images, *weights, "--out", "masks")
    assert "0 label maps made, 6 were there" in text


def test_lists_and_files(call, network_folder, images, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("voc/JPEGImages/image_3.jpg\n\nvoc/JPEGImages/image_1.jpg\n")
    call(network_folder, listed, "--out", "a")
    assert [*dict.fromkeys(row["image"] for row in read_table(tmp_path / "a"))] == [
        "image_3.jpg",
        "image_1.jpg",
    ]
    files = images / "image_3.jpg", images / "image_1.jpg"
    call(network_folder, *files, "--out", "b")
    assert contents(tmp_path / "a/labels") == contents(tmp_path / "b/labels")


def test_any_kind_of_image(call, network_folder, tmp_path):
    """Mixed suffixes, a camera held upright, 16 bits, grey."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 255, (30, 44, 3), dtype=np.uint8)
    Image.fromarray(colour).save(folder / "a.PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colour).save(folder / "turned.png", exif=exif)
    Image.fromarray(np.rot90(colour, -1).copy()).save(folder / "upright.bmp")
    grey = colour[..., 0]
    Image.fromarray(grey).save(folder / "grey.tif")
    deep = grey.astype(np.uint16) * 256 + 77
    Image.fromarray(deep).save(folder / "deep.tiff")
    call(network_folder, folder, "--out", "masks", "--overlays")
    labels = {
        path.stem: read_label_png(path)
        for path in (tmp_path / "masks/labels").iterdir()
    }
    assert labels["turned"].shape == (44, 30)
    np.testing.assert_array_equal(labels["turned"], labels["upright"])
    np.testing.assert_array_equal(labels["grey"], labels["deep"])
    turned = Image.open(tmp_path / "masks/overlays/turned.png")
    assert turned.size == (30, 44)


def test_sixteen_bits(
    run_tool, call, segmentor_config, segmentor_weights, images, tmp_path
):
    cfg = Config.fromfile(segmentor_config)
    loader = cfg.test_dataloader.dataset.pipeline[0]
    loader.update(type="mmwood.LoadImage", levels=(1000, 1000 + 8 * 255))
    cfg.dump(tmp_path / "deep.py")
    publish = "model_converters/publish_network.py"
    run_tool(publish, "deep.py", segmentor_weights, "--out", "network")
    for path in images.iterdir():
        pixels = cv2.imread(str(path))
        deep = pixels.astype(np.uint16) * 8 + 1000
        for name, values in (("8", pixels), ("16", deep)):
            (tmp_path / name).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / f"{name}/{path.stem}.png"), values)
    labels = []
    for name in ("8", "16"):
        call("network", name, "--out", f"masks_{name}", "--overlays")
        kinds = ("labels", "overlays")
        folders = [tmp_path / f"masks_{name}" / kind for kind in kinds]
        labels.append([contents(folder) for folder in folders])
    assert labels[0] == labels[1]
    # A network that does not know what is white takes no guess.
    text = call(
        *(segmentor_config, "16", "--checkpoint", segmentor_weights),
        *("--out", "refused"),
        fails=True,
    )
    assert "6 of 6 images could not be predicted" in text
    assert "levels of mmwood.LoadImage" in text


@pytest.fixture
def large_images(tmp_path) -> Path:
    """Twelve images that take tiles."""
    folder = tmp_path / "large"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        coarse = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (150 + number, 130), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return folder


@pytest.mark.slow
def test_killed_and_resumed(call, start_tool, network_folder, large_images, tmp_path):
    options = ("--tile", 64, "--overlap", 32, "--overlays")
    call(network_folder, large_images, "--out", "whole", *options)
    arguments = (TOOL, network_folder, large_images, "--out", "killed", *options)
    labels = tmp_path / "killed/labels"
    process = start_tool(*arguments)
    while process.poll() is None and not (labels / "03.png").is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = len([*labels.glob("[0-9]*.png")])
    assert 0 < left < 12
    assert not json.loads((tmp_path / "killed/manifest.json").read_text())["complete"]
    # What is half is made again too.
    first = labels / "00.png"
    first.write_bytes(first.read_bytes()[:100])
    text = call(*arguments[1:])
    assert f"{left - 1} were there" in text
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_write_what_one_does(
    call, network_folder, large_images, tmp_path
):
    options = ("--tile", 64, "--overlap", 32, "--overlays")
    call(network_folder, large_images, "--out", "one", *options)
    call(network_folder, large_images, "--out", "two", *options, "--workers", 2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_damaged_images_are_named_and_the_rest_goes_on(
    call, network_folder, images, tmp_path
):
    good = (images / "image_2.jpg").read_bytes()
    (images / "image_2.jpg").write_bytes(good[: len(good) // 2])
    (images / "image_4.jpg").write_text("a page that says: not found")
    for name, target in (("gone.jpg", "nowhere.jpg"), ("circle.jpg", "circle.jpg")):
        (images / name).symlink_to(target)
    text = call(network_folder, images, "--out", "masks", fails=True)
    assert f"the image {images / 'image_2.jpg'} cannot be read: " in text
    assert f"the image {images / 'image_4.jpg'} cannot be read: not an image" in text
    assert f"the image {images / 'gone.jpg'} cannot be read: No such file" in text
    assert f"the image {images / 'circle.jpg'} cannot be read: Too many" in text
    assert "4 of 8 images could not be predicted" in text
    assert "Traceback" not in text
    out = tmp_path / "masks"
    assert len([*out.glob("labels/*.png")]) == 4
    assert {row["image"] for row in read_table(out)} == {
        f"image_{number}.jpg" for number in (0, 1, 3, 5)
    }
    assert not json.loads((out / "manifest.json").read_text())["complete"]
    # Mended, and another image put in the place of a third.
    (images / "image_2.jpg").write_bytes(good)
    for name in ("image_4.jpg", "gone.jpg", "circle.jpg"):
        (images / name).unlink()
    before = (out / "labels/image_0.png").read_bytes()
    Image.fromarray(np.full((40, 48, 3), 200, np.uint8)).save(images / "image_0.jpg")
    text = call(network_folder, images, "--out", "masks")
    assert "2 label maps made, 3 were there" in text
    assert (out / "labels/image_0.png").read_bytes() != before
    assert json.loads((out / "manifest.json").read_text())["complete"]


def test_another_network_is_refused(call, network_folder, images, tmp_path):
    call(network_folder, images, "--out", "masks", "--overlays")
    before = contents(tmp_path / "masks")
    cfg = Config.fromfile(network_folder / "config.py")
    cfg.dump(tmp_path / "other.py")
    content = torch.load(network_folder / "weights.pth", weights_only=True)
    content["state_dict"]["decode_head.conv_seg.weight"] *= -1
    torch.save(content, tmp_path / "other.pth")
    other = ("other.py", images, "--checkpoint", "other.pth", "--out", "masks")
    text = call(*other, fails=True)
    assert text.startswith("--out: masks was made with another weights_sha256 (")
    assert text.endswith("make all anew with --overwrite\n")
    tiled = call(network_folder, images, "--out", "masks", "--tile", 512, fails=True)
    assert "another tile (1024 instead of 512)" in tiled
    assert contents(tmp_path / "masks") == before
    call(*other, "--overwrite")
    after = contents(tmp_path / "masks")
    assert after["labels/image_0.png"] != before["labels/image_0.png"]
    # Those of the other network are gone.
    assert not [name for name in after if name.startswith("overlays")]


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "{images}"], "NETWORK: there is no folder none; tools/model_conv"),
        (["{config}", "{images}"], "is a config: name its weights too, with --check"),
        (["{weights}", "{images}"], "is no folder of a network: give the folder that"),
        (["empty", "{images}"], "NETWORK: there is no empty/manifest.json; tools/mod"),
        ([".", "{images}"], "NETWORK: . holds the network: name network"),
        (["{images}", "{images}"], "manifest.json; tools/model_converters/publish_n"),
        (
            ["{config}", "{images}", "--checkpoint", "none.pth"],
            "--checkpoint: there is no file none.pth",
        ),
        (
            ["{config}", "{images}", "--checkpoint", "notes.pth"],
            "--checkpoint: notes.pth is no checkpoint: expected a .pth file",
        ),
        (
            ["five.py", "{images}", "--checkpoint", "{weights}"],
            "holds the weights of another network than five.py: decode_head.conv_seg.",
        ),
        (["{net}", "none"], "IMAGES: there is no folder or file none"),
        (["{net}", "empty"], "IMAGES: empty holds no image (.jpg, .jpeg, .png"),
        (["{net}", "notes.csv"], "IMAGES: notes.csv is no image (.jpg, .jpeg"),
        (["{net}", "blank.txt"], "IMAGES: blank.txt names no image"),
        (["{net}", "words.txt"], "words.txt:1: two words"),
        (["{net}", "empty", "{images}"], "IMAGES: empty is a folder beside others: "),
        (["{net}", "twins"], "image 'a' was listed before, as 'a' at twins/a.jpg"),
        (["{net}", "{images}", "--out", "{images}"], "is in the folder of the images"),
        (
            ["{net}", "{images}", "--out", "{images}/masks"],
            "is in the folder of the images",
        ),
        (["{net}", "{images}", "--out", "voc"], "voc holds files but no manifest"),
        (
            ["{net}", "{images}", "--out", "full"],
            "--out: full holds files but no manifest.json, so they are not mmwood's",
        ),
        (["{net}", "{images}", "--out", "notes.csv"], "--out: cannot write to notes"),
        (["{net}", "{images}", "--device", "gpu"], "--device: gpu cannot be used: "),
        (["{net}", "{images}", "--tile", "8"], "--tile must be an integer of at leas"),
        (["{net}", "{images}", "--overlap", "999"], "--overlap must be an integer"),
        (["{net}", "{images}", "--tta", "--tile", "64"], "has no tta_pipeline"),
    ],
)
def test_wrong_input(
    call_main,
    arguments,
    message,
    segmentor_config,
    segmentor_weights,
    network_folder,
    images,
    tmp_path,
):
    (tmp_path / "empty").mkdir()
    put(tmp_path / "full/thesis.doc")
    put(tmp_path / "notes.csv")
    put(tmp_path / "notes.pth")
    put(tmp_path / "blank.txt", "\n \n")
    put(tmp_path / "words.txt", "two words\n")
    put(tmp_path / "twins/a.jpg")
    put(tmp_path / "twins/a.png")
    five = segmentor_config.read_text().replace("num_classes=4", "num_classes=5")
    put(tmp_path / "five.py", five)
    if "--tta" in arguments:
        cfg = (network_folder / "config.py").read_text()
        (network_folder / "config.py").write_text(cfg + "\ntta_pipeline = None\n")
    before = contents(tmp_path)
    names = dict(
        config=segmentor_config,
        weights=segmentor_weights,
        net=network_folder,
        images=images,
    )
    filled = [argument.format(**names) for argument in arguments]
    if "--out" not in filled:
        filled += ["--out", "masks"]
    text = call_main(TOOL, *filled, fails=True)
    # Before it may stand what packages print when they are first imported.
    assert message in "\n".join(text.splitlines()[-1 - ("words" in message) :])
    assert "Traceback" not in text
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes anywhere")
def test_folder_that_is_read_only(call_main, network_folder, images, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    out = ("--out", folder / "masks")
    text = call_main(TOOL, network_folder, images, *out, fails=True)
    assert "cannot write to" in text


def test_publish_network(run_tool, segmentor_config, segmentor_weights, tmp_path):
    (tmp_path / "metrics.json").write_text('{"mIoU": 50.5, "iou/all": NaN}')
    text = run_tool(
        *("model_converters/publish_network.py", segmentor_config, segmentor_weights),
        *(
            "--out",
            "net",
            "--metrics",
            "val=metrics.json",
            "--supervision",
            "image tags",
        ),
    )
    assert text.startswith("net: 4 classes; use it with tools/predict.py net")
    readme = (tmp_path / "net/README.md").read_text()
    assert "| val | mIoU | 50.5 |\n| val | all | - |" in readme
    assert "- Supervision: image tags" in readme
