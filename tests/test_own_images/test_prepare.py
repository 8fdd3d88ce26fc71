"""The working copy: one scale, one suffix, upright; masks to the nearest pixel."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmwood.fileio.decoding import Decoding
from mmwood.fileio.images import deep_values
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.own_images.levels import deep_images, find_levels
from mmwood.own_images.prepare import prepare, scaled_size
from mmwood.own_images.source import read_own_images


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def masks(folder: Path, tmp_path: Path) -> Path:
    """True masks of two of the four tagged images."""
    rng = np.random.default_rng(3)
    for name in ("a.png", "walks/c.png"):
        mask = rng.choice([0, 1, 2, 255], (48, 60)).astype(np.uint8)
        save_label_png(mask, tmp_path / "masks" / name)
    return tmp_path / "masks"


def test_scaled_size():
    assert scaled_size((4000, 3000), 320, False) == (320, 240)
    assert scaled_size((3000, 4000), 320, True) == (240, 320)
    assert scaled_size((100, 50), 320, True) == (320, 160)
    assert scaled_size((100, 50), 320, False) == (100, 50)
    assert scaled_size((5000, 1), 320, True) == (320, 1)


def test_copies_are_those_of_pillow(folder, masks, tmp_path, save_image):
    save_image(folder / "b.png", (600, 450), 1)
    before = files(folder)
    own = read_own_images(folder, masks=masks)
    out = tmp_path / "data"
    done = prepare(own, out, 40, workers=2)
    assert done == dict(images=4, ood=2, candidates=0, masks=2, corrected=0, written=6)
    assert files(folder) == before
    for name in ("a.jpg", "b.png", "walks/c.tif", "walks/d.JPG"):
        image = ImageOps.exif_transpose(Image.open(folder / name)).convert("RGB")
        assert max(image.size) > 40
        size = tuple(round(side * 40 / max(image.size)) for side in image.size)
        expected = image.resize(size, Image.Resampling.BICUBIC)
        found = Image.open((out / "images" / name).with_suffix(".png"))
        assert np.array_equal(np.asarray(found), np.asarray(expected))
    # The mask of an image is as the image is seen, not as its file is.
    small = Image.fromarray(read_label_png(masks / "a.png"))
    small = small.resize((40, 32), Image.Resampling.NEAREST)
    assert np.array_equal(read_label_png(out / "masks/a.png"), np.asarray(small))
    assert (read_label_png(out / "masks/b.png") == 255).all()
    text = (out / "tags.csv").read_text()
    assert text == "image,labels\na.png,boat\nb.png,train\nwalks/c.png,boat;train\n" + (
        "walks/d.png,boat\n"
    )
    assert (out / "classes.txt").read_text() == "boat\ntrain\n"
    assert (out / "images.txt").read_text() == "a\nb\nwalks/c\nwalks/d\n"
    assert sorted(path.name for path in (out / "ood").iterdir()) == [
        "empty 1.jpg.png",
        "empty 2.png.png",
    ]


def test_images_keep_their_size_where_none_is_larger(folder, tmp_path, save_image):
    save_image(folder / "b.png", (50, 40), 1)
    save_image(folder / "empty 2.png", (600, 450), 1)
    own = read_own_images(folder)
    prepare(own, tmp_path / "data", 60)
    sizes = {
        path.name: Image.open(path).size for path in (tmp_path / "data").rglob("*.png")
    }
    assert sizes["b.png"] == (50, 40)
    assert sizes["empty 2.png.png"] == (60, 45)


def test_a_copy_that_was_ended_is_finished_to_the_same_bytes(folder, masks, tmp_path):
    own = read_own_images(folder, masks=masks)
    prepare(own, tmp_path / "whole", 40)
    out = tmp_path / "data"
    prepare(own, out, 40)
    (out / "images/b.png").unlink()
    (out / "masks/a.png").unlink()
    (out / "images/.tmp-x").write_text("half")
    os.truncate(out / "images/walks/d.png", 30)
    (out / "tags.csv").unlink()
    assert prepare(own, out, 40)["written"] == 3
    assert files(out) == files(tmp_path / "whole")
    # With other masks the images stay to the byte.
    save_label_png(np.ones((48, 60), np.uint8), masks / "b.png")
    images = files(out / "images")
    again = read_own_images(folder, masks=masks)
    assert prepare(again, out, 40)["written"] == 1
    assert files(out / "images") == images
    assert (read_label_png(out / "masks/b.png") == 1).all()
    # Another size, an image that changed, and one that is gone.
    assert prepare(own, out, 36)["written"] == 6
    own.tagged.pop()
    assert prepare(own, out, 36)["written"] == 0
    assert not (out / "images/walks/d.png").exists()


def test_faults_are_all_named(folder, masks, tmp_path):
    for name in ("a.jpg", "walks/c.tif"):
        os.truncate(folder / name, (folder / name).stat().st_size * 2 // 3)
    save_label_png(np.ones((20, 20), np.uint8), masks / "b.png")
    own = read_own_images(folder, masks=masks)
    with pytest.raises(ValueError, match="3 of 6 images cannot be used") as error:
        prepare(own, tmp_path / "data", 40)
    text = str(error.value)
    assert f"{folder / 'a.jpg'}: " in text
    assert f"{folder / 'walks/c.tif'}: " in text
    assert "the mask has (W, H) = (20, 20), its image" in text


def test_corrected_masks_are_of_the_image_or_of_its_copy(folder, tmp_path):
    rng = np.random.default_rng(4)
    sizes = {"a": (48, 60), "b": (32, 40)}
    for name, size in sizes.items():
        mask = rng.choice([0, 1, 2, 255], size).astype(np.uint8)
        save_label_png(mask, tmp_path / f"corrected/{name}.png")
    save_label_png(mask, tmp_path / "corrected/other.png")
    own = read_own_images(folder, corrected=tmp_path / "corrected")
    assert own.notes[0].startswith("1 masks in --corrected")
    out = tmp_path / "data"
    assert prepare(own, out, 40)["corrected"] == 2
    assert not (out / "masks").exists()
    for name in sizes:
        mask = Image.open(tmp_path / f"corrected/{name}.png")
        small = np.asarray(mask.resize((40, 32), Image.Resampling.NEAREST))
        assert np.array_equal(read_label_png(out / f"corrected/{name}.png"), small)
    assert prepare(own, out, 40)["written"] == 0
    # Without them the copy is as if there had been none.
    prepare(read_own_images(folder), out, 40)
    assert not any(path.is_file() for path in (out / "corrected").rglob("*"))

    # A person may find that an image shows nothing.
    save_label_png(np.zeros((32, 40), np.uint8), tmp_path / "empty/a.png")
    assert prepare(read_own_images(folder, corrected=tmp_path / "empty"), out, 40)
    save_label_png(np.full((32, 40), 255, np.uint8), tmp_path / "empty/a.png")
    own = read_own_images(folder, corrected=tmp_path / "empty")
    with pytest.raises(ValueError, match="--corrected: none of 1 masks shows a class"):
        prepare(own, out, 40)
    save_label_png(np.ones((20, 20), np.uint8), tmp_path / "empty/a.png")
    with pytest.raises(ValueError, match=r"\(20, 20\), .* its copy \(40, 32"):
        prepare(own, out, 40)


@pytest.mark.parametrize(
    ("value", "message"),
    [(7, "holds \\[7\\]; with 2 classes"), (255, "none of 2 masks shows a class")],
)
def test_masks_of_other_values(value, message, folder, masks, tmp_path):
    for path in masks.rglob("*.png"):
        save_label_png(np.full((48, 60), value, np.uint8), path)
    own = read_own_images(folder, masks=masks)
    with pytest.raises(ValueError, match=message):
        prepare(own, tmp_path / "data", 40)


def test_another_folder_stays(folder, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        prepare(read_own_images(folder), tmp_path / "data", 40)
    assert files(tmp_path / "data") == {"mine.txt": b"mine"}


def test_copies_of_sixteen_bits_are_those_of_eight(folder, deepen, tmp_path):
    prepare(read_own_images(folder), tmp_path / "eight", 40)
    deepen(8, 1000)
    own = read_own_images(folder)
    out = tmp_path / "sixteen"
    with pytest.raises(ValueError, match="6 of 6 images cannot be used") as error:
        prepare(own, out, 40)
    assert "--levels 0 4095" in str(error.value)
    done = prepare(own, out, 40, decoding=Decoding((1000, 1000 + 8 * 255)))
    assert done["written"] == 6
    for name in ("images/a", "images/b", "images/walks/c", "images/walks/d"):
        pixels = [
            np.asarray(Image.open(path / f"{name}.png"))
            for path in (tmp_path / "eight", out)
        ]
        assert np.array_equal(*pixels)
    # Other levels make other copies.
    assert prepare(own, out, 40, decoding=Decoding((1000, 3040)))["written"] == 0
    assert prepare(own, out, 40, decoding=Decoding((0, 4095)))["written"] == 6


def test_levels_are_the_outermost_values_but_for_some(folder, deepen, tmp_path):
    deepen(8, 1000)
    images = deep_images(read_own_images(folder))
    assert len(images) == 6
    values = np.sort(np.concatenate([deep_values(path) for path in images]))
    low, high = find_levels(images).levels
    for level, share in ((low, 0.001), (high, 0.999)):
        found = np.searchsorted(values, [level, level + 1]) / len(values)
        # To within a pixel or two of the thousands that are looked at.
        assert found[0] - 0.001 <= share <= found[1] + 0.001
    Image.fromarray(np.full((4, 4), 7, np.uint16)).save(tmp_path / "flat.png")
    assert find_levels([tmp_path / "flat.png"]).levels == (7, 8)
    nothing = np.full((4, 4), np.nan, np.float32)
    Image.fromarray(nothing).save(tmp_path / "none.tif")
    with pytest.raises(ValueError, match=r"none\.tif and others like it hold no"):
        find_levels([tmp_path / "none.tif"])
