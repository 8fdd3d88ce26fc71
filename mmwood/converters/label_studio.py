"""Label Studio: tags from Choices, and masks of BrushLabels and PolygonLabels.

JSON has one task an image with its annotations, JSON-MIN and CSV have one row an
annotation; these two hold no masks.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

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
from mmwood.converters.table import REMEDY
from mmwood.fileio.files import read_json
from mmwood.fileio.lists import TaggedImage
from mmwood.fileio.run_lengths import decode_brush, encode_brush
from mmwood.fileio.tables import merge_rows, read_rows

#: What has the options that messages name.
_TOOL = "of tools/dataset_converters/tags.py"
#: The kinds of regions that have pixels.
_REGIONS = ("brushlabels", "polygonlabels")
_BOXES = "rectanglelabels"
#: What our labeling config calls the control and the image.
_CONTROL, _OBJECT = "label", "image"


def read_label_studio(
    path: Path, control: str | None = None, image_key: str = "image"
) -> TagSource:
    """Tags from a JSON, JSON-MIN or CSV export, told apart by suffix and content.

    An image that several people annotated has the tags of all of them. Tasks without
    an annotation, and annotations that were cancelled, are left out and counted.

    Args:
        path: The export.
        control: Name of the ``<Choices>``: ``from_name`` in JSON, column in CSV. None
            is the only one in JSON, and 'choice' in the others.
        image_key: Name of the image in the tasks' data, and its column in CSV.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such export; the message names line or task.
    """
    notes: list[str] = []
    if path.suffix.lower() == ".csv":
        columns = (image_key, control or "choice")
        items = [
            TaggedImage(image, _choices(cell, source), source)
            for source, (image, cell) in read_rows(path, columns, remedy=REMEDY)
        ]
    else:
        tasks = _read_tasks(path)
        if any("data" in task for task in tasks):
            items = _from_tasks(tasks, path, control, image_key, notes)
        else:
            items = _from_min(tasks, path, control or "choice", image_key)
    given = defaultdict(list)
    for item in items:
        given[item.image].append(set(item.tags or ()))
    disagree = sum(any(tags != sets[0] for tags in sets) for sets in given.values())
    if disagree:
        notes.append(
            f"{path}: {disagree} images have annotations that disagree; they get the "
            "tags of all"
        )
    return TagSource(merge_rows(items), notes=notes)


def read_label_studio_regions(path: Path, boxes: bool = False) -> RegionSource:
    """Regions from a JSON export: BrushLabels, PolygonLabels and perhaps boxes.

    Of several annotations of an image, the one that was changed last counts. Its later
    regions cover earlier ones. Other kinds of regions are left out and counted, and so
    are tasks without an annotation and annotations that were cancelled.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such export, a region is not whole, or its image
            turned; the message names the task.
    """
    images, without, cancelled, several = [], 0, 0, 0
    others: Counter[str] = Counter()
    kinds = (*_REGIONS, _BOXES) if boxes else _REGIONS
    for number, task in enumerate(_read_tasks(path)):
        source = f"{path}: task {task.get('id', f'[{number}]')}"
        name = _only_image(task.get("data"), source)
        used, left_out = _annotations(task, source)
        cancelled += left_out
        without += not used
        several += len(used) > 1
        if not used:
            continue
        # Equal dates stay in their order.
        last = sorted(used, key=lambda item: str(item.get("updated_at", "")))[-1]
        regions, sizes = [], set()
        for result in last.get("result") or ():
            if not isinstance(result, dict):
                raise ValueError(f"{source}: its result is {result!r}, no JSON object")
            if result.get("type") not in kinds:
                others[str(result.get("type"))] += 1
                continue
            region, size = _region(result, source)
            regions.append(region)
            sizes.add(size)
        if len(sizes) > 1:
            raise ValueError(f"{source}: its regions are of images of {sorted(sizes)}")
        images.append(AnnotatedImage(name, source, (*sizes, None)[0], regions))
    notes = _left_out(path, without, cancelled)
    if several:
        notes.append(
            f"{path}: {several} tasks have several annotations: the one that was "
            "changed last counts"
        )
    notes += [
        f"{path}: {count} results of the type {kind!r} are left out: they are no "
        "regions of BrushLabels or PolygonLabels"
        for kind, count in sorted(others.items())
    ]
    return RegionSource(images, notes)


def _only_image(data: Any, source: str) -> str:
    """The image in a task's data: of the usual name, or else the only text."""
    texts = {
        key: value
        for key, value in (data.items() if isinstance(data, dict) else ())
        if isinstance(value, str) and value
    }
    if _OBJECT in texts:
        return texts[_OBJECT]
    if len(texts) != 1:
        raise ValueError(
            f"{source}: its data has no {_OBJECT!r}, and not one text alone that could "
            f"be the image: it has {sorted(texts)}"
        )
    return next(iter(texts.values()))


def _region(result: dict, source: str) -> tuple[Region, tuple[int, int]]:
    """A region, and the height and width of its image."""
    place = f"{source}: region {result.get('id')!r}"
    kind, value = result["type"], result.get("value")
    value = value if isinstance(value, dict) else {}
    height, width = result.get("original_height"), result.get("original_width")
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError(
            f"{place}: original_height and original_width are {(height, width)}"
        )
    size = height, width
    if result.get("image_rotation"):
        raise ValueError(
            f"{place}: the image was turned by {result['image_rotation']} degrees in "
            "Label Studio: turn it back there, and export again"
        )
    names = value.get(kind)
    if not isinstance(names, list) or len(names) != 1:
        raise ValueError(f"{place}: needs one label, it has {names}: give it one")
    decode: Callable[[], tuple[int, int, np.ndarray]]
    if kind == "brushlabels":
        decode = partial(_decode, value.get("rle"), size)
    else:
        corners = _box if kind == _BOXES else _polygon
        polygon = corners(value, size, place)
        decode = partial(coco_part, [polygon], *size)
    return Region(place, str(names[0]), decode), size


def _polygon(value: dict, size: tuple[int, int], place: str) -> list[float]:
    try:
        points = np.array(value.get("points"), dtype=float).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: its points are not [[x, y], ...]") from error
    # They are percentages.
    return (points * size[::-1] / 100).ravel().tolist()


def _box(value: dict, size: tuple[int, int], place: str) -> list[float]:
    """A box, which may be turned about its left top corner, as a polygon."""
    names = ("x", "y", "width", "height")
    try:
        sides = np.array([value.get(name) for name in names], dtype=float)
        degrees = float(value.get("rotation") or 0)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{place}: its {', '.join(names)} or rotation is no number"
        ) from error
    # They are percentages, too.
    box = sides * (*size[::-1], *size[::-1]) / 100
    return box_corners(box.tolist(), degrees)


def _decode(rle: Any, size: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    return 0, 0, decode_brush(rle, size)


def local_address(folder: str) -> str:
    """How addresses of a folder's images begin that Label Studio serves itself.

    Args:
        folder: The folder's path from ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``.

    Example:
        >>> local_address('my images')
        '/data/local-files/?d=my%20images/'
    """
    return f"/data/local-files/?d={quote(folder)}/"


def write_label_studio(
    file: TextIO, images: Iterable[LabelledImage], address: str
) -> None:
    """Write label maps as tasks with predictions: each part is a region of a brush.

    Args:
        file: What to write to.
        images: The images.
        address: What stands before an image's name in its address. The name is
            written with percent signs.
    """
    file.write("[")
    for number, image in enumerate(images):
        results = [
            _result(part_number, image, part)
            for part_number, part in enumerate(image.parts)
        ]
        task = dict(
            data={_OBJECT: address + quote(image.name)},
            predictions=[dict(model_version="mmwood", result=results)],
        )
        file.write(("," if number else "") + f"\n{json.dumps(task)}")
    file.write("\n]\n")


def _result(number: int, image: LabelledImage, part: Part) -> dict:
    mask = np.zeros(image.size, dtype=bool)
    height, width = part.mask.shape
    mask[part.top : part.top + height, part.left : part.left + width] = part.mask
    rle = encode_brush(mask)
    return dict(
        id=f"mmwood-{number}",
        type="brushlabels",
        from_name=_CONTROL,
        to_name=_OBJECT,
        original_width=image.size[1],
        original_height=image.size[0],
        image_rotation=0,
        value=dict(format="rle", rle=rle, brushlabels=[part.label.name]),
    )


def write_label_studio_config(file: TextIO, labels: Sequence[Label]) -> None:
    """Write the labeling config of these tasks."""
    view = Element("View")
    SubElement(view, "Image", name=_OBJECT, value=f"${_OBJECT}", zoom="true")
    control = SubElement(view, "BrushLabels", name=_CONTROL, toName=_OBJECT)
    for label in labels:
        SubElement(control, "Label", value=label.name, background=label.colour)
    indent(view)
    file.write(f"{tostring(view, 'unicode')}\n")


def _from_tasks(
    tasks: Iterable[dict],
    path: Path,
    control: str | None,
    image_key: str,
    notes: list[str],
) -> list[TaggedImage]:
    items, controls, others, without, cancelled = [], set(), set(), 0, 0
    for number, task in enumerate(tasks):
        source = f"{path}: task {task.get('id', f'[{number}]')}"
        image = _image(task.get("data"), image_key, source)
        used, left_out = _annotations(task, source)
        cancelled += left_out
        without += not used
        for annotation in used:
            tags: set[str] = set()
            for result in annotation.get("result") or ():
                if result.get("type") != "choices":
                    others.add(str(result.get("type")))
                    continue
                name = result.get("from_name")
                controls.add(name)
                if control in (None, name):
                    tags |= _choices(result.get("value"), source)
            items.append(TaggedImage(image, tags, source))
    if control is None and others and not controls:
        raise ValueError(
            f"{path} has no Choices, it has {sorted(others)}: classify whole images, "
            "with Choices"
        )
    if control is None and len(controls) > 1:
        raise ValueError(
            f"{path} has several Choices: name one of {sorted(controls)} with "
            f"--control {_TOOL}"
        )
    if control is not None and control not in controls:
        raise ValueError(
            f"{path} has no Choices {control!r} (--control {_TOOL}); it has "
            f"{sorted(controls)}"
        )
    notes += _left_out(path, without, cancelled)
    return items


def _left_out(path: Path, without: int, cancelled: int) -> list[str]:
    return [
        f"{path}: {count} {what}"
        for count, what in (
            (without, "tasks have no annotation and are left out"),
            (cancelled, "cancelled annotations are left out"),
        )
        if count
    ]


def _read_tasks(path: Path) -> list[dict]:
    tasks = read_json(path, "export")
    if not isinstance(tasks, list) or not all(isinstance(t, dict) for t in tasks):
        raise ValueError(
            f"{path} is not an export of Label Studio: expected a list of objects"
        )
    return tasks


def _annotations(task: dict, source: str) -> tuple[list[dict], int]:
    """The annotations of a task, and how many others were cancelled."""
    annotations = task.get("annotations")
    if not (
        isinstance(annotations, list)
        and all(isinstance(annotation, dict) for annotation in annotations)
    ):
        raise ValueError(
            f"{source}: lacks the list of annotations: export the project as JSON"
        )
    used = [a for a in annotations if not a.get("was_cancelled")]
    return used, len(annotations) - len(used)


def _from_min(
    tasks: Iterable[dict], path: Path, control: str, image_key: str
) -> list[TaggedImage]:
    items = []
    if tasks and not any(control in task for task in tasks):
        keys = sorted(set().union(*tasks))
        raise ValueError(
            f"{path}: no task has the Choices {control!r} (--control {_TOOL}); they "
            f"have {keys}"
        )
    for number, task in enumerate(tasks):
        source = f"{path}: task {task.get('id', f'[{number}]')}"
        image = _image(task, image_key, source)
        tags = _choices(task.get(control) or "", source)
        items.append(TaggedImage(image, tags, source))
    return items


def _image(data: Any, key: str, source: str) -> str:
    image = data.get(key) if isinstance(data, dict) else None
    if not isinstance(image, str) or not image:
        keys = sorted(data) if isinstance(data, dict) else data
        raise ValueError(
            f"{source}: its data has no image {key!r} (--image-key {_TOOL}); it has "
            f"{keys}"
        )
    return image


def _choices(value: Any, source: str) -> set[str]:
    """The names of what was chosen.

    A text is one name, or in CSV the JSON of the other forms: {"choices": [names]}, or
    a list of all these where a task has several results.
    """
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{source}: not JSON: {value!r}: {error.msg}") from error
    if isinstance(value, str):
        return {value.strip()} - {""}
    if isinstance(value, Mapping):
        value = value.get("choices")
    if not isinstance(value, list):
        raise ValueError(
            f'{source}: expected a name, {{"choices": [names]}} or a list of both, got '
            f"{json.dumps(value)}"
        )
    return set().union(*(_choices(item, source) for item in value))
