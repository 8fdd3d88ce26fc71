"""Reviewed OoD images for the trainers of other programs: images of no object."""

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from mmwood.converters.writer import Writer, find_record
from mmwood.fileio.coco import merge_instances, read_coco
from mmwood.fileio.files import read_json, text_sha256, write_json
from mmwood.fileio.images import UNREADABLE, image_size, open_upright, unreadable
from mmwood.utils.check import one_of

Trainer = Literal["yolo", "coco", "nnunet", "mmseg", "list"]

#: What describes an export.
RECORD = "mmwood.json"
FORMAT = "mmwood hard negatives 1"
#: Before the names of files, so that they are told from those of a training set.
PREFIX = "ood_"
#: What nnU-Net reads of photographs, and what Pillow writes of these.
_NNUNET = (".png", ".bmp", ".tif")
_MODES = {1: "L", 3: "RGB"}
#: EXIF's; 1 is upright.
_ORIENTATION = 0x0112


class _Image(NamedTuple):
    """An image; its name is that of its files, without suffix."""

    name: str
    path: Path


@dataclass
class _Export:
    """Where images go; ``form`` is what is said of them beside."""

    out: Path
    items: Sequence[_Image]
    form: dict[str, Any]
    writer: Writer
    link: bool
    progress: Callable[[Iterable], Iterable]

    def place(self, item: _Image, target: Path) -> None:
        """Copy or link an image."""
        if self.link:
            self.writer.link(target, item.path.absolute())
        else:
            self.writer.content(target, item.path.read_bytes())

    def images(self) -> Iterator[tuple[_Image, Path]]:
        """Put every image below ``images``; gives its place."""
        for item in self.progress(self.items):
            target = self.out / "images" / f"{item.name}{item.path.suffix}"
            self.place(item, target)
            yield item, target


def export_hard_negatives(
    images: Sequence[str | os.PathLike],
    out: Path,
    trainer: Trainer,
    classes: Sequence[str],
    like: Path | None = None,
    link: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """Write images that show no object as training data without an object.

    ::

        out/mmwood.json     which image each file is of
        yolo:    images/NAME.jpg, labels/NAME.txt (empty), train.txt, data.yaml
        coco:    images/NAME.jpg, annotations.json
        nnunet:  imagesTr/NAME_0000.png, labelsTr/NAME.png (zeros), dataset.json
        mmseg:   images/NAME.jpg, masks/NAME.png (zeros), jpg.txt: the names of .jpg
        list:    images.txt

    NAME is the file's own with ``ood_`` before it, and with eight digits of a hash of
    its path behind it where several images have the same. nnU-Net's images are copies
    upright and with the channels of its data set, the others are as they were.

    Args:
        images: Their files.
        out: A new or an empty folder, or the same export that was ended.
        trainer: Whose data.
        classes: Names of the classes, for COCO and nnU-Net.
        like: Of the data set that the images go to: COCO JSON, whose categories are
            taken and whose ids are not; nnU-Net's ``dataset.json``, whose labels,
            channels and file ending are taken.
        link: Make symbolic links to the images instead of copies.
        progress: Wraps the list of images.

    Returns:
        ``images``, ``suffixes`` (the number of images by suffix) and the writer's
        counts.

    Raises:
        FileExistsError: A file holds something else.
        FileNotFoundError: There is no file ``like``.
        ValueError: ``out`` holds something else; there is no image; ``like`` is none of
            this trainer; an image cannot be read.
    """
    one_of("trainer", trainer, get_args(Trainer))
    if not images:
        raise ValueError("there is no image to export")
    if like is not None and trainer not in _FORMS:
        raise ValueError(f"--like is for {' and '.join(_FORMS)}, not for {trainer}")
    form = _FORMS[trainer](classes, like) if trainer in _FORMS else {}
    items = _named([Path(image) for image in images])
    description: dict[str, Any] = dict(
        format=FORMAT,
        trainer=trainer,
        link=link,
        form=text_sha256(json.dumps(form, sort_keys=True)),
        images={item.name: str(item.path) for item in items},
    )
    if find_record(out, RECORD, **description) is None:
        write_json(out / RECORD, description)
    writer = Writer()
    _WRITERS[trainer](_Export(out, items, form, writer, link, progress))
    suffixes = Counter(item.path.suffix for item in items)
    return dict(images=len(items), suffixes=dict(suffixes), **writer.counts)


def _named(paths: Sequence[Path]) -> list[_Image]:
    # Of Windows, too, where letter case tells no files apart.
    counts = Counter(path.stem.casefold() for path in paths)
    items = []
    for path in paths:
        alone = counts[path.stem.casefold()] == 1
        end = "" if alone else f"_{text_sha256(str(path))[:8]}"
        items.append(_Image(f"{PREFIX}{path.stem}{end}", path))
    return items


def _yolo(export: _Export) -> None:
    lines = []
    for item, target in export.images():
        export.writer.lines(export.out / "labels" / f"{item.name}.txt", [])
        # YOLO takes ./ for the list's own folder.
        lines.append(f"./images/{target.name}")
    export.writer.lines(export.out / "train.txt", lines)
    folder = str(export.out.absolute() / "images").replace("'", "''")
    export.writer.lines(
        export.out / "data.yaml",
        [
            "# A part of a data.yaml: the last line goes below your own train.",
            "train:",
            "  - images/train  # yours",
            f"  - '{folder}'",
        ],
    )


def _coco_form(classes: Sequence[str], like: Path | None) -> dict[str, Any]:
    """The categories, and the last id of an image that is taken."""
    if like is None:
        return dict(merge_instances([], classes), last=0)
    numbers = read_coco(like, annotated=False).images
    if not all(type(number) is int for number in numbers):
        raise ValueError(f"--like: {like}: not all ids of images are integers")
    categories = read_json(like)["categories"]
    return dict(categories=categories, last=max(numbers, default=0))


def _coco(export: _Export) -> None:
    images: list[dict] = []
    for item, target in export.images():
        height, width = _size(item.path)
        number = export.form["last"] + len(images) + 1
        images.append(
            dict(id=number, file_name=target.name, width=width, height=height)
        )
    categories = export.form["categories"]
    content = dict(images=images, annotations=[], categories=categories)
    export.writer.json(export.out / "annotations.json", content)


def _nnunet_form(classes: Sequence[str], like: Path | None) -> dict[str, Any]:
    """What a ``dataset.json`` says beside the number of cases."""
    form: dict[str, Any] = dict(
        channel_names={"0": "R", "1": "G", "2": "B"},
        labels={n: i for i, n in enumerate(["background", *classes])},
        file_ending=".png",
    )
    if like is None:
        return form
    found = read_json(like)
    lacking = [key for key in form if not isinstance(found, dict) or key not in found]
    if lacking:
        raise ValueError(
            f"--like: {like} is no dataset.json of nnU-Net: it lacks "
            f"{', '.join(lacking)}"
        )
    ending, channels = found["file_ending"], len(found["channel_names"])
    if ending not in _NNUNET or channels not in _MODES:
        raise ValueError(
            f"--like: {like} is of {ending} with {channels} channels; images become "
            f"{', '.join(_NNUNET)} with 1 or 3 channels"
        )
    if found["labels"].get("background") != 0:
        raise ValueError(f"--like: {like}: its labels have no background 0")
    return {key: found[key] for key in form}


def _nnunet(export: _Export) -> None:
    out, form = export.out, export.form
    ending, mode = form["file_ending"], _MODES[len(form["channel_names"])]
    for item in export.progress(export.items):
        size = _size(item.path)
        target = out / "imagesTr" / f"{item.name}_0000{ending}"
        if _is_like(item.path, ending, mode):
            export.place(item, target)
        else:
            export.writer.content(target, _encoded(_upright(item.path, mode), ending))
        zeros = Image.fromarray(np.zeros(size, dtype=np.uint8))
        label = out / "labelsTr" / f"{item.name}{ending}"
        export.writer.content(label, _encoded(zeros, ending))
    content = dict(form, numTraining=len(export.items))
    export.writer.json(out / "dataset.json", content)


def _mmseg(export: _Export) -> None:
    lists: dict[str, list[str]] = {}
    for item, target in export.images():
        mask = np.zeros(_size(item.path), dtype=np.uint8)
        export.writer.label(export.out / "masks" / f"{item.name}.png", mask)
        lists.setdefault(target.suffix[1:], []).append(item.name)
    for suffix, names in lists.items():
        export.writer.lines(export.out / f"{suffix}.txt", names)


def _list(export: _Export) -> None:
    lines = [str(item.path.absolute()) for item in export.items]
    export.writer.lines(export.out / "images.txt", lines)


def _size(path: Path) -> tuple[int, int]:
    """Height and width."""
    try:
        return image_size(path)[::-1]
    except UNREADABLE as error:
        raise ValueError(unreadable(path, error)) from error


def _is_like(path: Path, ending: str, mode: str) -> bool:
    """Whether a file is what nnU-Net wants already."""
    if path.suffix != ending:
        return False
    with Image.open(path) as image:
        return image.mode == mode and image.getexif().get(_ORIENTATION, 1) == 1


def _upright(path: Path, mode: str) -> Image.Image:
    try:
        return open_upright(path, mode=mode)
    except UNREADABLE as error:
        raise ValueError(unreadable(path, error)) from error


def _encoded(image: Image.Image, suffix: str) -> bytes:
    content = io.BytesIO()
    image.save(content, "TIFF" if suffix == ".tif" else suffix[1:])
    return content.getvalue()


_FORMS: dict[str, Callable[[Sequence[str], Path | None], dict[str, Any]]] = dict(
    coco=_coco_form, nnunet=_nnunet_form
)
_WRITERS: dict[str, Callable[[_Export], None]] = dict(
    yolo=_yolo, coco=_coco, nnunet=_nnunet, mmseg=_mmseg, list=_list
)
