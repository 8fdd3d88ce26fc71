"""CVAT's "CVAT for images 1.1": tags of whole images, and masks of their regions.

Source: CVAT's documentation, XML annotation format.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from mmwood.converters.coco import box_corners, coco_part
from mmwood.converters.source import (
    AnnotatedImage,
    Label,
    LabelledImage,
    Part,
    Region,
    RegionSource,
    TagSource,
)
from mmwood.fileio.files import read_xml
from mmwood.fileio.lists import TaggedImage
from mmwood.fileio.run_lengths import decode_cvat, encode_cvat

#: The attributes of a mask's box.
_BOX = ("left", "top", "width", "height")


def read_cvat(path: Path) -> TagSource:
    """Tags from the ``<tag>`` elements of an ``annotations.xml``.

    The classes are the project's labels that may be tags, in its order. Boxes,
    polygons and other shapes are left out and counted.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such XML, names an image twice, or has shapes alone.
    """
    root = read_xml(path, "export")
    items: list[TaggedImage] = []
    shapes = 0
    for source, name, image in _images(root, path):
        labels = [tag.get("label", "").strip() for tag in image.findall("tag")]
        if not all(labels):
            raise ValueError(f"{source}: a <tag> has no label")
        items.append(TaggedImage(name, set(labels), source))
        shapes += len(image) - len(labels)
    if shapes and not any(item.tags for item in items):
        raise ValueError(
            f"{path}: no image has a tag, they have {shapes} shapes: tag whole images, "
            "with labels of the type tag"
        )
    classes = [
        (label.findtext("name") or "").strip()
        for label in root.findall("meta//label")
        if (label.findtext("type") or "any").strip() in ("any", "tag")
    ]
    notes = [f"{path}: {shapes} shapes are left out"] if shapes else []
    return TagSource(items, list(dict.fromkeys(classes)) or None, notes)


def read_cvat_regions(path: Path, boxes: bool = False) -> RegionSource:
    """Regions from the ``<mask>`` and ``<polygon>`` elements of an ``annotations.xml``.

    A polygon covers what it does in COCO. Regions of a higher ``z_order`` cover those
    of lower ones, later ones earlier ones. Other shapes are left out and counted, and
    so are ``<box>`` elements without ``boxes``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such XML, names an image twice, or an element lacks
            an attribute.
    """
    images = []
    others: Counter[str] = Counter()
    kinds = ("mask", "polygon", "box") if boxes else ("mask", "polygon")
    for source, name, image in _images(read_xml(path, "export"), path):
        height, width = _numbers(image, ("height", "width"), source)
        regions = []
        decode: Callable[[], tuple[int, int, np.ndarray]]
        for number, shape in enumerate(image):
            if shape.tag not in kinds:
                others[shape.tag] += 1
                continue
            place = f"{source}: <{shape.tag}> [{number}]"
            label = shape.get("label", "").strip()
            if not label:
                raise ValueError(f"{place}: has no label")
            shape.attrib.setdefault("z_order", "0")
            (layer,) = _numbers(shape, ("z_order",), place)
            if shape.tag == "mask":
                left, top, w, h = _numbers(shape, _BOX, place)
                rle, box = shape.get("rle", ""), (left, top, w, h)
                decode = partial(_decode, rle, box, (height, width))
            else:
                points = (
                    _corners(shape, place)
                    if shape.tag == "box"
                    else _points(shape.get("points", ""), place)
                )
                decode = partial(coco_part, [points], height, width)
            regions.append(Region(place, label, decode, layer))
        images.append(AnnotatedImage(name, source, (height, width), regions))
    notes = [
        f"{path}: {count} <{tag}> elements are left out: they are no regions"
        for tag, count in sorted(others.items())
    ]
    return RegionSource(images, notes)


def write_cvat(
    file: TextIO,
    images: Iterable[LabelledImage],
    labels: Sequence[Label],
) -> None:
    """Write label maps: each part is a ``<mask>``."""
    meta = Element("meta")
    task = SubElement(meta, "task")
    SubElement(task, "name").text = "mmwood"
    listed = SubElement(task, "labels")
    for label in labels:
        entry = SubElement(listed, "label")
        SubElement(entry, "name").text = label.name
        SubElement(entry, "color").text = label.colour
        SubElement(entry, "type").text = "any"
        SubElement(entry, "attributes")
    file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
    file.write(f"<version>1.1</version>\n{tostring(meta, 'unicode')}\n")
    for number, image in enumerate(images):
        height, width = map(str, image.size)
        attributes = dict(id=str(number), name=image.name, width=width, height=height)
        element = Element("image", attributes)
        element.extend(map(_mask, image.parts))
        file.write(f"{tostring(element, 'unicode')}\n")
    file.write("</annotations>\n")


def write_cvat_labels(file: TextIO, labels: Sequence[Label]) -> None:
    """Write what the tab Raw of CVAT's constructor of labels takes."""
    content = [
        dict(name=label.name, color=label.colour, type="any", attributes=[])
        for label in labels
    ]
    json.dump(content, file, indent=2)


def _mask(part: Part) -> Element:
    height, width = part.mask.shape
    box = zip(_BOX, map(str, (part.left, part.top, width, height)))
    attributes = dict(label=part.label.name, source="auto", occluded="0", z_order="0")
    return Element("mask", attributes | dict(box), rle=encode_cvat(part.mask))


def _decode(
    rle: str, box: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[int, int, np.ndarray]:
    return box[0], box[1], decode_cvat(rle, box, size)


def _images(root: Element, path: Path) -> Iterator[tuple[str, str, Element]]:
    """Source, name and element of each image."""
    images = root.findall("image")
    if root.tag != "annotations" or not images:
        raise ValueError(
            f"{path} is not an export 'CVAT for images 1.1': expected <annotations> "
            f"with <image> elements, got <{root.tag}>"
        )
    sources: dict[str, str] = {}
    for number, image in enumerate(images):
        source = f"{path}: image id {image.get('id', f'[{number}]')}"
        name = image.get("name")
        if not name:
            raise ValueError(f"{source}: has no name")
        if name in sources:
            raise ValueError(f"{source}: {name!r} is also {sources[name]}")
        sources[name] = source
        yield source, name, image


def _numbers(element: Element, names: Sequence[str], source: str) -> tuple[int, ...]:
    texts = [element.get(name, "") for name in names]
    try:
        return tuple(map(int, texts))
    except ValueError as error:
        raise ValueError(
            f"{source}: its {', '.join(names)} must be whole numbers, got {texts}"
        ) from error


def _corners(box: Element, source: str) -> list[float]:
    """A box, which may be turned about its centre, as a polygon."""
    names = ("xtl", "ytl", "xbr", "ybr", "rotation")
    texts = [box.get(name, "0" if name == "rotation" else "") for name in names]
    try:
        left, top, right, bottom, degrees = map(float, texts)
    except ValueError as error:
        raise ValueError(
            f"{source}: its {', '.join(names)} must be numbers, got {texts}"
        ) from error
    return box_corners((left, top, right - left, bottom - top), degrees, (0.5, 0.5))


def _points(text: str, source: str) -> list[float]:
    try:
        return [float(x) for point in text.split(";") for x in point.split(",")]
    except ValueError as error:
        raise ValueError(f"{source}: its points are not x,y;x,y;...") from error
