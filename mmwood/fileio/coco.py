"""COCO and LVIS annotations: the one reader, decoder and writer of their instances.

Whoever draws instances, scores them or takes tags from them reads the file here.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from mmwood.fileio.files import read_json
from mmwood.fileio.lists import TaggedImage, check_id
from mmwood.fileio.run_lengths import lengths_of_runs
from mmwood.utils.require import require

#: Fields that every entry needs.
_FIELDS = dict(
    images=("id",), categories=("id", "name"), annotations=("image_id", "category_id")
)


class CocoFile(NamedTuple):
    """The entries of an annotation file.

    Attributes:
        images: By their id, in the order of the file.
        annotations: Each of a known image and category.
        categories: Name by id, in the order of the ids.
        sources: Where an entry of ``images`` or ``annotations`` stands, for errors:
            ``file: images[3] (id 7)``.
    """

    images: dict[int, dict]
    annotations: list[dict]
    categories: dict[int, str]
    sources: Callable[[str, int], str]


def read_coco(
    path: str | os.PathLike,
    image_fields: Sequence[str] = (),
    annotation_fields: Sequence[str] = (),
    object_hook: Callable[[dict], Any] | None = None,
    annotated: bool = True,
) -> CocoFile:
    """Read an annotation file and check that its entries belong together.

    Args:
        path: The file.
        image_fields: What every image must have beside its id.
        annotation_fields: What every annotation must have beside ``image_id`` and
            ``category_id``.
        object_hook: Of :func:`json.loads`, to leave out what is not needed.
        annotated: Whether there must be a list of annotations; files of test images
            have none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such JSON, an entry lacks a field, two have one id, or an
            annotation is of an unknown image or category; the message names the entry.
    """
    content = read_json(path, "annotation file", object_hook)
    if isinstance(content, dict) and not annotated:
        content.setdefault("annotations", [])
    for key in _FIELDS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(
                f"{path} is no COCO annotation: it needs the lists "
                f"{', '.join(_FIELDS)}, and has no {key}"
            )

    def source(key: str, place: int) -> str:
        entry = content[key][place]
        has_id = isinstance(entry, dict) and "id" in entry
        return f"{path}: {key}[{place}]" + (f" (id {entry['id']})" if has_id else "")

    def entries(key: str, *fields: str) -> Iterator[tuple[int, dict]]:
        for place, entry in enumerate(content[key]):
            has = entry if isinstance(entry, dict) else ()
            lacking = [field for field in (*_FIELDS[key], *fields) if field not in has]
            if lacking:
                raise ValueError(f"{source(key, place)} lacks {', '.join(lacking)}")
            yield place, entry

    images: dict[int, dict] = {}
    classes: dict[int, dict] = {}
    for key, table, fields in (
        ("images", images, image_fields),
        ("categories", classes, ()),
    ):
        for place, entry in entries(key, *fields):
            if isinstance(entry["id"], (list, dict)):
                raise ValueError(f"{source(key, place)}: its id is no number")
            if table.setdefault(entry["id"], entry) is not entry:
                raise ValueError(f"{source(key, place)}: another one has this id")
    for place, entry in entries("annotations", *annotation_fields):
        for field, table in (("image_id", images), ("category_id", classes)):
            value = entry[field]
            if isinstance(value, (list, dict)) or value not in table:
                raise ValueError(
                    f"{source('annotations', place)} has the unknown {field} {value}"
                )
    try:
        categories = {number: classes[number]["name"] for number in sorted(classes)}
    except TypeError as error:
        raise ValueError(f"{path}: categories: ids are numbers and texts") from error
    numbers: dict[str, int] = {}
    for number, name in categories.items():
        if not isinstance(name, str) or numbers.setdefault(name, number) != number:
            raise ValueError(
                f"{path}: categories: {name!r} (id {number}) is no name, or two have it"
            )
    return CocoFile(images, content["annotations"], categories, source)


def image_name(entry: Mapping[str, Any], source: str) -> tuple[str, str]:
    """The folder (split) that an image's address names, or '', and its file name.

    LVIS names an image by its address alone:
    ``http://images.cocodataset.org/train2017/000000391895.jpg``.

    Raises:
        ValueError: It has neither, or the name leads out of its folder.
    """
    name, url = entry.get("file_name"), entry.get("coco_url")
    if url is not None and not isinstance(url, str):
        raise ValueError(f"{source}: coco_url is {url!r}, no address")
    parts = PurePosixPath(url or "").parts
    folder = parts[-2] if len(parts) > 1 else ""
    if name is None and not folder:
        raise ValueError(f"{source} lacks file_name (in LVIS: coco_url)")
    name = parts[-1] if name is None else name
    if not isinstance(name, str):
        raise ValueError(f"{source}: file_name is {name!r}, no text")
    return folder, check_id(name, source, "file_name")


def entry_size(entry: Mapping[str, Any], source: str) -> tuple[int, int]:
    """Height and width of an image; whole floats are whole numbers.

    Raises:
        ValueError: They are none, or not positive.
    """
    sides = entry["height"], entry["width"]
    if not all(
        isinstance(side, (int, float)) and side > 0 and side % 1 == 0 for side in sides
    ):
        raise ValueError(f"{source}: height and width are {sides}")
    return int(sides[0]), int(sides[1])


def tags_from_coco(
    path: str | os.PathLike,
) -> tuple[list[TaggedImage], tuple[str, ...]]:
    """Images and tags of an annotation file, and its classes in the order of their ids.

    Crowds count as shown.

    Raises:
        FileNotFoundError, ValueError: As :func:`read_coco` and :func:`image_name`.
    """
    coco = read_coco(path)
    tags: dict[int, set[str]] = {number: set() for number in coco.images}
    for entry in coco.annotations:
        tags[entry["image_id"]].add(coco.categories[entry["category_id"]])
    items = []
    for place, (number, entry) in enumerate(coco.images.items()):
        source = coco.sources("images", place)
        items.append(TaggedImage(image_name(entry, source)[1], tags[number], source))
    return items, tuple(coco.categories.values())


def instance_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The pixels of a segmentation in any of COCO's forms.

    It is a list of polygons [x, y, x, y, ...], or run lengths: ``size`` [H, W] and
    ``counts``, a list or COCO's string. Without a polygon of three points nothing is
    covered.

    Shape:
        - output: (H, W) bool

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: It is none of these, has another size, or lies outside the image.
    """
    rle = _run_lengths_of(segmentation, height, width)
    if rle is None:
        return np.zeros((height, width), dtype=bool)
    return run_lengths().decode(rle).astype(bool)


def instance_columns(
    segmentation: Any, height: int, width: int
) -> tuple[int, np.ndarray]:
    """As :func:`instance_mask`, of the columns alone that a segmentation covers.

    Of a large image that saves the time to go through all of it.

    Returns:
        The first of these columns, and their part of the mask.

    Shape:
        - output: (H, w) bool

    Example:
        >>> instance_columns(dict(size=[2, 3], counts=[3, 1, 2]), 2, 3)[1].tolist()
        [[False], [True]]
    """
    rle = _run_lengths_of(segmentation, height, width)
    runs = [] if rle is None else _decode_runs(rle["counts"].decode("ascii"))
    borders = np.cumsum(runs, dtype=np.int64)
    # From the end of the first run, which is outside, to that of the last one inside.
    inside = borders[: len(borders) // 2 * 2]
    if not len(inside) or inside[0] == inside[-1]:
        return 0, np.zeros((height, 0), dtype=bool)
    left, right = int(inside[0]) // height, -(-int(inside[-1]) // height)
    borders = np.clip(np.append(0, borders), left * height, right * height)
    lengths = np.diff(borders, append=right * height)
    values = np.arange(len(lengths)) % 2 == 1
    return left, np.repeat(values, lengths).reshape(-1, height).T


def _run_lengths_of(segmentation: Any, height: int, width: int) -> dict | None:
    """A segmentation as run lengths of pycocotools; None if it covers nothing."""
    if isinstance(segmentation, list):
        polygons = [_polygon(item, height, width) for item in segmentation]
        # Fewer than three corners have no area, and pycocotools takes two for a box.
        polygons = [item for item in polygons if len(item) >= 6]
        if not polygons:
            return None
        masks = run_lengths()
        return masks.merge(masks.frPyObjects(polygons, height, width))
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= {*segmentation}:
        raise ValueError(
            "the segmentation must be a list of polygons, or run lengths with size and "
            "counts"
        )
    size = segmentation["size"]
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        raise ValueError(
            f"its run lengths are of (H, W) = {size}, the image is {[height, width]}"
        )
    # pycocotools reads past the end of run lengths that are too short.
    runs = segmentation["counts"]
    runs = runs.decode("ascii", "replace") if isinstance(runs, bytes) else runs
    runs = _decode_runs(runs) if isinstance(runs, str) else runs
    valid = isinstance(runs, list) and all(type(r) is int and r >= 0 for r in runs)
    if not valid or sum(runs) != height * width:
        raise ValueError(
            f"its run lengths must be integers with the sum {height * width}, the "
            "number of pixels"
        )
    return run_lengths().frPyObjects(dict(size=[height, width], counts=runs), 0, 0)


class Layer(NamedTuple):
    """An instance as it is drawn.

    Attributes:
        annotation: Its entry.
        mask: Its pixels. Shape: (H, W) bool.
        crowd: Whether it is a crowd.
    """

    annotation: Mapping[str, Any]
    mask: np.ndarray
    crowd: bool


def layered_masks(
    annotations: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    path: str | os.PathLike = "annotations",
) -> tuple[list[Layer], list[str]]:
    """The masks of an image's annotations in the order in which they are drawn.

    Crowds come first, below all; then instances, the largest first, so that the smaller
    one is seen. Of equally many pixels, the last one is seen.

    Each annotation has ``segmentation`` and perhaps ``id`` and ``iscrowd``; errors call
    their source ``path``.

    Returns:
        The layers, and the sources of annotations that cover no pixel.

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: A segmentation is not one of this image; the message names it.
    """
    layers, pixelless = [], []
    for place, annotation in enumerate(annotations):
        source = f"{path}: annotation id {annotation.get('id', f'[{place}]')}"
        try:
            mask = instance_mask(annotation["segmentation"], *size)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        area = int(mask.sum())
        if not area:
            pixelless.append(source)
            continue
        layer = Layer(annotation, mask, bool(annotation.get("iscrowd")))
        layers.append((not layer.crowd, -area, layer))
    # Stable: equal areas stay in their order.
    layers.sort(key=lambda item: item[:2])
    return [layer for *_, layer in layers], pixelless


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


def _polygon(polygon: Any, height: int, width: int) -> Sequence[float]:
    try:
        numbers = not isinstance(polygon, (str, bytes, dict)) and all(
            math.isfinite(x) and not isinstance(x, bool) for x in polygon
        )
    except TypeError:
        numbers = False
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
    return list(polygon)


def encode_mask(mask: np.ndarray) -> dict:
    """COCO's compressed run lengths of a mask, ready for JSON.

    Returns:
        ``size``, the list [H, W], and ``counts``, a str.

    Shape:
        - mask: (H, W) bool

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: ``mask`` is not a two-dimensional array of bool.

    Example:
        >>> encode_mask(np.array([[True, False], [True, True]]))
        {'size': [2, 2], 'counts': '021O'}
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(
            f"mask must be (H, W) bool, but is {mask.dtype} of shape {mask.shape}"
        )
    rle = run_lengths().encode(np.asfortranarray(mask.view(np.uint8)))
    return dict(size=list(mask.shape), counts=rle["counts"].decode("ascii"))


def encode_part(mask: np.ndarray, left: int, top: int, size: tuple[int, int]) -> dict:
    """As :func:`encode_mask`, of a mask in a box, in an image of ``size`` (H, W).

    Shape:
        - mask: (h, w) bool

    Example:
        >>> encode_part(np.array([[True]]), 1, 0, (2, 2))
        {'size': [2, 2], 'counts': '211'}
    """
    height, width = size
    columns, rows = np.nonzero(mask.T)
    places = (columns + left) * height + rows + top
    runs = lengths_of_runs(places, height * width)
    rle = run_lengths().frPyObjects(dict(size=[height, width], counts=runs), 0, 0)
    return dict(size=[height, width], counts=rle["counts"].decode("ascii"))


def merge_instances(
    parts: Iterable[Mapping[str, Any]], class_names: Sequence[str]
) -> dict:
    """One COCO annotation from the instances of every image.

    Args:
        parts: One mapping per image: ``image`` with its ``file_name``, ``width`` and
            ``height``, and ``instances``, each with its ``category_id`` (from 1, in
            the order of ``class_names``), ``score``, ``segmentation`` (of
            :func:`encode_mask`), ``area`` and ``bbox``.
        class_names: Names of the classes, without a background.

    Returns:
        ``images``, ``annotations`` and ``categories``, ready for JSON. Images and
        annotations are numbered from 1 in the order of ``parts``.

    Raises:
        ValueError: A file name occurs twice, a category has no name, or a mask does
            not have its image's size.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    seen = set()
    for image_id, part in enumerate(parts, start=1):
        image = part["image"]
        name = image["file_name"]
        if name in seen:
            raise ValueError(f"parts: image {name!r} occurs twice")
        seen.add(name)
        size = [image["height"], image["width"]]
        images.append(dict(id=image_id, file_name=name, width=size[1], height=size[0]))
        for instance in part["instances"]:
            category, count = instance["category_id"], len(class_names)
            if not 1 <= category <= count:
                raise ValueError(
                    f"parts: image {name!r} has an instance with category_id "
                    f"{category}; with {count} classes it must be in 1..{count}"
                )
            own = list(instance["segmentation"]["size"])
            if own != size:
                raise ValueError(
                    f"parts: image {name!r} has (H, W) = {size}, a segmentation of it "
                    f"{own}"
                )
            fields = ("category_id", "segmentation", "area", "bbox", "score")
            annotation = {field: instance[field] for field in fields}
            number = len(annotations) + 1
            annotations.append(
                dict(annotation, id=number, image_id=image_id, iscrowd=0)
            )
    categories = [
        dict(id=number, name=name) for number, name in enumerate(class_names, start=1)
    ]
    return dict(images=images, annotations=annotations, categories=categories)


def run_lengths(user: str = "drawing COCO masks") -> ModuleType:
    """``pycocotools.mask``.

    Raises:
        ImportError: pycocotools is not installed; the message says how to install it.
    """
    return require("pycocotools.mask", "coco", user)
