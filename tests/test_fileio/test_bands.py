"""Images of any number of bands: how they are read, copied, shown and refused."""

import sys
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from mmwood.datasets.transforms import LoadImage
from mmwood.datasets.transforms.loading import loaded_rgb
from mmwood.fileio.bands import band_values, save_copy
from mmwood.fileio.decoding import Decoding, check_decoding
from mmwood.fileio.images import (
    check_readable,
    image_size,
    open_upright,
    read_channels,
    read_rgb,
)
from mmwood.fileio.lists import TaggedImage

rasterio = pytest.importorskip("rasterio")

EIGHT = np.random.default_rng(0).integers(0, 4096, (30, 40, 8)).astype(np.uint16)


def save_bands(values, path, **options):
    """Save values (H, W, n) as a GeoTIFF."""
    height, width, count = values.shape
    options |= dict(height=height, width=width, count=count, dtype=values.dtype)
    with warnings.catch_warnings():
        # There is no place on earth for it.
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="GTiff", **options) as file:
            file.write(values.transpose(2, 0, 1))


def by_loops(values, decoding):
    """The rule of levels, pixel by pixel."""
    found = np.zeros((*values.shape[:2], len(decoding.bands)), np.uint8)
    for place, band in enumerate(decoding.bands):
        pair = decoding.levels
        low, high = pair if np.ndim(pair) == 1 else pair[place]
        for row in range(values.shape[0]):
            for column in range(values.shape[1]):
                value = float(values[row, column, band - 1])
                if value == value:
                    share = min(max((value - low) / (high - low), 0), 1)
                    found[row, column, place] = round(255 * share)
    return found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("compress", ["lzw", "deflate", None])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding((0, 4095), (4, 3, 2, 8)),
        Decoding(((0, 3000), (100, 4000), (7, 1000)), (8, 1, 2)),
        Decoding((0, 4095), (5,)),
    ],
)
def test_the_chosen_bands_with_their_levels(compress, decoding, tmp_path):
    path = tmp_path / "a.tif"
    save_bands(EIGHT, path, compress=compress)
    expected = by_loops(EIGHT, decoding)
    found = read_channels(path, decoding)
    # Float32 rounds half a level now and then the other way.
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() < 0.001
    assert image_size(path, decoding) == (40, 30)
    shown = read_rgb(path, decoding)
    count = found.shape[2]
    assert np.array_equal(shown, found[..., :3] if count >= 3 else found.repeat(3, 2))
    assert np.array_equal(np.asarray(open_upright(path, decoding=decoding)), shown)
    loader = LoadImage(levels=decoding.levels, bands=decoding.bands)
    loaded = loader(dict(img_path=str(path)))
    assert loaded["ori_shape"] == (30, 40)
    order = [2, 1, 0] if count == 3 else [*range(count)]
    assert np.array_equal(loaded["img"], found[..., order])
    assert np.array_equal(loaded_rgb(loaded["img"]), shown)


def test_floats_and_what_is_no_data(tmp_path):
    values = np.linspace(0, 1, 60, dtype=np.float32).reshape(4, 5, 3)
    values[0, 0], values[1, 1, 2] = -9999, np.nan
    save_bands(values, tmp_path / "a.tif", nodata=-9999)
    decoding = Decoding((0, 1), (1, 2, 3))
    expected = by_loops(np.where(values == -9999, np.nan, values), decoding)
    assert np.array_equal(read_channels(tmp_path / "a.tif", decoding), expected)
    assert expected[0, 0].tolist() == [0, 0, 0]
    assert expected[1, 1, 2] == 0
    assert expected[3, 4].tolist() == [246, 251, 255]
    # Integers that are no data are the least there is.
    save_bands(EIGHT[..., :2], tmp_path / "b.tif", nodata=5)
    found = band_values(tmp_path / "b.tif", (1, 2))
    assert np.array_equal(found, np.where(EIGHT[..., :2] == 5, 0, EIGHT[..., :2]))


def test_eight_bits_and_the_fourth_of_a_picture_stay_as_they_are(tmp_path):
    values = (EIGHT[..., :4] // 16).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    save_bands(values, tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        decoding = Decoding(bands=(4, 1, 2, 3))
        found = read_channels(tmp_path / name, decoding)
        assert np.array_equal(found, values[..., [3, 0, 1, 2]])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_a_copy_holds_the_bands_and_shows_the_first(count, tmp_path):
    channels = (EIGHT[..., :count] // 16).astype(np.uint8)
    path = tmp_path / "copy.tif"
    save_copy(channels, path, "a.tif at (40, 30)")
    bands = tuple(range(count, 0, -1))
    for decoding in (Decoding(bands=bands), Decoding((0, 1), bands)):
        assert np.array_equal(read_channels(path, decoding), channels)
        assert image_size(path, decoding) == (40, 30)
    shown = channels[..., :3] if count >= 3 else channels[..., :1].repeat(3, 2)
    # Whoever knows nothing of bands, mmcv's reader among them.
    assert np.array_equal(read_rgb(path), shown)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], shown)
    with pytest.raises(ValueError, match=rf"a copy with {count} bands, not with 5"):
        read_channels(path, Decoding(bands=(1, 2, 3, 4, 5)))


REFUSED = {
    "absent": (EIGHT, dict(bands=(1, 9)), "has 8 bands, so no band 9"),
    "dark": (EIGHT, dict(bands=(1, 2)), "no value above 40[0-9]{2}: .*--levels 0 4095"),
    "signed": (EIGHT.astype(np.int16), dict(bands=(1,)), "of 16 bits with a sign"),
    "floats": (EIGHT.astype(np.float32), dict(bands=(1,)), "holds floats"),
    "no bands": (EIGHT, {}, r"Pillow does not read: say which bands .*--bands 1 2 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path, capfd):
    values, options, message = REFUSED[name]
    path = tmp_path / "a.tif"
    save_bands(values, path)
    with pytest.raises(ValueError, match=message):
        read_channels(path, Decoding(**options))
    with pytest.raises(ValueError, match=rf"{path} is not a whole image: .*{message}"):
        LoadImage(**options)(dict(img_path=str(path)))
    # How dark it is, no header tells.
    if name != "dark":
        with pytest.raises(ValueError, match=message):
            image_size(path, Decoding(**options))
    assert capfd.readouterr() == ("", "")


def test_who_wants_sizes_alone(tmp_path):
    save_bands(EIGHT.astype(np.float32), path := tmp_path / "a.tif")
    item = TaggedImage("a.tif", None, "line 2")
    for decode in (False, True):
        assert check_readable([item], [path], decode, None) == [(40, 30)]
        with pytest.raises(ValueError, match=r"line 2: .*a\.tif: is a TIFF"):
            check_readable([item], [path], decode)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"line 2: .*a\.tif: "):
        check_readable([item], [path], True, None)


def test_half_a_file_and_a_turned_one(tmp_path):
    save_bands(EIGHT, tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "half.tif").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.tif").write_text("no image")
    for name in ("half.tif", "text.tif"):
        loader = LoadImage(levels=(0, 4095), bands=(1, 8))
        with pytest.raises(ValueError, match=rf"{name} is not a whole image: "):
            loader(dict(img_path=str(tmp_path / name)))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(EIGHT[..., :3].astype(np.uint8)).save(tmp_path / "t.jpg", exif=exif)
    with pytest.raises(ValueError, match="is turned by its camera: save it upright"):
        read_channels(tmp_path / "t.jpg", Decoding(bands=(1, 2, 3)))


@pytest.mark.parametrize("bands", [(), (0, 1), (1, 1), (1.5,), ("1",)])
def test_bands_that_are_none(bands):
    with pytest.raises(ValueError, match="--bands: numbers of bands from 1, each once"):
        check_decoding(bands=bands, prefix="--")


@pytest.mark.parametrize("levels", [(0, 1, 2), (0, 1) * 3, ((0, 1), (3, 2))])
def test_levels_of_bands_that_are_none(levels):
    with pytest.raises(ValueError, match="first, or two for each band, got"):
        check_decoding(levels, (1, 2))
    assert check_decoding((0, 1, 2.5, 3), (7, 8)).levels == ((0, 1), (2.5, 3))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    message = r"which bands are chosen needs rasterio .*mmwood\[bands\]"
    with pytest.raises(ImportError, match=message):
        LoadImage(bands=(1, 2))
