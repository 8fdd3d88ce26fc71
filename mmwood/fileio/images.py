"""Images of photographs: which there are, how they are opened, and what cannot be."""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from mmwood.fileio.files import atomic_write, walk
from mmwood.fileio.lists import TaggedImage, bullets

__all__ = [
    "IMAGE_SUFFIXES",
    "SOFTWARE",
    "UNREADABLE",
    "check_readable",
    "check_there",
    "image_paths",
    "image_size",
    "list_folder",
    "open_upright",
    "read_picture",
    "read_rgb",
    "refuse_foreign_drawing",
    "save_picture",
    "unreadable",
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
    items: Sequence[TaggedImage], paths: Iterable[str | os.PathLike], decode: bool
) -> list[tuple[int, int]]:
    """The images' sizes (W, H), from their headers or from decoding them whole.

    Raises:
        ValueError: One is not an image, has values that are no levels of grey or
            colour, or is, with ``decode``, damaged.
    """
    sizes, faults = [], []
    for item, path in zip(items, paths):
        try:
            sizes.append(image_size(path, decode))
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
        One of :data:`UNREADABLE`: It cannot be read.
    """
    with Image.open(path) as image:
        _refuse_depth(image)
        if decode:
            _to_rgb(image)
        turned = image.getexif().get(_ORIENTATION, 1) >= 5
        return image.size[::-1] if turned else image.size


def read_rgb(file: str | os.PathLike | BinaryIO) -> np.ndarray:
    """Read an image upright.

    Images of 16 bits are divided by 256, as OpenCV does, hence MMSegmentation's
    loader.

    Returns:
        Shape (H, W, 3), uint8 RGB.

    Raises:
        One of :data:`UNREADABLE`: It cannot be read, or its values are floats or
            integers of 32 bits, of which nobody knows what is white.
    """
    image = open_upright(file)
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    # Of a large image, np.array would make three copies on the way.
    for top in range(0, image.height, _ROWS):
        box = (0, top, image.width, min(top + _ROWS, image.height))
        pixels[top : top + _ROWS] = np.asarray(image.crop(box))
    return pixels


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """As :func:`read_rgb`, with errors that name the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    try:
        return read_rgb(path)
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


def open_upright(
    file: str | os.PathLike | BinaryIO,
    draft: tuple[int, int] | None = None,
    mode: str = "RGB",
) -> Image.Image:
    """As :func:`read_rgb`, but Pillow's image.

    Args:
        file: The image.
        draft: (W, H) that is enough: a JPEG's decoder leaves out what would be thrown
            away.
        mode: 'RGB', or 'L' for shades of grey.
    """
    with Image.open(file) as image:
        if draft is not None:
            image.draft(mode, draft)
        return _converted(_to_rgb(image), mode)


def _to_rgb(image: Image.Image) -> Image.Image:
    _refuse_depth(image)
    # In place, and converted only if need be: a large image is in memory once.
    ImageOps.exif_transpose(image, in_place=True)
    image.load()
    upright = image
    if upright.mode == "I" or upright.mode.startswith("I;16"):
        values = np.asarray(upright)
        # Twelve bits in a file of sixteen, for instance.
        if 0 < values.max() < 4096:
            raise ValueError(
                f"has 16 bits, but no value above {values.max()}: divided by 256 it "
                "would be black. Stretch its values to 0..65535, or save it with 8 bits"
            )
        upright = Image.fromarray((values >> 8).astype(np.uint8))
    if upright.mode == "LA":
        coloured = upright.convert("RGBA")
        upright = Image.new("RGB", coloured.size, _CANVAS)
        upright.paste(coloured, mask=coloured.getchannel("A"))
    return _converted(upright, "RGB")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _refuse_depth(image: Image.Image) -> None:
    # Pillow opens PNGs and PPMs of 16 bits as 32 bits, too.
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floats" if image.mode == "F" else "integers of 32 bits"
        raise ValueError(
            f"holds {kind}, of which nobody knows what is white: save it with 8 or 16 "
            "bits"
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
