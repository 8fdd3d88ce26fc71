"""COCO and LVIS annotations: masks, lists and tags of their images; regions."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import numpy as np

from mmwood.converters.source import (
    VOID_NAME,
    AnnotatedImage,
    Label,
    LabelledImage,
    Region,
    RegionSource,
    check_sizes,
)
from mmwood.converters.writer import Writer, refuse_semicolons
from mmwood.fileio.coco import (
    CocoFile,
    encode_part,
    entry_size,
    image_name,
    instance_columns,
    layered_masks,
    read_coco,
    run_lengths,
)
from mmwood.fileio.files import remove_leftovers
from mmwood.fileio.labels import VOID
from mmwood.fileio.lists import (
    TaggedImage,
    bullets,
    check_id,
    refuse_background,
    refuse_shared_files,
)


@dataclass
class _Image:
    item: TaggedImage
    #: Height and width.
    size: tuple[int, int]
    annotations: list[dict]


def convert_coco(
    root: Path,
    splits: Mapping[str, Path],
    images: str | None = None,
    categories: Sequence[str] | None = None,
    masks: bool = True,
    skip_empty: bool = False,
    overwrite: bool = False,
    progress: Callable[[list], Iterable] = iter,
) -> dict:
    """Write the masks, lists and tags of annotation files into a data set's folder.

    ::

        root/
          train2014/NAME.jpg            the images, as they were downloaded
          SegmentationClass/NAME.png    palette PNG: 0 background, c + 1 class c
          ImageSets/train2014.txt       names without suffix
          tags_train2014.csv, tags.csv  one split, and all of this call
          classes.txt                   the classes in the order of their labels

    Masks are drawn as :func:`draw_mask` says. The tags of an image are the categories
    of all its annotations, crowds included.

    LVIS names a category in an image only where annotators looked for it: an image
    may show a chosen category that it is not annotated with.

    Args:
        root: Folder of the data set.
        splits: Annotation file by name of the split.
        images: Folder of the images, relative to ``root``. None is the split's name
            or, in LVIS, what ``coco_url`` says.
        categories: Names of the categories to use, in the order of their labels. None
            is all of them, by id.
        masks: Whether to draw masks. They have room for 254 classes.
        skip_empty: Whether to leave out images without an annotation of these
            categories.
        overwrite: As in :class:`mmwood.converters.writer.Writer`.
        progress: Wraps the list of a split's images while they are written, for
            instance ``tqdm.tqdm``.

    Returns:
        ``splits``, counts of images and annotations by split; ``pixelless``, the
        annotations that cover no pixel; and the writer's counts.

    Raises:
        FileExistsError: See the writer.
        FileNotFoundError: An annotation file or an image is missing.
        ImportError: Masks need pycocotools.
        ValueError: An annotation file is not one, or its entries contradict each
            other or the images; the message names the entry. A split's name is a path.
    """
    if masks:
        run_lengths()
    writer = Writer(overwrite)
    remove_leftovers(root / "SegmentationClass")
    names: tuple[str, ...] = ()
    rows: dict[str, list[TaggedImage]] = {}
    seen: list[TaggedImage] = []
    counts: dict[str, dict[str, int]] = {}
    pixelless: list[str] = []
    for split, path in splits.items():
        if check_id(split, "--split", "the name") != PurePosixPath(split).name:
            raise ValueError(
                f"--split: the name {split!r} must be that of a folder in {root}; "
                "--images names one that is elsewhere"
            )
        drawn = ("segmentation",) if masks else ()
        content = read_coco(path, ("height", "width"), ("id", *drawn))
        ids = _category_ids(content.categories, categories, path)
        if names and tuple(ids) != names:
            raise ValueError(f"{path}: its categories are not those of the other split")
        names = tuple(ids)
        # Here rather than when the tags are written, which is after the masks.
        refuse_semicolons(names, path)
        refuse_background(names, f"{path}: categories (--categories)")
        if masks and len(names) >= VOID:
            raise ValueError(
                f"{path}: {len(names)} categories do not fit into masks of 8 bits: "
                "choose some with --categories, or make no masks with --tags-only"
            )
        found = _images(content, ids, split, images)
        used = [image for image in found if image.item.tags or not skip_empty]
        seen += [image.item for image in used]
        refuse_shared_files(seen, _stem)
        if not any(image.annotations for image in used):
            raise ValueError(f"{path}: no image has an annotation of these categories")
        check_sizes(
            [image.item for image in used],
            [root / image.item.image for image in used],
            [image.size for image in used],
            f"images of {split}",
        )
        if masks:
            for image in progress(used):
                mask, empty = draw_mask(image.annotations, image.size, path)
                pixelless += empty
                writer.label(root / f"SegmentationClass/{_stem(image.item)}.png", mask)
        rows[split] = [image.item for image in used]
        own = [annotation for image in used for annotation in image.annotations]
        counts[split] = dict(
            images=len(used),
            without_annotation=sum(not item.tags for item in rows[split]),
            left_out=len(found) - len(used),
            annotations=len(own),
            crowds=sum(bool(annotation.get("iscrowd")) for annotation in own),
        )
    for split, items in rows.items():
        writer.lines(root / f"ImageSets/{split}.txt", [_stem(item) for item in items])
        writer.tags(root / f"tags_{split}.csv", items, names)
    writer.tags(root / "tags.csv", list(chain(*rows.values())), names)
    writer.lines(root / "classes.txt", names)
    return dict(splits=counts, pixelless=pixelless, **writer.counts)


def draw_mask(
    annotations: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    path: Path | str = "annotations",
) -> tuple[np.ndarray, list[str]]:
    """The mask of an image: where instances overlap, the smaller one is seen.

    Crowds are void (255) where no instance lies on them. Of instances with equally
    many pixels, the last one is seen.

    Args:
        annotations: Those of the image: ``id``, ``value`` (that of its class in the
            mask), ``segmentation`` and, if it is a crowd, ``iscrowd``.
        size: Height and width of the image.
        path: What errors call the source.

    Returns:
        The mask, and the sources of annotations that cover no pixel.

    Shape:
        - mask: (H, W) uint8

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: A segmentation is not one of this image.
    """
    mask = np.zeros(size, dtype=np.uint8)
    layers, pixelless = layered_masks(annotations, size, path)
    for layer in layers:
        mask[layer.mask] = VOID if layer.crowd else layer.annotation["value"]
    return mask, pixelless


def read_coco_regions(path: Path, boxes: bool = False) -> RegionSource:
    """Regions from an annotation file: polygons, and run lengths of both kinds.

    As :func:`draw_mask` draws them, the smaller one covers the larger one. A crowd is
    a region like any other, since annotation tools write masks as crowds.

    Args:
        path: The file.
        boxes: Whether an annotation without a segmentation is its ``bbox``.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: pycocotools is not installed.
        ValueError: The file is no such JSON.
    """
    run_lengths("reading COCO masks")
    fields = () if boxes else ("segmentation",)
    content = read_coco(path, ("height", "width"), fields)
    images, sizes = {}, {}
    for place, (number, entry) in enumerate(content.images.items()):
        source = content.sources("images", place)
        name = image_name(entry, source)[1]
        sizes[number] = entry_size(entry, source)
        images[number] = AnnotatedImage(name, source, sizes[number], [])
    for place, entry in enumerate(content.annotations):
        number = entry["image_id"]
        source = content.sources("annotations", place)
        segmentation = entry.get("segmentation")
        if boxes and not segmentation:
            segmentation = [box_corners(_box(entry, source))]
        region = Region(
            source,
            content.categories[entry["category_id"]],
            partial(coco_part, segmentation, *sizes[number]),
        )
        images[number].regions.append(region)
    return RegionSource([*images.values()], small_on_top=True)


def _box(entry: Mapping[str, Any], source: str) -> Sequence[float]:
    """Left, top, width and height of an annotation."""
    box = entry.get("bbox")
    sides = box if isinstance(box, list) else []
    if [type(side) in (int, float) for side in sides] != [True] * 4:
        raise ValueError(
            f"{source}: has no segmentation, and its bbox is {box}, not "
            "[x, y, width, height]"
        )
    return sides


def box_corners(
    box: Sequence[float], degrees: float = 0, pivot: Sequence[float] = (0, 0)
) -> list[float]:
    """A box as a polygon of COCO.

    Args:
        box: Left, top, width and height.
        degrees: How far it is turned, clockwise.
        pivot: About which point, from (0, 0), its left top corner, to (1, 1).

    Example:
        >>> box_corners((10, 20, 3, 5))
        [10.0, 20.0, 13.0, 20.0, 13.0, 25.0, 10.0, 25.0]
    """
    start, sides = np.array(box[:2], dtype=float), np.array(box[2:], dtype=float)
    corners = (np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) - pivot) * sides
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    turned = corners @ np.array([(cosine, sine), (-sine, cosine)])
    return (turned + start + np.multiply(pivot, sides)).ravel().tolist()


def coco_part(
    segmentation: Any, height: int, width: int
) -> tuple[int, int, np.ndarray]:
    """A segmentation of COCO as :class:`mmwood.converters.source.Region` decodes it.

    Raises:
        ValueError: As :func:`mmwood.fileio.coco.instance_mask`.
    """
    left, mask = instance_columns(segmentation, height, width)
    return left, 0, mask


def write_coco(
    file: TextIO, images: Iterable[LabelledImage], labels: Sequence[Label]
) -> None:
    """Write label maps as COCO JSON: each part is an annotation with run lengths.

    Categories are the labels, numbered from 1; that of void pixels is left out where
    no image has any.

    Raises:
        ImportError: pycocotools is not installed.
    """
    ids = {label.value: number for number, label in enumerate(labels, start=1)}
    entries, used, number = [], set(), 0
    file.write('{"info": {"description": "label maps of mmwood"},\n"annotations": [')
    for image_id, image in enumerate(images, start=1):
        height, width = image.size
        size = dict(height=height, width=width)
        entries.append(dict(id=image_id, file_name=image.name, **size))
        for part in image.parts:
            number += 1
            used.add(part.label.name)
            annotation = dict(
                id=number,
                image_id=image_id,
                category_id=ids[part.label.value],
                segmentation=encode_part(part.mask, part.left, part.top, image.size),
                area=int(part.mask.sum()),
                bbox=[part.left, part.top, *part.mask.shape[::-1]],
                iscrowd=0,
            )
            file.write(("," if number > 1 else "") + f"\n{json.dumps(annotation)}")
    categories = [
        dict(id=ids[label.value], name=label.name)
        for label in labels
        if label.name != VOID_NAME or label.name in used
    ]
    file.write(f'\n],\n"images": {json.dumps(entries)},\n')
    file.write(f'"categories": {json.dumps(categories)}}}\n')


def _category_ids(
    categories: Mapping[int, str], chosen: Sequence[str] | None, path: Path
) -> dict[str, int]:
    """Category id by name, in the order of the labels."""
    ids = {name: number for number, name in categories.items()}
    if chosen is None:
        return ids
    faults = []
    for name in chosen:
        if name not in ids:
            close = get_close_matches(name, ids)
            faults.append(repr(name) + (f": did you mean {close}?" if close else ""))
    if faults:
        raise ValueError(
            f"{path}: categories: {len(faults)} of {len(chosen)} names are not among "
            f"its {len(ids)} categories:" + bullets(faults)
        )
    return {name: ids[name] for name in chosen}


def _images(
    content: CocoFile, ids: Mapping[str, int], split: str, folder: str | None
) -> list[_Image]:
    """The images with the annotations of the chosen categories."""
    values = {number: value for value, number in enumerate(ids.values(), start=1)}
    chosen: dict[int, list[dict]] = defaultdict(list)
    for annotation in content.annotations:
        if annotation["category_id"] in values:
            value = values[annotation["category_id"]]
            chosen[annotation["image_id"]].append(dict(annotation, value=value))
    images = []
    for place, (number, entry) in enumerate(content.images.items()):
        source = content.sources("images", place)
        # LVIS says by its address in which folder an image is.
        own, name = image_name(entry, source)
        own = split if entry.get("file_name") is not None else own
        path = str(PurePosixPath(own if folder is None else folder, name))
        tags = {content.categories[a["category_id"]] for a in chosen[number]}
        item = TaggedImage(path, tags, source)
        images.append(_Image(item, entry_size(entry, source), chosen[number]))
    return images


def _stem(item: TaggedImage) -> str:
    return PurePosixPath(item.image).stem
