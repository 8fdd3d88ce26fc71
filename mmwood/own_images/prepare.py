"""A working copy of one's own images at the one scale that all stages see."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmwood.converters.writer import Writer, find_record
from mmwood.fileio.bands import copy_source, save_copy
from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.fileio.files import atomic_write, file_sha256, remove_leftovers, write_json
from mmwood.fileio.images import (
    UNREADABLE,
    check_readable,
    image_size,
    open_upright,
    read_channels,
    why_unreadable,
)
from mmwood.fileio.labels import VOID, check_labels, read_label_png
from mmwood.fileio.lists import TaggedImage, bullets, without_suffix
from mmwood.own_images.source import OwnImages
from mmwood.utils.progress import progress

_FORMAT = "mmwood prepared images 1"
_RECORD = "prepared.json"
#: PNG's fastest levels make files a tenth larger.
_COMPRESSION = 3
#: The text of a copy's PNG that says what it is a copy of.
_SOURCE = "Source"


@dataclass(frozen=True)
class Task:
    """One image to copy, with its mask.

    Attributes:
        image: The file.
        target: The copy to write.
        mask: The true mask; None is a void one if there is a target for it.
        mask_target: The label PNG to write, or None.
        corrected: The corrected mask, or None.
        corrected_target: The label PNG to write of it, or None.
        classes: How many classes a mask may show.
    """

    image: Path
    target: Path
    mask: Path | None = None
    mask_target: Path | None = None
    corrected: Path | None = None
    corrected_target: Path | None = None
    classes: int = 0


def scaled_size(
    size: tuple[int, int], long_side: int, enlarge: bool
) -> tuple[int, int]:
    """(W, H) of an image at the one scale: its long side is ``long_side``.

    Example:
        >>> scaled_size((1200, 900), 320, enlarge=True)
        (320, 240)
    """
    longest = max(size)
    if longest == long_side or (longest < long_side and not enlarge):
        return size
    width, height = (max(1, round(side * long_side / longest)) for side in size)
    return width, height


def copy_suffix(decoding: Decoding) -> str:
    """How the copies' names end; three bands make a picture as any other."""
    return ".png" if decoding.channels == 3 else ".tif"


def image_sizes(
    root: Path, images: Iterable[str], decoding: Decoding = PICTURE
) -> list[tuple[int, int]]:
    """(W, H) of images below a folder, upright, from their headers.

    Raises:
        ValueError: Some cannot be read; names all.
    """
    items = [TaggedImage(name, None, "image") for name in images]
    paths = [root / item.image for item in items]
    return check_readable(items, progress(paths, "sizes", delay=1), False, decoding)


def prepare(
    own: OwnImages,
    out: Path,
    long_side: int,
    workers: int = 1,
    decoding: Decoding = PICTURE,
) -> dict[str, int]:
    """Write the working copy; what is there already and the same stays.

    ::

        out/
          images/ID.png         tagged images; .tif if they have not three bands
          tags.csv, classes.txt their tags; images are named from images/
          images.txt            their ids, one a line
          ood/NAME.png          images without a tag, under their names with suffix
          untagged.csv          the same with empty tags, named from ood/
          candidates/NAME.png   candidates for OoD images
          masks/ID.png          true masks, void where there is none
          corrected/ID.png      corrected masks, where there are any

    Each image is read upright once and resized by Pillow's bicubic filter, its mask to
    the nearest pixel; a corrected mask may have the copy's size already. If no tagged
    image is larger than ``long_side``, images keep their size.

    Args:
        own: What there is.
        out: The folder to write; what it holds of an earlier copy and no longer
            belongs to it is removed.
        long_side: The long side of the copies, in pixels.
        workers: Processes.
        decoding: How images are read; copies have 8 bits.

    Returns:
        How many ``images``, ``ood``, ``candidates``, ``masks`` and ``corrected`` masks
        there are, and how many were ``written``.

    Raises:
        ValueError: An image or a mask cannot be read, or a mask does not fit; names
            all. Or ``out`` holds something else.
    """
    find_record(out, _RECORD, format=_FORMAT)
    names = ("images", "ood", "candidates", "masks", "corrected")
    folders = {name: out / name for name in names}
    suffix = copy_suffix(decoding)
    tasks = [*_tasks(own, folders, suffix)]
    counts = dict(
        images=len(own.tagged),
        ood=len(own.untagged),
        candidates=len(own.candidates),
        masks=len(own.masks),
        corrected=len(own.corrected),
    )
    # First, so that the folder is known to be a copy when this is ended.
    write_json(out / _RECORD, dict(format=_FORMAT, long_side=long_side, **counts))
    remove_leftovers(out)
    sizes = image_sizes(own.root, [item.image for item in own.tagged], decoding)
    enlarge = max(map(max, sizes)) > long_side
    work = partial(_copy, long_side=long_side, enlarge=enlarge, decoding=decoding)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            results = [*progress(pool.map(work, tasks), "copy", total=len(tasks))]
    else:
        results = [work(task) for task in progress(tasks, "copy")]
    faults = [result for result in results if isinstance(result, str)]
    done = [result for result in results if not isinstance(result, str)]
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(tasks)} images cannot be used; mend or remove them:"
            + bullets(faults)
        )
    for field, masks, values in (
        ("masks", own.masks, [item.mask for item in done]),
        ("corrected", own.corrected, [item.corrected for item in done]),
    ):
        met = set().union(*values)
        # People may have found that some images show nothing.
        if masks and not met - {0, VOID} and (field == "masks" or VOID in met):
            raise ValueError(
                f"--{field}: none of {len(masks)} masks shows a class. Label 0 is "
                f"background, c + 1 is class c, {VOID} is void: masks of 0 and 255, as "
                "paint programs write them, need 1 in place of 255"
            )
    _remove_others(folders.values(), tasks)
    items = [
        TaggedImage(f"{without_suffix(item.image)}{suffix}", item.tags, item.source)
        for item in own.tagged
    ]
    others = [TaggedImage(f"{name}{suffix}", set(), "") for name in own.untagged]
    writer = Writer(overwrite=True)
    writer.tags(out / "tags.csv", items, own.classes)
    writer.tags(out / "untagged.csv", others, own.classes)
    writer.lines(out / "classes.txt", own.classes)
    writer.lines(out / "images.txt", [without_suffix(item.image) for item in items])
    return dict(counts, written=sum(item.written for item in done))


def _tasks(own: OwnImages, folders: dict[str, Path], suffix: str) -> Iterable[Task]:
    for item in own.tagged:
        name = without_suffix(item.image)
        yield Task(
            own.root / item.image,
            folders["images"] / f"{name}{suffix}",
            own.masks.get(name),
            folders["masks"] / f"{name}.png" if own.masks else None,
            own.corrected.get(name),
            folders["corrected"] / f"{name}.png" if name in own.corrected else None,
            len(own.classes),
        )
    # No label file is named after these: they keep their suffix, which tells two of
    # one name apart.
    for name in own.untagged:
        yield Task(own.root / name, folders["ood"] / f"{name}{suffix}")
    for name in own.candidates:
        assert own.candidates_root is not None
        yield Task(
            own.candidates_root / name, folders["candidates"] / f"{name}{suffix}"
        )


class _Copied(NamedTuple):
    """Whether an image or a mask was written, and the values in its masks."""

    written: bool
    mask: set[int]
    corrected: set[int]


def _copy(
    task: Task, long_side: int, enlarge: bool, decoding: Decoding
) -> _Copied | str:
    """Copy one image with its masks; a text is what is wrong with it."""
    try:
        original = image_size(task.image, decoding)
        size = scaled_size(original, long_side, enlarge)
        writer = Writer(overwrite=True)
        values: tuple[set[int], set[int]] = (set(), set())
        if task.mask_target is not None:
            small = np.full(size[::-1], VOID, dtype=np.uint8)
            if task.mask is not None:
                small = _scaled_mask(task.mask, task, original, size)
                values[0].update(np.unique(small).tolist())
            writer.label(task.mask_target, small)
        if task.corrected is not None and task.corrected_target is not None:
            small = _scaled_mask(task.corrected, task, original, size, or_copy=True)
            values[1].update(np.unique(small).tolist())
            writer.label(task.corrected_target, small)
        made_of = f"{file_sha256(task.image)} at {size}"
        if decoding != PICTURE:
            made_of += f", {decoding}"
        if _is_made_of(task.target, made_of):
            masks = writer.counts["written"] + writer.counts["replaced"]
            return _Copied(masks > 0, *values)
        make = _small_picture if decoding.channels == 3 else _small_bands
        write = make(task.image, size, decoding, made_of)
        with atomic_write(task.target) as temporary:
            write(temporary)
    except UNREADABLE as error:
        # A full disk is no fault of the image.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if isinstance(error, ValueError) and any(
            str(path) in str(error) for path in (task.mask, task.corrected) if path
        ):
            return str(error)
        return f"{task.image}: {why_unreadable(error)}"
    return _Copied(True, *values)


def _small_picture(
    image: Path, size: tuple[int, int], decoding: Decoding, about: str
) -> Callable[[Path], None]:
    """What writes the copy of a picture, once it is read."""
    picture = open_upright(image, decoding=decoding)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    text = PngInfo()
    text.add_text(_SOURCE, about)
    return partial(
        picture.save, format="PNG", pnginfo=text, compress_level=_COMPRESSION
    )


def _small_bands(
    image: Path, size: tuple[int, int], decoding: Decoding, about: str
) -> Callable[[Path], None]:
    """As :func:`_small_picture`, of bands."""
    channels = read_channels(image, decoding)
    if channels.shape[1::-1] != size:
        bands = map(Image.fromarray, np.moveaxis(channels, 2, 0))
        small = [band.resize(size, Image.Resampling.BICUBIC) for band in bands]
        channels = np.stack([*map(np.asarray, small)], axis=2)
    return partial(save_copy, channels, source=about)


def _scaled_mask(
    path: Path,
    task: Task,
    original: tuple[int, int],
    size: tuple[int, int],
    or_copy: bool = False,
) -> np.ndarray:
    """An image's mask at the size of its copy, which it may have already.

    Raises:
        ValueError: It cannot be read, or does not fit.
    """
    label = read_label_png(path, "mask")
    check_labels(label, path, task.classes)
    if or_copy and label.shape == size[::-1]:
        return label
    if label.shape != original[::-1]:
        copy = f", its copy {size}" if or_copy else ""
        raise ValueError(
            f"{path}: the mask has (W, H) = {label.shape[::-1]}, its image "
            f"{task.image} {original}{copy}"
        )
    return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))


def _is_made_of(copy: Path, made_of: str) -> bool:
    """Whether the copy is there, whole, and of this file."""
    try:
        with Image.open(copy) as image:
            return made_of in (image.info.get(_SOURCE), copy_source(image))
    except UNREADABLE:
        return False


def _remove_others(folders: Iterable[Path], tasks: Sequence[Task]) -> None:
    """Delete the copies that no image has any more."""
    targets = {
        path
        for task in tasks
        for path in (task.target, task.mask_target, task.corrected_target)
    }
    for folder in folders:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    os.rmdir(path)
            elif path not in targets:
                path.unlink()
