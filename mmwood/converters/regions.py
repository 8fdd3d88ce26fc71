"""Regions that people drew or corrected in an annotation tool, as label maps."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmwood.converters.coco import read_coco_regions
from mmwood.converters.cvat import read_cvat_regions
from mmwood.converters.label_studio import read_label_studio_regions
from mmwood.converters.source import VOID_NAME, AnnotatedImage, RegionSource
from mmwood.converters.tags import ImageFinder
from mmwood.converters.writer import Writer
from mmwood.fileio.images import UNREADABLE, image_size, why_unreadable
from mmwood.fileio.labels import VOID
from mmwood.fileio.lists import (
    TaggedImage,
    bullets,
    check_id,
    refuse_background,
    refuse_shared_files,
    unknown_classes,
    without_suffix,
)

#: The label of regions that show no class.
BACKGROUND_NAME = "background"


@dataclass
class FoundImage:
    """An annotated image and its file.

    Attributes:
        image: The image and its regions.
        item: Its path from the folder of the images.
        size: Its height and width.
    """

    image: AnnotatedImage
    item: TaggedImage
    size: tuple[int, int]


def read_regions(
    path: Path, boxes: bool = False, field: str = "ANNOTATIONS"
) -> RegionSource:
    """Regions from an export of Label Studio or CVAT, or from COCO JSON.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: COCO needs pycocotools.
        ValueError: The file is none of these.
    """
    if path.suffix.lower() == ".xml":
        return read_cvat_regions(path, boxes)
    if path.suffix.lower() != ".json":
        raise ValueError(
            f"{field}: {path} is no .json (COCO, or Label Studio's JSON) and no "
            ".xml (CVAT for images 1.1); an archive must be unpacked"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{field}: there is no file {path}")
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        is_list = file.read(1024).lstrip().startswith("[")
    read = read_label_studio_regions if is_list else read_coco_regions
    return read(path, boxes)


def regions_to_masks(
    source: RegionSource,
    images: Path,
    classes: Sequence[str],
    out: Path,
    overwrite: bool = False,
    progress: Callable[[list], Iterable] = iter,
) -> dict:
    """Write a label PNG for each image of a source: 0 background, c + 1 class c.

    Regions of the label ``void`` are 255, those of ``background`` 0, unless a class has
    this name. Pixels that no region covers are background. What covers what is the
    source's ``small_on_top`` and the layers of its regions.

    A label PNG has the path of its image in the folder, with the suffix ``.png``.
    Images are found as :class:`mmwood.converters.tags.ImageFinder` does.

    Returns:
        ``images``; ``overlapping``, the names of those where regions of different
        labels overlap, and by how many pixels; ``pixelless``, the sources of regions
        that cover no pixel; and the writer's counts.

    Raises:
        FileExistsError: See the writer.
        FileNotFoundError: There is no folder of images.
        ValueError: A label is no class; an image is missing, damaged or of another
            size; two images would share a file; a region is damaged: names all.
            ``out`` lies in the folder of the images.
    """
    values = _values(classes)
    if not images.is_dir():
        raise FileNotFoundError(f"--images: there is no folder {images}")
    if out.resolve().is_relative_to(images.resolve()):
        raise ValueError(
            f"--out: {out} is in the folder of the images, {images}, where masks would "
            "be taken for images: name another folder"
        )
    tasks = find_annotated(source, images, classes, values)
    writer = Writer(overwrite)
    faults, pixelless = [], []
    overlapping: dict[str, int] = {}
    for task in progress(tasks):
        drawn = draw_regions(task.image, task.size, values, source.small_on_top)
        faults += drawn.faults
        pixelless += drawn.pixelless
        if drawn.overlap:
            overlapping[task.item.image] = drawn.overlap
        if not drawn.faults:
            name = without_suffix(task.item.image)
            writer.label(out / f"{name}.png", drawn.label)
    if faults:
        raise ValueError(
            f"{len(faults)} regions cannot be drawn; masks of the other images are "
            "written:" + bullets(faults)
        )
    return dict(
        images=len(tasks),
        overlapping=overlapping,
        pixelless=pixelless,
        **writer.counts,
    )


@dataclass
class Drawn:
    """What :func:`draw_regions` drew.

    Attributes:
        label: The label map. Shape: (H, W) uint8.
        overlap: How many pixels regions of different labels share.
        pixelless: The sources of regions that cover no pixel.
        faults: Sources of regions that cannot be drawn, and why.
    """

    label: np.ndarray
    overlap: int
    pixelless: list[str]
    faults: list[str]


def draw_regions(
    image: AnnotatedImage,
    size: tuple[int, int],
    values: dict[str, int],
    small_on_top: bool,
) -> Drawn:
    """The label map of an image's regions; ``values`` are by label."""
    order, pixelless, faults = [], [], []
    for region in image.regions:
        try:
            area = int(region.decode()[2].sum())
        except ValueError as error:
            faults.append(f"{region.source}: {error}")
            continue
        if area:
            order.append((-area if small_on_top else region.layer, region))
        else:
            pixelless.append(region.source)
    # Stable: equal ones stay in their order.
    order.sort(key=lambda item: item[0])
    label = np.zeros(size, dtype=np.uint8)
    covered, shared = np.zeros((2, *size), dtype=bool)
    # Decoded anew: all masks of a large image would not fit into memory.
    for _, region in order:
        left, top, mask = region.decode()
        value = values[region.label]
        box = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
        shared[box] |= mask & covered[box] & (label[box] != value)
        covered[box] |= mask
        label[box][mask] = value
    return Drawn(label, int(shared.sum()), pixelless, faults)


def _values(classes: Sequence[str]) -> dict[str, int]:
    """Value by label."""
    refuse_background(classes, "--classes")
    if len(classes) >= VOID:
        raise ValueError(
            f"--classes: {len(classes)} classes do not fit into masks of 8 bits, which "
            f"hold {VOID - 1}"
        )
    names = {name: number for number, name in enumerate(classes, start=1)}
    return {BACKGROUND_NAME: 0, VOID_NAME: VOID} | names


def find_annotated(
    source: RegionSource,
    root: Path,
    classes: Sequence[str],
    values: Collection[str],
) -> list[FoundImage]:
    """The images' files and sizes.

    Raises:
        ValueError: A label is none of these; an image is missing, damaged or of another
            size; two images would share a file; names all. Or there is no image.
    """
    faults = []
    labels: Counter[str] = Counter()
    where: dict[str, str] = {}
    for image in source.images:
        for region in image.regions:
            labels[region.label] += 1
            where.setdefault(region.label, region.source)
    for name in sorted(labels.keys() - {*values}):
        fault = unknown_classes([name], classes)
        faults.append(f"{where[name]} (and {labels[name] - 1} more) has {fault}")
    finder, tasks = ImageFinder(root), []
    for image in source.images:
        path = finder.search(image.name, image.source)
        if path is None:
            hint = finder.hint(image.name)
            faults.append(f"{image.source}: there is no image {image.name}{hint}")
            continue
        try:
            width, height = image_size(root / path)
        except UNREADABLE as error:
            faults.append(f"{image.source}: {root / path}: {why_unreadable(error)}")
            continue
        if image.size not in (None, (height, width)):
            faults.append(
                f"{image.source}: says (H, W) = {image.size}, {root / path} has "
                f"{(height, width)}"
            )
        item = TaggedImage(check_id(path, image.source), None, image.source)
        tasks.append(FoundImage(image, item, (height, width)))
    if faults:
        raise ValueError(
            f"{len(faults)} faults in annotations or images in {root}; nothing was "
            "written:" + bullets(faults)
        )
    refuse_shared_files(
        [task.item for task in tasks], lambda item: without_suffix(item.image)
    )
    if not tasks:
        raise ValueError("ANNOTATIONS: no image is annotated: there is nothing to draw")
    return tasks
