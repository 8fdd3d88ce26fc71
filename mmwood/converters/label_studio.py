"""Tags from the exports of Label Studio: image classification with Choices.

JSON has one task an image with its annotations, JSON-MIN and CSV have one row an
annotation.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmwood.converters.source import TagSource
from mmwood.converters.table import REMEDY
from mmwood.fileio.files import read_json
from mmwood.fileio.lists import TaggedImage
from mmwood.fileio.tables import merge_rows, read_rows

__all__ = ["read_label_studio"]

#: What has the options that messages name.
_TOOL = "of tools/dataset_converters/tags.py"


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
        tasks = read_json(path, "export")
        if not isinstance(tasks, list) or not all(isinstance(t, dict) for t in tasks):
            raise ValueError(
                f"{path} is not an export of Label Studio: expected a list of objects"
            )
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
        annotations = task.get("annotations")
        if not (
            isinstance(annotations, list)
            and all(isinstance(annotation, dict) for annotation in annotations)
        ):
            raise ValueError(
                f"{source}: lacks the list of annotations: export the project as JSON"
            )
        used = [a for a in annotations if not a.get("was_cancelled")]
        cancelled += len(annotations) - len(used)
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
    for count, what in (
        (without, "tasks have no annotation and are left out"),
        (cancelled, "cancelled annotations are left out"),
    ):
        if count:
            notes.append(f"{path}: {count} {what}")
    return items


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
