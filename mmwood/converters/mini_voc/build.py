"""mini_voc: 1,299 images of PASCAL VOC 2012's segmentation val, 320 pixels long.

::

    JPEGImages/ID.jpg
    SegmentationClass/ID.png           0 background, c + 1 class c, 255 void
    SegmentationObject/ID.png          where VOC's folder has it
    ImageSets/Segmentation/train.txt   1,149 ids
    ImageSets/Segmentation/val.txt     150 ids

The ids are ``train.txt`` and ``val.txt`` beside this module; the split is not VOC's,
all images are of VOC's val.

README's numbers were measured on a set whose making nobody wrote down. Its files say:
the long side is 320; images are Pillow's JPEGs of quality 85 with chroma subsampling
4:2:0, optimised and with the comments of their originals; masks hold no value between
two labels, and are Pillow's optimised PNGs. They do not say how the short side was
rounded (here to the nearest) nor which filter was used (here Pillow's own for its
``resize``: bicubic for images, nearest for masks). So lists, formats and lengths are
equal, pixels may not be.
"""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from mmwood.converters.voc_aug import LISTS, VOC_CLASSES
from mmwood.converters.writer import Writer
from mmwood.fileio.files import remove_leftovers
from mmwood.fileio.images import (
    UNREADABLE,
    check_readable,
    check_there,
    open_upright,
    unreadable,
)
from mmwood.fileio.labels import VOID, check_labels, read_label_png
from mmwood.fileio.lists import TaggedImage, read_id_list

#: Pixels of the longer side.
LONG_SIDE = 320
#: Folders of VOC's masks, the largest label of each, and whether VOC must have it.
MASKS = {
    "SegmentationClass": (len(VOC_CLASSES), True),
    "SegmentationObject": (VOID - 1, False),
}


def convert_mini_voc(
    voc: Path,
    out: Path,
    overwrite: bool = False,
    progress: Callable[[list], Iterable] = iter,
) -> dict:
    """Make mini_voc from PASCAL VOC 2012.

    A run that was ended can be started again: what is there is kept.

    Args:
        voc: ``VOCdevkit/VOC2012``.
        out: Folder of the new data set.
        overwrite: As in :class:`mmwood.converters.writer.Writer`.
        progress: Wraps the list of images while they are written, for instance
            ``tqdm.tqdm``.

    Returns:
        How many images ``train`` and ``val`` have, ``objects``, whether there are
        instance maps, and the writer's counts.

    Raises:
        FileExistsError: See the writer.
        FileNotFoundError: ``voc`` is not VOC 2012, or lacks an image or a mask.
        ValueError: A file is damaged, or a mask has another size than its image.
    """
    splits = {name: read_split(name) for name in ("train", "val")}
    items = [item for split in splits.values() for item in split]
    for name in ("JPEGImages", *(name for name, (_, must) in MASKS.items() if must)):
        if not (voc / name).is_dir():
            raise FileNotFoundError(
                f"voc: {voc} is not VOC2012, the folder in VOCdevkit: it has no {name}"
            )
    images = [voc / f"JPEGImages/{item.image}.jpg" for item in items]
    check_there(items, images, "voc: JPEGImages")
    folders = [name for name in MASKS if (voc / name).is_dir()]
    for folder in folders:
        masks = [voc / f"{folder}/{item.image}.png" for item in items]
        check_there(items, masks, f"voc: {folder}")
    sizes = check_readable(items, images, decode=False)

    writer = Writer(overwrite)
    for folder in ("JPEGImages", *folders):
        remove_leftovers(out / folder)
    for number in progress(list(range(len(items)))):
        name, size = items[number].image, sizes[number]
        writer.content(out / f"JPEGImages/{name}.jpg", _small_jpeg(images[number]))
        for folder in folders:
            path = voc / f"{folder}/{name}.png"
            mask = read_label_png(path, "mask")
            if mask.shape != size[::-1]:
                raise ValueError(
                    f"mask {path} has (W, H) = {mask.shape[::-1]}, its image {size}"
                )
            check_labels(mask, path, MASKS[folder][0])
            small = Image.fromarray(mask).resize(
                small_size(size), Image.Resampling.NEAREST
            )
            path = out / f"{folder}/{name}.png"
            writer.label(path, np.asarray(small), optimize=True)
    for name, split in splits.items():
        path = out / LISTS / f"{name}.txt"
        writer.lines(path, [item.image for item in split])
    counts = {name: len(split) for name, split in splits.items()}
    return dict(**counts, objects="SegmentationObject" in folders, **writer.counts)


def read_split(name: str) -> list[TaggedImage]:
    """The images of 'train' or 'val', in the order of the list."""
    return read_id_list(Path(__file__).with_name(f"{name}.txt"))


def small_size(size: tuple[int, int]) -> tuple[int, int]:
    """(W, H) scaled so that the longer side is :data:`LONG_SIDE`, rounded half up.

    Example:
        >>> small_size((500, 366))
        (320, 234)
    """
    longer = max(size)
    width, height = (
        max(1, (2 * LONG_SIDE * side + longer) // (2 * longer)) for side in size
    )
    return width, height


def _small_jpeg(path: Path) -> bytes:
    """An image of VOC as mini_voc has it; Pillow keeps a JPEG's comment."""
    try:
        image = open_upright(path)
    except UNREADABLE as error:
        raise ValueError(unreadable(path, error)) from error
    small = image.resize(small_size(image.size), Image.Resampling.BICUBIC)
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=85, optimize=True)
    return jpeg.getvalue()
