"""A fake VOC 2012 of some of mini_voc's ids, and what the real set's files say."""

import io
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from PIL import Image

from mmwood.converters.check import check_dataset, mini_voc_entries
from mmwood.converters.mini_voc import build
from mmwood.converters.mini_voc.build import convert_mini_voc, read_split, small_size
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.fileio.lists import read_id_list

TRAIN, VAL = ["2007_000033", "2007_000061"], ["2007_000636"]
#: Sizes (W, H) of the fake originals.
SIZES = {
    "2007_000033": (500, 366),
    "2007_000061": (333, 500),
    "2007_000636": (450, 338),
}


def test_the_split():
    train, val = ([item.image for item in read_split(n)] for n in ("train", "val"))
    assert (len(train), len(val)) == (1149, 150)
    assert len({*train, *val}) == 1299
    assert {*TRAIN} < {*train}
    assert {*VAL} < {*val}


def test_the_longer_side_is_320():
    """Beside fractions, for every size that VOC may have."""
    for size in [(500, side) for side in range(1, 501)] + [(333, 500), (142, 174)]:
        scale = Fraction(320, max(size))
        expected = tuple(max(1, floor(s * scale + Fraction(1, 2))) for s in size)
        assert small_size(size) == expected


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """VOC2012 with three images, for a mini_voc of three images."""
    root, rng = tmp_path / "VOC2012", np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir(parents=True)
    for name, (width, height) in SIZES.items():
        picture = rng.integers(0, 256, (height // 9, width // 9, 3), dtype=np.uint8)
        image = Image.fromarray(picture).resize((width, height))
        path = root / f"JPEGImages/{name}.jpg"
        image.save(path, quality=95, comment=b"a camera")
        mask = np.zeros((height, width), np.uint8)
        mask[20:120, 30:170] = 15
        mask[100:200, 100:140] = 255
        save_label_png(mask, root / f"SegmentationClass/{name}.png")
        save_label_png(
            np.where(mask == 15, 2, mask), root / f"SegmentationObject/{name}.png"
        )
    whole = build.read_split
    chosen = dict(train=TRAIN, val=VAL)
    monkeypatch.setattr(
        build,
        "read_split",
        lambda name: [item for item in whole(name) if item.image in chosen[name]],
    )
    return root


def nearest(label, size):
    """Each pixel takes the one below its centre."""
    (width, height), (rows, columns) = size, label.shape
    y = ((np.arange(height) + 0.5) * rows / height).astype(int)
    x = ((np.arange(width) + 0.5) * columns / width).astype(int)
    return label[y[:, None], x]


def test_images_masks_instances_and_lists(voc, tmp_path):
    out = tmp_path / "data/mini_voc"
    done = convert_mini_voc(voc, out)
    counts = dict(written=11, kept=0, replaced=0)
    assert done == dict(train=2, val=1, objects=True, **counts)
    for split, names in dict(train=TRAIN, val=VAL).items():
        listed = out / f"ImageSets/Segmentation/{split}.txt"
        assert listed.read_text().split() == names
    for name, (width, height) in SIZES.items():
        scale = 320 / max(width, height)
        size = round(width * scale), round(height * scale)
        for folder in ("SegmentationClass", "SegmentationObject"):
            whole = read_label_png(voc / f"{folder}/{name}.png")
            small = read_label_png(out / f"{folder}/{name}.png")
            np.testing.assert_array_equal(small, nearest(whole, size))
        with Image.open(voc / f"JPEGImages/{name}.jpg") as image:
            expected = io.BytesIO()
            image.resize(size, Image.Resampling.BICUBIC).save(
                *(expected, "JPEG"), quality=85, optimize=True, comment=b"a camera"
            )
        found = out / f"JPEGImages/{name}.jpg"
        assert found.read_bytes() == expected.getvalue()
        with Image.open(found) as image:
            assert image.info["comment"] == b"a camera"
    assert not check_dataset(*mini_voc_entries(out)).errors


def test_again_keeps_and_repairs(voc, tmp_path):
    out = tmp_path / "mini_voc"
    convert_mini_voc(voc, out)
    (out / "JPEGImages/2007_000061.jpg").unlink()
    mask = out / "SegmentationClass/2007_000033.png"
    mask.write_bytes(mask.read_bytes()[:60])
    (out / "JPEGImages/.tmp-a-1.jpg").write_bytes(b"half")
    done = convert_mini_voc(voc, out)
    assert (done["written"], done["kept"]) == (2, 9)
    assert len(list((out / "JPEGImages").iterdir())) == 3

    (out / "JPEGImages/2007_000061.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"2007_000061\.jpg is there and holds"):
        convert_mini_voc(voc, out)
    assert convert_mini_voc(voc, out, overwrite=True)["replaced"] == 1
    # VOC's own images are never replaced unasked.
    with pytest.raises(FileExistsError, match="another folder"):
        convert_mini_voc(voc, voc)


def test_without_instances(voc, tmp_path):
    for path in (voc / "SegmentationObject").iterdir():
        path.unlink()
    (voc / "SegmentationObject").rmdir()
    out = tmp_path / "mini_voc"
    assert not convert_mini_voc(voc, out)["objects"]
    assert not (out / "SegmentationObject").exists()
    assert not check_dataset(*mini_voc_entries(out)).errors


def test_what_is_no_voc_2012(voc, tmp_path):
    out = tmp_path / "mini_voc"
    with pytest.raises(FileNotFoundError, match=r"is not VOC2012.* no JPEGImages"):
        convert_mini_voc(tmp_path, out)
    save_label_png(
        np.zeros((5, 5), np.uint8), voc / "SegmentationClass/2007_000061.png"
    )
    with pytest.raises(ValueError, match=r"2007_000061.png has .W, H. = \(5, 5\)"):
        convert_mini_voc(voc, out)
    (voc / "SegmentationObject/2007_000636.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"Object/2007_000636\.png"):
        convert_mini_voc(voc, out)
    (voc / "JPEGImages/2007_000033.jpg").write_bytes(b"no image")
    (voc / "SegmentationObject/2007_000636.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"2007_000033\.jpg: not an image"):
        convert_mini_voc(voc, out)
    (voc / "JPEGImages/2007_000033.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.txt:1: .*2007_000033\.jpg"):
        convert_mini_voc(voc, out)


@pytest.mark.slow
def test_what_the_real_set_says(mini_voc, voc, tmp_path):
    """Lists, lengths and formats are those that the converter makes."""
    out = tmp_path / "made"
    convert_mini_voc(voc, out)
    made = out / "JPEGImages/2007_000033.jpg"
    tables = Image.open(made).quantization, Image.open(made).layer
    for split in ("train", "val"):
        path = mini_voc / f"ImageSets/Segmentation/{split}.txt"
        names = [item.image for item in read_id_list(path)]
        assert names == [item.image for item in read_split(split)]
        for name in names[:: 1 if split == "val" else 10]:
            with Image.open(mini_voc / f"JPEGImages/{name}.jpg") as image:
                assert max(image.size) == 320
                assert (image.quantization, image.layer) == tables
                size = image.size
            path = mini_voc / f"SegmentationClass/{name}.png"
            mask = read_label_png(path)
            assert mask.shape == size[::-1]
            save_label_png(mask, tmp_path / "mask.png", optimize=True)
            assert (tmp_path / "mask.png").read_bytes() == path.read_bytes()
