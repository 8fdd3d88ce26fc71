"""COCO and LVIS annotations: masks, lists and tags of their images."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mmwood.converters.writer import Writer, refuse_semicolons
from mmwood.datasets.image_level import bullets, check_readable, check_there
from mmwood.fileio.coco import run_lengths
from mmwood.fileio.files import remove_leftovers
from mmwood.fileio.labels import VOID
from mmwood.fileio.lists import Tagged

__all__ = ["convert_coco", "draw_mask", "instance_mask"]


@dataclass
class _Image:
    item: Tagged
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
    progress: Callable[[list], Iterable] | None = None,
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
            other or the images; the message names the entry.
    """
    if masks:
        run_lengths()
    writer = Writer(overwrite)
    remove_leftovers(root / "SegmentationClass")
    names: tuple[str, ...] = ()
    rows: dict[str, list[Tagged]] = {}
    seen: dict[str, Tagged] = {}
    counts: dict[str, dict[str, int]] = {}
    pixelless: list[str] = []
    for split, path in splits.items():
        content = _load(path)
        ids = _category_ids(content["categories"], categories, path)
        if names and tuple(ids) != names:
            raise ValueError(f"{path}: its categories are not those of the other split")
        names = tuple(ids)
        # Here rather than when the tags are written, which is after the masks.
        refuse_semicolons(names, path)
        if masks and len(names) >= VOID:
            raise ValueError(
                f"{path}: {len(names)} categories do not fit into masks of 8 bits: "
                "choose some with --categories, or make no masks with --tags-only"
            )
        found = _images(content, ids, path, split, images)
        used = [image for image in found if image.item.tags or not skip_empty]
        for image in used:
            item = image.item
            other = seen.setdefault(_stem(item), item)
            if other is not item:
                raise ValueError(
                    f"{item.source}: image {item.image!r} has the same name as "
                    f"{other.image!r} of {other.source}"
                )
        if not any(image.annotations for image in used):
            raise ValueError(f"{path}: no image has an annotation of these categories")
        _check_sizes(root, used, split)
        if masks:
            for image in progress(used) if progress else used:
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
    instances, pixelless = [], []
    for annotation in annotations:
        source = f"{path}: annotation id {annotation['id']}"
        try:
            pixels = instance_mask(annotation["segmentation"], *size)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        area = int(pixels.sum())
        if not area:
            pixelless.append(source)
        elif annotation.get("iscrowd"):
            mask[pixels] = VOID
        else:
            instances.append((area, annotation["value"], pixels))
    # Stable: equal areas stay in their order.
    for _, value, pixels in sorted(instances, key=lambda instance: -instance[0]):
        mask[pixels] = value
    return mask, pixelless


def instance_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The pixels of a COCO segmentation.

    Args:
        segmentation: A list of polygons [x, y, x, y, ...], or run lengths: ``size``
            [H, W] and ``counts``, a list or COCO's string.
        height: Height of the image.
        width: Width of the image.

    Shape:
        - output: (H, W) bool

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: It is none of these, has another size, or lies outside the image.
    """
    if isinstance(segmentation, list):
        polygons = [_polygon(item, height, width) for item in segmentation]
        # Fewer than three corners have no area, and pycocotools takes two for a box.
        polygons = [item for item in polygons if len(item) >= 6]
        if not polygons:
            return np.zeros((height, width), dtype=bool)
        masks = run_lengths()
        return masks.decode(
            masks.merge(masks.frPyObjects(polygons, height, width))
        ).astype(bool)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= {*segmentation}:
        raise ValueError(
            "the segmentation must be a list of polygons, or run lengths with size and "
            "counts"
        )
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(
            f"its run lengths are of (H, W) = {segmentation['size']}, the image is "
            f"{[height, width]}"
        )
    # pycocotools reads past the end of run lengths that are too short.
    runs = segmentation["counts"]
    runs = _decode_runs(runs) if isinstance(runs, str) else runs
    valid = isinstance(runs, list) and all(type(r) is int and r >= 0 for r in runs)
    if not valid or sum(runs) != height * width:
        raise ValueError(
            f"its run lengths must be integers with the sum {height * width}, the "
            "number of pixels"
        )
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return pixels.reshape(width, height).T


def _decode_runs(text: str) -> list[int]:
    """Run lengths from COCO's string (pycocotools' maskApi.c, rleFrString).

    A number is written in digits of five bits, lowest first; bit 6 says that there is
    one more, the last digit's bit 5 is the sign. From the fourth number on, it is the
    difference to the number before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            raise ValueError(f"its run lengths hold the character {character!r}")
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if not shift else []


def _polygon(polygon: Any, height: int, width: int) -> list[float]:
    numbers = isinstance(polygon, list) and all(
        isinstance(x, (int, float)) and math.isfinite(x) for x in polygon
    )
    if not numbers or len(polygon) % 2:
        raise ValueError("a polygon must be a list of numbers x, y, x, y, ...")
    for name, values, side in (
        ("x", polygon[::2], width),
        ("y", polygon[1::2], height),
    ):
        # What sticks out a little is cut off; what lies elsewhere is another image's.
        low, high = min(values, default=0), max(values, default=0)
        if low > side or high < 0 or low < -side or high > 2 * side:
            raise ValueError(
                f"a polygon lies outside the image: {name} from {low:g} to {high:g}; "
                f"the image has (W, H) = {(width, height)}"
            )
    return polygon


def _load(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"there is no annotation file {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error
    keys = ("images", "annotations", "categories")
    for key in keys:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(
                f"{path} is not a COCO annotation: it needs the lists "
                f"{', '.join(keys)}, and has no {key}"
            )
    needed = dict(
        images=("id", "height", "width"),
        annotations=("id", "image_id", "category_id", "segmentation"),
        categories=("id", "name"),
    )
    for key, fields in needed.items():
        for number, entry in enumerate(content[key]):
            has = entry if isinstance(entry, dict) else ()
            missing = [name for name in fields if name not in has]
            if missing:
                name = f" (id {entry['id']})" if "id" not in missing else ""
                raise ValueError(
                    f"{path}: {key}[{number}]{name} lacks {', '.join(missing)}"
                )
        if key != "annotations":
            twice = Counter(entry["id"] for entry in content[key]).most_common(1)
            if twice and twice[0][1] > 1:
                raise ValueError(f"{path}: {key}: two have the id {twice[0][0]}")
    return content


def _category_ids(
    entries: Sequence[Mapping], chosen: Sequence[str] | None, path: Path
) -> dict[str, int]:
    """Category id by name, in the order of the labels."""
    ids = {e["name"]: e["id"] for e in sorted(entries, key=lambda e: e["id"])}
    if len(ids) != len(entries):
        raise ValueError(f"{path}: categories: two have the same name")
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
    content: Mapping,
    ids: Mapping[str, int],
    path: Path,
    split: str,
    folder: str | None,
) -> list[_Image]:
    """The images with the annotations of the chosen categories."""
    classes = {number: (i, name) for i, (name, number) in enumerate(ids.items(), 1)}
    known = {entry["id"] for entry in content["categories"]}
    images = {}
    for entry in content["images"]:
        source = f"{path}: image id {entry['id']}"
        item = Tagged(_image_path(entry, source, split, folder), set(), source)
        images[entry["id"]] = _Image(item, (entry["height"], entry["width"]), [])
    for annotation in content["annotations"]:
        for key, keys in (("image_id", images), ("category_id", known)):
            if annotation[key] not in keys:
                raise ValueError(
                    f"{path}: annotation id {annotation['id']} has the unknown {key} "
                    f"{annotation[key]}"
                )
        if annotation["category_id"] in classes:
            value, name = classes[annotation["category_id"]]
            image = images[annotation["image_id"]]
            image.item.tags.add(name)
            image.annotations.append(dict(annotation, value=value))
    return list(images.values())


def _image_path(entry: Mapping, source: str, split: str, folder: str | None) -> str:
    """Path of an image from the data set's folder."""
    name = entry.get("file_name")
    if name is None:
        # LVIS v1: http://images.cocodataset.org/train2017/000000391895.jpg
        url = PurePosixPath(entry.get("coco_url") or "")
        if len(url.parts) < 2:
            raise ValueError(f"{source} lacks file_name (in LVIS: coco_url)")
        split, name = url.parts[-2:]
    return str(PurePosixPath(split if folder is None else folder, name))


def _stem(item: Tagged) -> str:
    return PurePosixPath(item.image).stem


def _check_sizes(root: Path, images: Sequence[_Image], split: str) -> None:
    """Refuse images that are missing or have another size than their entry says."""
    items = [image.item for image in images]
    paths = [str(root / item.image) for item in items]
    check_there(items, paths, f"images of {split}")
    faults = [
        f"{image.item.source}: says (H, W) = {list(image.size)}, {path} has "
        f"{[height, width]}"
        for image, path, (width, height) in zip(
            images, paths, check_readable(items, paths, decode=False)
        )
        if image.size != (height, width)
    ]
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(images)} images of {split} have another size than "
            "their annotation says:" + bullets(faults)
        )
