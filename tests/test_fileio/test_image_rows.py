"""Rows of images, of TIFFs without decoding the others: the values of the whole file.

The reference: the arrays that files were made of, or whole images as loaders read them.
"""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mmwood.fileio import image_rows
from mmwood.fileio.image_rows import ImageRows, encode_values
from mmwood.fileio.images import UNREADABLE, read_rgb

pytest.importorskip("rasterio")

ORIENTATION = 0x0112
H, W = 150, 97
SPANS = ((0, 1), (0, H), (10, 31), (16, 48), (H - 1, H), (101, H))
VALUES = {
    "grey": (np.uint8, (H, W)),
    "colour": (np.uint8, (H, W, 3)),
    "deep grey": (np.uint16, (H, W)),
    "deep colour": (np.uint16, (H, W, 3)),
    "integers": (np.int32, (H, W)),
    "floats": (np.float32, (H, W)),
}


def random(kind: str) -> np.ndarray:
    dtype, shape = VALUES[kind]
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, min(np.iinfo(dtype).max, 10**9) + 1, shape).astype(dtype)


def tiled_tiff(values, order, compressed, orientation=1):
    """A TIFF in tiles, from the last to the first, which Pillow does not write."""
    height, width = values.shape[:2]
    tile = 32, 48
    channels = 1 if values.ndim == 2 else values.shape[2]
    padded = np.zeros((-(-height // 32) * 32, -(-width // 48) * 48, channels))
    padded[:height, :width] = values.reshape(height, width, channels)
    padded = padded.astype(values.dtype.newbyteorder(order))
    blocks = [
        padded[top : top + tile[0], left : left + tile[1]].tobytes()
        for top in range(0, height, tile[0])
        for left in range(0, width, tile[1])
    ]
    blocks = [zlib.compress(block) if compressed else block for block in blocks]
    content = b"II*\0" if order == "<" else b"MM\0*"
    content += bytes(4 + 10)
    offsets = []
    for block in reversed(blocks):
        offsets.insert(0, len(content))
        content += block + bytes(len(block) % 2)
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    fields = {
        256: ("L", [width]),
        257: ("H", [height]),
        258: ("H", [8 * values.dtype.itemsize] * channels),
        259: ("H", [8 if compressed else 1]),
        262: ("H", [1 if channels == 1 else 2]),
        274: ("H", [orientation]),
        277: ("H", [channels]),
        322: ("H", [tile[1]]),
        323: ("H", [tile[0]]),
        324: ("L", offsets),
        325: ("L", [len(block) for block in blocks]),
        339: ("H", [kind] * channels),
    }
    entries = b""
    for tag, (code, numbers) in fields.items():
        packed = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        if len(packed) > 4:
            place = len(content)
            content += packed + bytes(len(packed) % 2)
            packed = struct.pack(f"{order}L", place)
        head = struct.pack(f"{order}HHL", tag, {"H": 3, "L": 4}[code], len(numbers))
        entries += head + packed.ljust(4, b"\0")
    end = struct.pack(f"{order}L", len(content))
    count = struct.pack(f"{order}H", len(fields))
    return content[:4] + end + content[8:] + count + entries + bytes(4)


@pytest.fixture(params=["rasterio", "without"])
def package(request, monkeypatch):
    """With rasterio and as it is without, where an image is decoded whole."""
    if request.param == "without":
        monkeypatch.setattr(image_rows, "find_spec", lambda name: None)
    return request.param


def check_rows(path, values, atol=0):
    rows = ImageRows(path)
    assert rows.size == values.shape[1::-1]
    for begin, end in SPANS:
        if begin < end <= len(values):
            found = rows.rows(begin, end)
            assert found.dtype == values.dtype
            assert found.shape == values[begin:end].shape
            np.testing.assert_allclose(found, values[begin:end], rtol=0, atol=atol)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", VALUES)
def test_tiled_tiffs(kind, compressed, order, tmp_path, package):
    values = random(kind)
    path = tmp_path / "a.tif"
    path.write_bytes(tiled_tiff(values, order, compressed))
    garbled = compressed and order == ">" and kind in ("integers", "floats")
    if garbled:
        # By Pillow, which looks first.
        with pytest.raises(ValueError, match="without compression"):
            ImageRows(path)
    elif package == "rasterio" or kind != "deep colour":
        check_rows(path, values)


def test_no_other_rows_are_read(tmp_path):
    values = random("grey")
    path = tmp_path / "a.tif"
    whole = tiled_tiff(values, "<", True)
    # The tiles are written from the last to the first.
    first = 8 + 10
    path.write_bytes(whole[:first] + b"?" * 99 + whole[first + 99 :])
    rows = ImageRows(path)
    np.testing.assert_array_equal(rows.rows(0, 128), values[:128])
    with pytest.raises(UNREADABLE):
        rows.rows(128, 129)


@pytest.mark.parametrize("strip", [1, 16, 150, None])
@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]
)
@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind != "deep colour"])
def test_tiffs_in_strips(kind, compression, strip, tmp_path, package):
    values = random(kind)
    path = tmp_path / "a.tif"
    info = {278: strip} if strip else {}
    Image.fromarray(values).save(path, compression=compression, tiffinfo=info)
    check_rows(path, values)


@pytest.mark.parametrize("mode", ["RGB", "L", "YCbCr", "CMYK"])
def test_jpegs_in_tiffs(mode, tmp_path):
    path = tmp_path / "a.tif"
    picture = Image.fromarray(random("colour")).convert(mode)
    picture.save(path, compression="jpeg", tiffinfo={278: 16})
    expected = read_rgb(path)
    # Pillow's decoder and GDAL's round some colours to the neighbour.
    check_rows(path, expected[..., 0] if mode == "L" else expected, atol=1)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_other_modes_are_what_the_loader_sees(mode, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(random("colour")).convert(mode).save(path)
    expected = read_rgb(path)
    if (mode, suffix) == ("RGBA", ".tif"):
        # Its fourth band, whatever that is, is kept.
        expected = np.asarray(Image.open(path))
    check_rows(path, expected[..., 0] if mode == "1" else expected)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_sixteen_bits(suffix, channels, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 16, (H, W, channels)).astype(np.uint16)
    path = tmp_path / f"a{suffix}"
    order = [2, 1, 0, 3][:channels]
    cv2.imwrite(str(path), values[..., order])
    check_rows(path, values)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", ["grey", "colour", "deep grey", "deep colour"])
def test_cameras_turn_images(kind, suffix, orientation, tmp_path):
    values = random(kind)
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if kind == "deep colour":
        if suffix == ".tif":
            path.write_bytes(tiled_tiff(values, "<", False, orientation))
        else:
            write_turned_png(path, values, exif)
    else:
        Image.fromarray(values).save(path, exif=exif)
    marked = Image.fromarray(np.arange(H * W, dtype=np.int32).reshape(H, W))
    marked.getexif()[ORIENTATION] = orientation
    places = np.asarray(ImageOps.exif_transpose(marked))
    check_rows(path, values.reshape(H * W, *values.shape[2:])[places])


def write_turned_png(path, values, exif):
    """A PNG of OpenCV with a chunk of EXIF behind its header."""
    content = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    data = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">L", len(data) - 4) + data
    chunk += struct.pack(">L", zlib.crc32(data))
    path.write_bytes(content[:33] + chunk + content[33:])


@pytest.mark.parametrize("kind", VALUES)
def test_files_hold_the_values(kind, tmp_path):
    values = random(kind)
    suffix = ".tif" if kind in ("integers", "floats") else ".png"
    content = encode_values(values, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert Image.open(BytesIO(content)).format == ("TIFF", "PNG")[suffix == ".png"]
    assert ImageRows(path).suffix == suffix
    check_rows(path, values)
    if kind in ("deep grey", "deep colour"):
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(
            found[..., ::-1] if found.ndim > 2 else found, values
        )


def test_grey_and_transparency_of_sixteen_bits(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(4096, 1 << 16, (2, 3, 2)).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in values)
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">LLBBBBB", 3, 2, 16, 4, 0, 0, 0)
    for name, data in (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    ):
        chunk = name + data
        content += struct.pack(">L", len(data)) + chunk
        content += struct.pack(">L", zlib.crc32(chunk))
    path = tmp_path / "a.png"
    path.write_bytes(content)
    check_rows(path, values.astype(np.uint16)[..., [0, 0, 0, 1]])
    copy = tmp_path / "b.png"
    copy.write_bytes(encode_values(ImageRows(path).rows(0, 2), ".png"))
    np.testing.assert_array_equal(read_rgb(copy), read_rgb(path))


@pytest.mark.parametrize(("dtype", "count"), [(np.uint16, 8), (np.float32, 3)])
def test_bands_of_any_number_and_type(dtype, count, tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (H, W, count)).astype(dtype)
    path = tmp_path / "a.tif"
    path.write_bytes(encode_values(values, ".tif"))
    assert ImageRows(path).suffix == ".tif"
    check_rows(path, values)
