"""Images of photographs: which there are, how they are opened, and what cannot be."""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import (
    COMPRESSION,
    IMAGELENGTH,
    IMAGEWIDTH,
    TiffImageFile,
)

from mmwood.fileio.files import atomic_write, walk
from mmwood.fileio.lists import TaggedImage, bullets
from mmwood.fileio.tiff_rows import rows_as_tiff, tiff_blocks

__all__ = [
    "IMAGE_SUFFIXES",
    "SOFTWARE",
    "UNREADABLE",
    "ImageRows",
    "Levels",
    "check_levels",
    "check_readable",
    "check_there",
    "deep_values",
    "encode_values",
    "image_paths",
    "image_size",
    "is_deep",
    "list_folder",
    "open_upright",
    "read_picture",
    "read_rgb",
    "refuse_foreign_drawing",
    "save_picture",
    "unreadable",
    "values_suffix",
    "why_unreadable",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
#: What Pillow raises at files that are not whole images.
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
#: EXIF's orientation; 5 to 8 swap the sides.
_ORIENTATION = 0x0112
#: Rows that are copied at a time.
_ROWS = 1024
#: Behind a grey image with transparent parts, as mmcv has it.
_CANVAS = (124, 117, 104)
#: Pixels of the largest images that are read, 3 GiB of RGB. Pillow's own limit is 179
#: million, and it warns from half of that on, which a scan of 12,000 x 9,000 has. What
#: a few kB expand to beyond ours is refused all the same.
MOST_PIXELS = 2**30
Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2
#: Who drew a picture, for its metadata.
SOFTWARE = "mmwood"
#: The values that are black and white in images of more than 8 bits a channel: between
#: them 0 to 255 is linear, what is beyond is black and white, too. A pixel without a
#: number (NaN) is black. Images of 8 bits stay as they are.
Levels = tuple[float, float]
#: How Pillow's decoders name channels of 16 bits that it would cut to 8.
_DEEP_COLOURS = ("RGB;16", "RGBA;16", "RGBX;16", "LA;16", "CMYK;16")


def image_paths(folder: str | os.PathLike) -> Iterator[Path]:
    """The image files below a folder, one folder after the other, each sorted.

    Links are followed, to folders too, but not in circles. What macOS writes beside
    images on foreign disks (``._NAME``) is no image.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    for path in walk(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("._"):
            yield path


def list_folder(folder: str | os.PathLike, field: str) -> list[TaggedImage]:
    """All images below a folder, named from it, in sorted order.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{field}: there is no folder {folder}")
    items = [
        TaggedImage(path.relative_to(folder).as_posix(), None, str(path))
        for path in sorted(image_paths(folder))
    ]
    if not items:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise ValueError(f"{field}: {folder} holds no image ({kinds})")
    return items


def check_there(
    items: Sequence[TaggedImage], paths: Iterable[str | os.PathLike], field: str
) -> None:
    """Refuse files that do not exist, with the lines that name them.

    Raises:
        FileNotFoundError: One is missing.
    """
    faults = [
        f"{item.source}: {path}"
        for item, path in zip(items, paths)
        if not os.path.isfile(path)
    ]
    if faults:
        raise FileNotFoundError(
            f"{field}: {len(faults)} of {len(items)} files do not exist:"
            + bullets(faults)
        )


def check_levels(levels: Sequence[float] | None, field: str) -> Levels | None:
    """Two values as :data:`Levels`.

    Raises:
        ValueError: They are not two numbers, the lower one first.
    """
    if levels is None:
        return None
    if len(levels) != 2 or not -np.inf < levels[0] < levels[1] < np.inf:
        raise ValueError(
            f"{field}: the values that are black and white, the lower one first, got "
            f"{list(levels)}"
        )
    return levels[0], levels[1]


def check_readable(
    items: Sequence[TaggedImage],
    paths: Iterable[str | os.PathLike],
    decode: bool,
    levels: Levels | None = None,
) -> list[tuple[int, int]]:
    """The images' sizes (W, H), from their headers or from decoding them whole.

    Args:
        items: What names them, for messages.
        paths: Their files.
        decode: Whether to decode them.
        levels: As in :func:`read_rgb`.

    Raises:
        ValueError: One is not an image, has values that are no levels of grey or
            colour, or is, with ``decode``, damaged.
    """
    sizes, faults = [], []
    for item, path in zip(items, paths):
        try:
            with _opened(path) as (image, stream):
                _refuse_depth(image, levels)
                whole = _to_rgb(image, stream, levels).size if decode else None
                sizes.append(whole or _header_size(image))
        except UNREADABLE as error:
            faults.append(f"{item.source}: {path}: {why_unreadable(error)}")
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(items)} images cannot be read; mend them, save "
            "them as JPEG or PNG, or remove them:" + bullets(faults)
        )
    return sizes


def image_size(path: str | os.PathLike, decode: bool = False) -> tuple[int, int]:
    """(W, H) with the camera's orientation, from the header or from decoding it whole.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read, as :func:`read_rgb`.
    """
    with _opened(path) as (image, stream):
        return _to_rgb(image, stream, None).size if decode else _header_size(image)


def _header_size(image: ImageFile) -> tuple[int, int]:
    size = image.size
    if isinstance(image, TiffImageFile):
        # Some versions of Pillow have turned the image's size already.
        size = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    turned = image.getexif().get(_ORIENTATION, 1) >= 5
    return size[::-1] if turned else size


def read_rgb(
    file: str | os.PathLike | BinaryIO, levels: Levels | None = None
) -> np.ndarray:
    """Read an image upright.

    Without ``levels`` images of 16 bits are divided by 256, as OpenCV does, hence
    MMSegmentation's loader.

    Args:
        file: The image.
        levels: What is black and white where it has more than 8 bits a channel.

    Returns:
        Shape (H, W, 3), uint8 RGB.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read, or, without ``levels``, its values
            are floats, integers of 32 bits, or of less than 13 bits in 16: nobody knows
            what is white.
    """
    image = open_upright(file, levels=levels)
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    # Of a large image, np.array would make three copies on the way.
    for top in range(0, image.height, _ROWS):
        box = (0, top, image.width, min(top + _ROWS, image.height))
        pixels[top : top + _ROWS] = np.asarray(image.crop(box))
    return pixels


def read_picture(path: str | os.PathLike, levels: Levels | None = None) -> np.ndarray:
    """As :func:`read_rgb`, with errors that name the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    try:
        return read_rgb(path, levels)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise ValueError(unreadable(path, error)) from error


def save_picture(picture: np.ndarray, path: str | os.PathLike) -> None:
    """Write a drawing as a PNG that says who drew it, atomically.

    Shape:
        - picture: (H, W, 3) uint8, RGB

    Raises:
        FileExistsError: There is a file that mmwood did not draw.
    """
    path = Path(path)
    refuse_foreign_drawing(path)
    about = PngInfo()
    about.add_text("Software", SOFTWARE)
    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary, pnginfo=about)


def refuse_foreign_drawing(path: str | os.PathLike) -> None:
    """Refuse to draw over a file of somebody else.

    Raises:
        FileExistsError: There is a file that does not say that mmwood drew it.
    """
    if not os.path.exists(path):
        return
    try:
        with Image.open(path) as found:
            drawn = found.info.get("Software") == SOFTWARE
    except UNREADABLE:
        drawn = False
    if not drawn:
        raise FileExistsError(
            f"{path} is there, and mmwood did not draw it: choose another folder or "
            "name, or move it away"
        )


def is_deep(path: str | os.PathLike) -> bool:
    """Whether an image has more than 8 bits a channel, from its header.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read.
    """
    with _opened(path) as (image, _):
        return _is_deep_grey(image) or _is_deep_colour(image)


def deep_values(path: str | os.PathLike) -> np.ndarray:
    """The values of an image of more than 8 bits a channel. Shape: (n,).

    Raises:
        One of :data:`UNREADABLE`: It cannot be read.
    """
    with _opened(path) as (image, stream):
        if _is_deep_colour(image):
            return _colours(image, stream)[..., :3].ravel()
        return np.asarray(image).ravel()


def open_upright(
    file: str | os.PathLike | BinaryIO,
    draft: tuple[int, int] | None = None,
    mode: str = "RGB",
    levels: Levels | None = None,
) -> Image.Image:
    """As :func:`read_rgb`, but Pillow's image.

    Args:
        file: The image.
        draft: (W, H) that is enough: a JPEG's decoder leaves out what would be thrown
            away.
        mode: 'RGB', or 'L' for shades of grey.
        levels: As in :func:`read_rgb`.
    """
    with _opened(file) as (image, stream):
        if draft is not None:
            image.draft(mode, draft)
        return _converted(_to_rgb(image, stream, levels), mode)


class ImageRows:
    """An image upright, row by row from top to bottom, with the values of its file.

    Of a TIFF in strips or tiles those alone are decoded that hold the rows. Any other
    image is decoded whole when its first rows are asked for, and stays: 1 byte a pixel
    of grey, 4 of colour, 2 or 4 of grey of more than 8 bits, 6 or 8 of such colour,
    and twice as much while it is decoded.

    Args:
        path: The image.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self._path = path
        self._whole: Image.Image | np.ndarray | None = None
        with _opened(path) as (image, _):
            self._blocks = (
                tiff_blocks(image) if isinstance(image, TiffImageFile) else None
            )

    def rows(self, begin: int, end: int) -> np.ndarray:
        """Some rows.

        Returns:
            Shape (end - begin, W) of grey, else (end - begin, W, 3): uint8 as
            :func:`read_rgb` has them. Of more than 8 bits: uint16, with a fourth
            channel if the file has one; int32 or float32 of grey.

        Raises:
            One of :data:`UNREADABLE`: They cannot be read, or are grey and
                transparency of 16 bits.
        """
        if self._blocks is None:
            if self._whole is None:
                with _opened(self._path) as (image, stream):
                    self._whole = _values(image, stream)
            return _part(self._whole, begin, end)
        with open(self._path, "rb") as file:
            first, part = rows_as_tiff(self._blocks, file, begin, end)
        with _opened(BytesIO(part)) as (image, stream):
            return _part(_values(image, stream), begin - first, end - first)


def values_suffix(path: str | os.PathLike) -> str:
    """``.png`` for an image whose values a PNG holds, else ``.tif``; by its header.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read.
    """
    with _opened(path) as (image, _):
        wide = image.mode == "F" or (image.mode == "I" and image.format != "PNG")
        return ".tif" if wide else ".png"


def encode_values(values: np.ndarray, compression: int = 3) -> bytes:
    """A file of what :meth:`ImageRows.rows` gives: PNG, or TIFF of 32 bits.

    Args:
        values: The values.
        compression: Level of PNG's compression.

    Shape:
        - values: (H, W) uint8, uint16, int32 or float32; (H, W, 3) uint8; (H, W, 3) or
          (H, W, 4) uint16
    """
    if values.dtype == np.uint16 and values.ndim == 3:
        order = cv2.COLOR_RGBA2BGRA if values.shape[2] == 4 else cv2.COLOR_RGB2BGR
        level = [cv2.IMWRITE_PNG_COMPRESSION, compression]
        return cv2.imencode(".png", cv2.cvtColor(values, order), level)[1].tobytes()
    content = BytesIO()
    image = Image.fromarray(np.ascontiguousarray(values))
    if values.dtype in (np.int32, np.float32):
        image.save(content, "TIFF", compression="tiff_adobe_deflate")
    else:
        image.save(content, "PNG", compress_level=compression)
    return content.getvalue()


@contextmanager
def _opened(
    file: str | os.PathLike | BinaryIO,
) -> Iterator[tuple[ImageFile, BinaryIO]]:
    """Pillow's image and its file.

    Of a path Pillow would map some TIFFs into memory, and garble those that a camera
    has turned (Pillow 13.0).
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as stream, Image.open(stream) as image:
            _refuse_swapped(image)
            yield image, stream
    else:
        with Image.open(file) as image:
            _refuse_swapped(image)
            yield image, file


def _refuse_swapped(image: ImageFile) -> None:
    """Refuse what Pillow (13.0) garbles: it swaps bytes that libtiff has swapped."""
    if (
        isinstance(image, TiffImageFile)
        and image.mode in ("I", "F")
        and image.tag_v2.prefix == b"MM"
        and image.tag_v2.get(COMPRESSION, 1) != 1
    ):
        raise ValueError(
            "holds compressed values of 32 bits with the highest byte first, which are "
            "not read: save it without compression"
        )


def _values(image: ImageFile, stream: BinaryIO) -> Image.Image | np.ndarray:
    """The values of an image, upright; Pillow's image where it holds them."""
    if _is_deep_colour(image):
        if image.mode == "LA":
            raise ValueError(
                "holds grey and transparency of 16 bits: save it without transparency"
            )
        colours = _colours(image, stream)
        orientation = image.getexif().get(_ORIENTATION, 1)
        # OpenCV turns TIFFs alone.
        if image.format == "TIFF" or orientation == 1:
            return colours
        planes = []
        for plane in map(Image.fromarray, np.moveaxis(colours, 2, 0)):
            plane.getexif()[_ORIENTATION] = orientation
            planes.append(np.asarray(ImageOps.exif_transpose(plane)))
        return np.dstack(planes)
    if not _is_deep_grey(image) and image.mode not in ("1", "L"):
        return _to_rgb(image, stream, None)
    ImageOps.exif_transpose(image, in_place=True)
    image.load()
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "I" and image.format == "PNG":
        # Of 16 bits, as some versions of Pillow open them.
        return np.asarray(image).astype(np.uint16)
    return image


def _part(values: Image.Image | np.ndarray, begin: int, end: int) -> np.ndarray:
    """Some rows, in the byte order of the machine."""
    if isinstance(values, Image.Image):
        values = np.asarray(values.crop((0, begin, values.width, end)))
    else:
        values = values[begin:end]
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _to_rgb(image: ImageFile, stream: BinaryIO, levels: Levels | None) -> Image.Image:
    _refuse_depth(image, levels)
    upright: Image.Image = image
    if _is_deep_colour(image):
        upright = Image.fromarray(_to_bytes(_colours(image, stream), levels))
        if image.mode == "LA":
            upright = upright.convert("LA")
        if image.format != "TIFF":
            # OpenCV turns these alone.
            orientation = image.getexif().get(_ORIENTATION, 1)
            upright.getexif()[_ORIENTATION] = orientation
    # In place, and converted only if need be: a large image is in memory once.
    ImageOps.exif_transpose(upright, in_place=True)
    upright.load()
    if _is_deep_grey(upright):
        upright = Image.fromarray(_to_bytes(np.asarray(upright), levels))
    if upright.mode == "LA":
        coloured = upright.convert("RGBA")
        upright = Image.new("RGB", coloured.size, _CANVAS)
        upright.paste(coloured, mask=coloured.getchannel("A"))
    return _converted(upright, "RGB")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _is_deep_colour(image: ImageFile) -> bool:
    """Whether Pillow would cut the colours of 16 bits; before it has decoded it."""
    for tile in image.tile[:1]:
        raw = tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]
        return isinstance(raw, str) and raw.startswith(_DEEP_COLOURS)
    return False


def _colours(image: ImageFile, stream: BinaryIO) -> np.ndarray:
    """Colours of 16 bits, RGB or RGBA."""
    deep = image.mode != "CMYK"
    # Pillow says what is damaged, OpenCV does not.
    image.load()
    stream.seek(0)
    content = np.frombuffer(stream.read(), dtype=np.uint8)
    values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if deep else None
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise ValueError(
            f"holds {image.mode} of 16 bits in a form that is not read: save it as RGB"
        )
    order = cv2.COLOR_BGRA2RGBA if values.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(values, order)


def _to_bytes(values: np.ndarray, levels: Levels | None) -> np.ndarray:
    """Values of more than 8 bits, (H, W) or RGB(A), as uint8 by :data:`Levels`."""
    colours = values[..., :3] if values.ndim == 3 else values
    if levels is None:
        most = int(colours.max())
        # Twelve bits in a file of sixteen, for instance.
        if 0 < most < 4096:
            raise ValueError(
                f"has 16 bits, but no value above {most}: divided by 256 it would be "
                "black. Say which values are black and white (--levels 0 "
                f"{(1 << most.bit_length()) - 1}, or levels of mmwood.LoadImage), or "
                "save it with 8 bits"
            )
        return (values >> 8).astype(np.uint8)
    low, high = levels
    scaled = np.nan_to_num(colours.astype(np.float32), nan=low) - low
    scaled *= 255 / (high - low)
    found = np.rint(scaled.clip(0, 255, out=scaled)).astype(np.uint8)
    if values.shape[2:] == (4,):
        # Of how much there is of it, all is 65535.
        found = np.dstack([found, (values[..., 3] >> 8).astype(np.uint8)])
    return found


def _refuse_depth(image: Image.Image, levels: Levels | None) -> None:
    # Pillow opens PNGs and PPMs of 16 bits as 32 bits, too.
    deep = image.mode == "I" and image.format not in ("PNG", "PPM")
    if levels is None and (image.mode == "F" or deep):
        kind = "floats" if image.mode == "F" else "integers of 32 bits"
        raise ValueError(
            f"holds {kind}, of which nobody knows what is white: say which values are "
            "black and white (--levels LOW HIGH, or levels of mmwood.LoadImage), or "
            "save it with 8 or 16 bits"
        )


def unreadable(path: str | os.PathLike, error: BaseException) -> str:
    """What to say of an image that cannot be read, and why."""
    return f"the image {path} cannot be read: {why_unreadable(error)}"


def why_unreadable(error: BaseException) -> str:
    """Why an image cannot be read, in one line, and the same text every time."""
    # Of half a PNG, the cause tells how Pillow unpacks bytes.
    if not isinstance(error.__cause__, struct.error):
        error = error.__cause__ or error
    if isinstance(error, UnidentifiedImageError):
        # Pillow's own text holds an address in memory.
        return "not an image that Pillow reads"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {MOST_PIXELS:,} pixels: cut it into parts"
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
