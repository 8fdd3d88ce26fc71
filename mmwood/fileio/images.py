"""Images of photographs: which there are, how they are opened, and what cannot be."""

import logging
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    TiffImageFile,
)

from mmwood.fileio.bands import band_size, band_values, copied_channels, copy_source
from mmwood.fileio.decoding import (
    PICTURE,
    Decoding,
    refuse_unknown_white,
    shown_channels,
)
from mmwood.fileio.files import atomic_write, walk
from mmwood.fileio.lists import TaggedImage, bullets

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
#: How Pillow's decoders name channels of 16 bits that it would cut to 8.
_DEEP_COLOURS = ("RGB;16", "RGBA;16", "RGBX;16", "LA;16", "CMYK;16")
#: Takes any depth, where only sizes matter.
_ANY = Decoding((0, 1))
#: What Pillow calls TIFFs of grey or colours, and what white is in some.
_PLAIN, _WHITE_IS_ZERO = ("L", "RGB", "RGBA", "RGBX", "I", "F"), 0
#: How TIFFs begin, and those of more than 4 GB.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# It prints a line of each TIFF that it does not read; the error says more.
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)


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


def check_readable(
    items: Sequence[TaggedImage],
    paths: Iterable[str | os.PathLike],
    decode: bool,
    decoding: Decoding | None = PICTURE,
) -> list[tuple[int, int]]:
    """The images' sizes (W, H), from their headers or from decoding them whole.

    Args:
        items: What names them, for messages.
        paths: Their files.
        decode: Whether to decode them.
        decoding: How they are read. None is for who wants their sizes alone, whatever
            their depth and bands.

    Raises:
        ValueError: One is not an image, has values that are no levels of grey or
            colour, lacks a band, or is, with ``decode``, damaged.
    """
    sizes, faults = [], []
    for item, path in zip(items, paths):
        try:
            size = _decoded_size if decode else image_size
            sizes.append(size(path, decoding))
        except UNREADABLE as error:
            faults.append(f"{item.source}: {path}: {why_unreadable(error)}")
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(items)} images cannot be read; mend them, save "
            "them as JPEG or PNG, or remove them:" + bullets(faults)
        )
    return sizes


def _decoded_size(
    path: str | os.PathLike, decoding: Decoding | None
) -> tuple[int, int]:
    """As :func:`image_size`, from decoding the image whole."""
    if decoding is not None:
        return read_channels(path, decoding).shape[1::-1]
    try:
        return open_upright(path, decoding=_ANY).size
    except _NoPictureError:
        return band_values(path).shape[1::-1]


def image_size(
    path: str | os.PathLike, decoding: Decoding | None = None
) -> tuple[int, int]:
    """(W, H) with the camera's orientation, from the header.

    Args:
        path: The image.
        decoding: How it is read, to refuse what it would refuse by the header. None
            refuses nothing of what is an image; bands need rasterio.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read, as :func:`read_channels`.
    """
    if decoding is not None and decoding.bands is not None and not _is_copy(path):
        return band_size(path, decoding)
    try:
        with _opened(path) as (image, _):
            if decoding is not None:
                _refuse_depth(image, decoding)
            size = image.size
            if isinstance(image, TiffImageFile):
                # Some versions of Pillow have turned the image's size already.
                size = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
            return size[::-1] if _orientation(image) >= 5 else size
    except _NoPictureError:
        if decoding is not None:
            raise
        return band_size(path, _ANY)


def read_channels(
    file: str | os.PathLike | BinaryIO, decoding: Decoding = PICTURE
) -> np.ndarray:
    """Read what a network sees of an image: its colours, upright, or the chosen bands.

    Without levels images of 16 bits are divided by 256, as OpenCV does, hence
    MMSegmentation's loader.

    Args:
        file: The image.
        decoding: Which bands, and what is black and white in more than 8 bits.

    Returns:
        Shape (H, W, channels), uint8; RGB without bands.

    Raises:
        ImportError: Bands need rasterio.
        One of :data:`UNREADABLE`: It cannot be read, or, without levels, its values
            are floats, integers of 32 bits, or of less than 13 bits in 16: nobody knows
            what is white; it lacks a band.
    """
    if decoding.bands is None:
        return _pixels(open_upright(file, decoding=decoding))
    if not _is_copy(file):
        return decoding.to_bytes(band_values(file, decoding.bands))
    with _opened(file) as (image, _):
        channels = copied_channels(image)
    if channels.shape[2] != decoding.channels:
        raise ValueError(
            f"is a copy with {channels.shape[2]} bands, not with {decoding.channels}"
        )
    return channels


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    # Of a large image, np.array would make three copies on the way.
    for top in range(0, image.height, _ROWS):
        box = (0, top, image.width, min(top + _ROWS, image.height))
        pixels[top : top + _ROWS] = np.asarray(image.crop(box))
    return pixels


def _is_copy(file: str | os.PathLike | BinaryIO) -> bool:
    """Whether a file holds the chosen bands already; refuses what is not upright."""
    try:
        with _opened(file) as (image, _):
            if _orientation(image) != 1:
                raise ValueError("is turned by its camera: save it upright")
            return copy_source(image) is not None
    except _NoPictureError:
        return False


def read_rgb(
    file: str | os.PathLike | BinaryIO, decoding: Decoding = PICTURE
) -> np.ndarray:
    """Read an image as people see it, upright; arguments as :func:`read_channels`.

    Returns:
        Shape (H, W, 3), uint8 RGB.
    """
    return shown_channels(read_channels(file, decoding))


def read_picture(
    path: str | os.PathLike, decoding: Decoding = PICTURE, shown: bool = True
) -> np.ndarray:
    """As :func:`read_rgb` or :func:`read_channels`, with errors that name the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    try:
        return (read_rgb if shown else read_channels)(path, decoding)
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


def has_values_of_32_bits(path: str | os.PathLike) -> bool:
    """Whether an image is of integers or floats of 32 bits, from its header.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read.
    """
    with _opened(path) as (image, _):
        # Pillow opens PNGs of 16 bits as 32 bits, too.
        return image.mode == "F" or (image.mode == "I" and image.format != "PNG")


def is_plain_tiff(path: str | os.PathLike) -> bool:
    """Whether an image is a TIFF whose values are pixels as they are, and upright.

    So it is where Pillow would not do more than decode it, and where Pillow does not
    read it: nobody knows more than GDAL then.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read.
    """
    try:
        with _opened(path) as (image, _):
            return (
                isinstance(image, TiffImageFile)
                and _orientation(image) == 1
                and (image.mode in _PLAIN or image.mode.startswith("I;16"))
                and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) != _WHITE_IS_ZERO
                and {8, 16, 32}.issuperset(image.tag_v2.get(BITSPERSAMPLE, (1,)))
            )
    except _NoPictureError:
        return True
    except Image.DecompressionBombError:
        with open(path, "rb") as file:
            return file.read(4).startswith(_TIFF)


def deep_values(path: str | os.PathLike) -> np.ndarray:
    """The values of an image of more than 8 bits a channel. Shape: (n,).

    Raises:
        One of :data:`UNREADABLE`: It cannot be read.
    """
    with _opened(path) as (image, stream):
        if _is_deep_colour(image):
            return _colours(image, stream)[..., :3].ravel()
        return np.asarray(image).ravel()


def file_values(path: str | os.PathLike) -> np.ndarray:
    """The values of an image, upright, at their own depth.

    Returns:
        Shape (H, W) of grey, (H, W, 3) of colours: uint8 as :func:`read_rgb` has them;
        of more than 8 bits uint16, with a fourth channel if the file has one, or int32
        or float32 of grey.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read, or is grey and transparency of 16
            bits.
    """
    with _opened(path) as (image, stream):
        if _is_deep_colour(image):
            return _deep_values(image, stream)
        if not _is_deep_grey(image) and image.mode not in ("1", "L"):
            return _pixels(_to_rgb(image, stream, PICTURE))
        is_png = image.format == "PNG"
        ImageOps.exif_transpose(image, in_place=True)
        values = np.asarray(image.convert("L") if image.mode == "1" else image)
        if image.mode == "I" and is_png:
            # Of 16 bits, as some versions of Pillow open them.
            values = values.astype(np.uint16)
        return values.astype(values.dtype.newbyteorder("="), copy=False)


def _deep_values(image: ImageFile, stream: BinaryIO) -> np.ndarray:
    if image.mode == "LA":
        raise ValueError(
            "holds grey and transparency of 16 bits: save it without transparency"
        )
    colours = _colours(image, stream)
    orientation = _orientation(image)
    # OpenCV turns TIFFs alone.
    if image.format == "TIFF" or orientation == 1:
        return colours
    planes = []
    for plane in map(Image.fromarray, np.moveaxis(colours, 2, 0)):
        plane.getexif()[_ORIENTATION] = orientation
        planes.append(np.asarray(ImageOps.exif_transpose(plane)))
    return np.dstack(planes)


def open_upright(
    file: str | os.PathLike | BinaryIO,
    draft: tuple[int, int] | None = None,
    mode: str = "RGB",
    decoding: Decoding = PICTURE,
) -> Image.Image:
    """As :func:`read_rgb`, but Pillow's image.

    Args:
        file: The image.
        draft: (W, H) that is enough: a JPEG's decoder leaves out what would be thrown
            away.
        mode: 'RGB', or 'L' for shades of grey.
        decoding: As in :func:`read_channels`.
    """
    if decoding.bands is not None:
        return _converted(Image.fromarray(read_rgb(file, decoding)), mode)
    with _opened(file) as (image, stream):
        if draft is not None:
            image.draft(mode, draft)
        return _converted(_to_rgb(image, stream, decoding), mode)


class _NoPictureError(ValueError):
    """A TIFF that Pillow does not read, but GDAL may."""


@contextmanager
def _opened(
    file: str | os.PathLike | BinaryIO,
) -> Iterator[tuple[ImageFile, BinaryIO]]:
    """Pillow's image and its file.

    Of a path Pillow would map some TIFFs into memory, and garble those that a camera
    has turned (Pillow 13.0).
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as stream, _opened(stream) as opened:
            yield opened
        return
    try:
        image = Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        if not file.read(4).startswith(_TIFF):
            raise
        raise _NoPictureError(
            "is a TIFF that Pillow does not read: say which bands to take (--bands 1 2 "
            "3, or bands of mmwood.LoadImage)"
        ) from None
    with image:
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


def _to_rgb(image: ImageFile, stream: BinaryIO, decoding: Decoding) -> Image.Image:
    _refuse_depth(image, decoding)
    upright: Image.Image = image
    if _is_deep_colour(image):
        colours = _colours(image, stream)
        pixels = decoding.to_bytes(colours[..., :3])
        if colours.shape[2] == 4:
            # Of how much there is of it, all is 65535.
            alpha = (colours[..., 3:] >> 8).astype(np.uint8)
            pixels = np.concatenate([pixels, alpha], axis=2)
        upright = Image.fromarray(pixels)
        if image.mode == "LA":
            upright = upright.convert("LA")
        if image.format != "TIFF":
            # OpenCV turns these alone.
            upright.getexif()[_ORIENTATION] = _orientation(image)
    # In place, and converted only if need be: a large image is in memory once.
    ImageOps.exif_transpose(upright, in_place=True)
    upright.load()
    if _is_deep_grey(upright):
        values = np.asarray(upright)
        if decoding.levels is None:
            # Others are refused by now.
            values = values.astype(np.uint16)
        upright = Image.fromarray(decoding.to_bytes(values))
    if upright.mode == "LA":
        coloured = upright.convert("RGBA")
        upright = Image.new("RGB", coloured.size, _CANVAS)
        upright.paste(coloured, mask=coloured.getchannel("A"))
    return _converted(upright, "RGB")


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION, 1)


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


def _refuse_depth(image: Image.Image, decoding: Decoding) -> None:
    # Pillow opens PNGs and PPMs of 16 bits as 32 bits, too.
    deep = image.mode == "I" and image.format not in ("PNG", "PPM")
    if decoding.levels is None and (image.mode == "F" or deep):
        refuse_unknown_white("f4" if image.mode == "F" else "i4")


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
