"""Photographs: which are found, how deep ones become 8 bits, and what is refused."""

import os
from functools import partial

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image

from mmwood.datasets import ImageLevelDataset, OoDDataset
from mmwood.datasets.transforms import LoadImage
from mmwood.fileio.decoding import Decoding
from mmwood.fileio.images import (
    deep_values,
    image_size,
    is_deep,
    list_folder,
    open_upright,
    read_picture,
    read_rgb,
    save_picture,
)
from mmwood.ood.auto import image_hash
from mmwood.ood.candidates import write_candidate_list
from mmwood.ood.review.pictures import Cache, PictureError, Pictures
from mmwood.pipeline.hashes import tree

RAMP = np.linspace(0, 65535, 60 * 80).reshape(60, 80)
COLOURS = np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]])


def save(values, path):
    """Values (H, W) or RGB(A), of any depth."""
    if values.ndim == 2:
        Image.fromarray(values).save(path)
    else:
        codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
        assert cv2.imwrite(str(path), cv2.cvtColor(values, codes[values.shape[2]]))


def by_dataset(path, check="decode"):
    (path.parent / "tags.csv").write_text(f"image,labels\n{path.name},cat\n")
    ImageLevelDataset(
        ann_file="tags.csv",
        classes=["cat"],
        data_root=str(path.parent),
        check=check,
        serialize_data=False,
    )


by_header = partial(by_dataset, check="header")


def by_loader(path):
    return LoadImage()(dict(img_path=str(path)))["img"][..., ::-1]


def by_review(path):
    content = Pictures([str(path)], Cache(path.parent / "cache", 10**6)).small(0)
    (path.parent / "small.jpg").write_bytes(content)
    return read_rgb(path.parent / "small.jpg")


READERS = [read_rgb, read_picture, by_loader, by_review]
CHECKS = [by_dataset, by_header, image_hash]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_alike(name, tmp_path):
    Image.fromarray(RAMP.astype(np.uint16)).save(tmp_path / name)
    # As MMSegmentation's loader, which reads by OpenCV.
    expected = mmcv.imread(str(tmp_path / name), channel_order="rgb")
    for read in READERS:
        found = read(tmp_path / name)
        assert found.dtype == np.uint8
        tolerance = 6 if read is by_review else 0
        np.testing.assert_allclose(found.astype(int), expected, atol=tolerance)
    for check in CHECKS:
        check(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("float.tif", (RAMP / 65535).astype(np.float32), "holds floats"),
        ("int.tif", RAMP.astype(np.int32), "holds integers of 32 bits"),
        ("twelve.png", (RAMP / 16).astype(np.uint16), "no value above 4095"),
        ("twelve.tif", (RAMP / 16).astype(np.uint16), "no value above 4095"),
        ("twelve_rgb.png", (COLOURS / 16).astype(np.uint16), "no value above 4095"),
        ("twelve_rgb.tif", (COLOURS / 16).astype(np.uint16), "no value above 4095"),
    ],
)
def test_nothing_becomes_white_or_black(name, values, reason, tmp_path):
    save(values, tmp_path / name)
    # A header does not tell how large the values are.
    checks = [check for check in CHECKS if "twelve" not in name or check != by_header]
    for read in (*READERS, *checks):
        with pytest.raises((ValueError, PictureError)) as error:
            read(tmp_path / name)
        if read not in (by_review, image_hash):
            assert reason in str(error.value)
        if read not in (read_rgb, by_review, image_hash):
            assert name in str(error.value)


ALPHA = np.full((60, 80, 1), 65535)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.uint16(RAMP // 256 * 8 + 1000), (1000, 3040)),
        (np.uint16(COLOURS // 256 * 8 + 1000), (1000, 3040)),
        (np.uint16(np.dstack([COLOURS // 256 * 8 + 1000, ALPHA])), (1000, 3040)),
        (np.int32(RAMP // 256 * 8 - 1000), (-1000, 1040)),
        (np.float32(RAMP // 256 / 255), (0, 1)),
        (np.uint8(RAMP // 256), (1000, 3040)),
    ],
    ids=["grey", "colours", "alpha", "integers", "floats", "8 bits"],
)
def test_levels_are_black_and_white(values, levels, tmp_path):
    in_png = values.dtype in (np.uint8, np.uint16)
    grey = values.ndim == 2
    expected = (np.dstack([RAMP] * 3) if grey else COLOURS) // 256
    loader = LoadImage(levels=levels)
    for name in ("a.tif", "a.png")[: 1 + in_png]:
        save(values, path := tmp_path / name)
        for found in (
            read_rgb(path, Decoding(levels)),
            read_picture(path, Decoding(levels)),
            loader(dict(img_path=str(path)))["img"][..., ::-1],
        ):
            assert np.array_equal(found, expected)
        assert is_deep(path) == (values.dtype != np.uint8)
        colours = values if grey else values[..., :3]
        np.testing.assert_array_equal(deep_values(path), colours.ravel())


def test_beyond_the_levels_and_no_number(tmp_path):
    values = np.float32([[-1, 0, 0.5], [1, 2, np.nan]])
    save(values, tmp_path / "a.tif")
    found = read_rgb(tmp_path / "a.tif", Decoding((0, 1)))[..., 0]
    assert found.tolist() == [[0, 0, 128], [255, 255, 0]]


@pytest.mark.parametrize("levels", [(1, 1), (3, 2), (1, 2, 3), (0, np.inf), ()])
def test_levels_that_are_none(levels):
    with pytest.raises(
        ValueError, match=r"levels: the values that are black and white"
    ):
        LoadImage(levels=levels)
    with pytest.raises(ValueError, match="levels and bands need"):
        LoadImage(levels=(0, 1), imdecode_backend="cv2")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "1"])
def test_eight_bits_are_read_as_mmcv_reads_them(mode, tmp_path):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.convert(mode).save(path)
    content = path.read_bytes()
    expected = mmcv.imfrombytes(content, backend="pillow", channel_order="rgb")
    for read in (read_rgb, read_picture, by_loader):
        np.testing.assert_array_equal(read(path), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "grey.tif", "deep.tif"])
def test_cameras_turn_images(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = dict(grey=RAMP // 256, deep=RAMP).get(kind.partition(".")[0])
    if values is None:
        values = COLOURS // 256
    kept = np.uint16 if kind == "deep.tif" else np.uint8
    path = tmp_path / f"a.{kind}"
    # Of no other kind but JPEG; without it, colours are of two pixels.
    options = dict(quality=100, subsampling=0)
    Image.fromarray(values.astype(kept)).save(path, exif=exif, **options)
    seen = values // 256 if kind == "deep.tif" else values
    turns = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}
    expected = np.rot90(seen, turns.get(orientation, 0))
    if orientation in (2, 4, 5, 7):
        expected = expected[:, ::-1]
    assert image_size(path) == open_upright(path).size == expected.shape[1::-1]
    for read in (read_rgb, read_picture, by_loader):
        found = read(path)
        if values.ndim == 2:
            found = found[..., 0]
        tolerance = 6 if kind == "jpg" else 0
        np.testing.assert_allclose(found.astype(int), expected, atol=tolerance)


@pytest.fixture
def linked(tmp_path):
    """Images behind a link to a folder, one of whose links leads back."""
    for name in ("elsewhere/b.png", "elsewhere/deep/c.png", "images/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    (tmp_path / "elsewhere/._b.png").write_bytes(b"what macOS leaves")
    os.symlink(tmp_path / "elsewhere", tmp_path / "images/link")
    os.symlink(tmp_path / "images", tmp_path / "elsewhere/back")
    return tmp_path / "images"


def by_list(folder):
    return [item.image for item in list_folder(folder, "img_path")]


def by_data_set(kind, folder, **kwargs):
    prefix = dict(img_path=str(folder))
    data = kind(data_prefix=prefix, serialize_data=False, **kwargs)
    infos = map(data.get_data_info, range(len(data)))
    return [os.path.relpath(info["img_path"], folder) for info in infos]


by_images_without_labels = partial(
    by_data_set, ImageLevelDataset, label_source="none", classes=["cat"]
)
by_ood = partial(by_data_set, OoDDataset)


def by_candidates(folder):
    write_candidate_list(folder, folder.parent / "list.txt")
    lines = (folder.parent / "list.txt").read_text().splitlines()
    return [os.path.relpath(line, folder) for line in lines]


def by_hash(folder):
    # Not of images alone.
    found = (str(path.relative_to(folder)) for path in tree(folder))
    return [name for name in found if name != "link/._b.png"]


@pytest.mark.parametrize(
    "find", [by_list, by_images_without_labels, by_ood, by_candidates, by_hash]
)
def test_links_to_folders_are_followed_but_not_in_circles(find, linked):
    assert sorted(find(linked)) == ["a.png", "link/b.png", "link/deep/c.png"]


def test_a_drawing_replaces_drawings_only(tmp_path):
    picture = np.full((6, 8, 3), 7, dtype=np.uint8)
    save_picture(picture, tmp_path / "a.png")
    save_picture(picture + 1, tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), picture + 1)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    (tmp_path / "notes.png").write_text("no picture")
    for name in ("photo.png", "notes.png"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(FileExistsError, match=rf"{name} is there, and mmwood did"):
            save_picture(picture, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("length", [60, 2000])
def test_half_a_png_is_called_so(length, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    os.truncate(tmp_path / "a.png", length)
    with pytest.raises(ValueError, match=r"a\.png cannot be read: .*truncated"):
        read_picture(tmp_path / "a.png")
