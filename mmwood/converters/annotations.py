"""Label maps as pre-annotations, for people to correct in a tool of theirs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO
from unicodedata import normalize

import numpy as np
from scipy import ndimage

from mmwood.converters.coco import write_coco
from mmwood.converters.cvat import write_cvat, write_cvat_labels
from mmwood.converters.label_studio import (
    write_label_studio,
    write_label_studio_config,
)
from mmwood.converters.source import VOID_NAME, Label, LabelledImage, Part
from mmwood.fileio.coco import run_lengths
from mmwood.fileio.files import (
    atomic_write,
    file_sha256,
    files_by_id,
    read_json,
    write_json,
)
from mmwood.fileio.images import UNREADABLE, image_paths, image_size, why_unreadable
from mmwood.fileio.label_folder import PREDICTIONS, PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import VOID, full_palette, read_label_png
from mmwood.fileio.lists import bullets, refuse_background, without_suffix
from mmwood.functional.components import connected_components

#: The record of what was written, by which a file is known that a person has changed.
_RECORD = "annotations.json"
_FORMAT = "mmwood annotations 1"
_CLASSES = "classes.txt"
#: The files of each format.
_FILES: dict[str, tuple[str, ...]] = {
    "coco": ("coco.json",),
    "label-studio": ("label-studio.json", "label-studio.xml"),
    "cvat": ("cvat.xml", "cvat-labels.json"),
}


class LabelFile(NamedTuple):
    """An image and its label PNG.

    Attributes:
        name: The image's path from the folder of the images, with slashes.
        label: The label PNG.
    """

    name: str
    label: Path


def make_labels(
    classes: Sequence[str], first: int = 1, palette: np.ndarray | None = None
) -> list[Label]:
    """The labels of classes, and at the end the one of void pixels.

    There is none of void where 255 is a class.

    Args:
        classes: Their names, without the background.
        first: Value of the first one.
        palette: Colours of the first values; all others have PASCAL VOC's.

    Raises:
        ValueError: A class has the name of void pixels.

    Example:
        >>> [(label.value, label.name) for label in make_labels(['disc'])]
        [(1, 'disc'), (255, 'void')]
    """
    if VOID_NAME in classes:
        raise ValueError(
            f"classes: {VOID_NAME!r} is what pixels without a label ({VOID}) are "
            "called in annotation tools: rename the class"
        )
    names = {first + number: name for number, name in enumerate(classes)}
    names.setdefault(VOID, VOID_NAME)
    colours = full_palette(palette)
    return [
        Label(value, name, f"#{bytes(colours[value % 256]).hex()}")
        for value, name in names.items()
    ]


def first_class(names: Sequence[str]) -> int:
    """Value of the first of a network's classes that is no background."""
    return 1 if names[0].casefold() == "background" else 0


def parts(
    label_map: np.ndarray, labels: Sequence[Label], split: bool = True
) -> Iterator[Part]:
    """The parts of a label map, label by label.

    Args:
        label_map: Values that are no label are left out.
        labels: The labels.
        split: Whether the connected parts of a class (over sides and corners) are
            apart. Void pixels are one part always.

    Shape:
        - label_map: (H, W) integers
    """
    values = {*np.unique(label_map).tolist()}
    known = {label.value: label for label in labels if label.value in values}
    apart = {v for v, label in known.items() if split and label.name != VOID_NAME}
    if apart:
        found = connected_components(label_map, leave_out=values - apart)
        boxes = ndimage.find_objects(found.index)
        for number, (value, box) in enumerate(zip(found.class_ids, boxes), start=1):
            yield _part(known[int(value)], box, found.index[box] == number)
    for value in known.keys() - apart:
        inside = label_map == value
        (box,) = ndimage.find_objects(inside.astype(np.uint8))
        yield _part(known[value], box, inside[box])


def _part(label: Label, box: tuple[slice, slice], mask: np.ndarray) -> Part:
    return Part(label, box[1].start, box[0].start, mask)


def refuse_changed(
    folder: Path, formats: Sequence[str], overwrite: bool = False
) -> None:
    """Refuse to write over files that are not as :func:`write_annotations` left them.

    Arguments are its own.

    Raises:
        FileExistsError: There is such a file, and not ``overwrite``; or the record is
            a file of somebody else.
        ImportError: COCO needs pycocotools.
    """
    if "coco" in formats:
        run_lengths("writing COCO masks")
    written = _written(folder)
    for name in _names(formats):
        path = folder / name
        if overwrite or not path.is_file():
            continue
        if file_sha256(path) != written.get(name):
            raise FileExistsError(
                f"{path} is there, and not as mmwood wrote it: move it away, or "
                "replace it with --overwrite"
            )


def write_annotations(
    folder: Path,
    images: Sequence[LabelFile],
    labels: Sequence[Label],
    formats: Sequence[str],
    address: str,
    overwrite: bool = False,
    progress: Callable[..., Iterable] = iter,
) -> list[Path]:
    """Write label maps in the formats of annotation tools.

    ::

        folder/
          coco.json                                  an annotation a connected part
          label-studio.json, label-studio.xml        tasks; labeling config
          cvat.xml, cvat-labels.json                 CVAT for images 1.1; its labels
          classes.txt                                the classes, one a line
          annotations.json                           hashes of these files

    COCO and CVAT have each connected part of a class by itself, so that a person can
    remove one; Label Studio has one region a class, since each of its regions is a
    picture as large as the image. Pixels of 255 are one region ``void``, in COCO where
    there are any.

    Label maps are read one after the other, once for each format.

    Args:
        folder: The folder.
        images: The images, and their label PNGs.
        labels: All labels.
        formats: 'coco', 'label-studio' and 'cvat'; others are passed over.
        address: See :func:`mmwood.converters.label_studio.write_label_studio`.
        overwrite: Replace files that a person has changed, and remove those of other
            formats that were written before.
        progress: Wraps the list of images while a format is written.

    Raises:
        FileExistsError: See :func:`refuse_changed`.
        ValueError: A label map cannot be read, or holds other values.
    """
    refuse_changed(folder, formats, overwrite)
    written = _written(folder)
    if overwrite:
        for name in written.keys() - _names(formats):
            path = folder / name
            if path.is_file() and file_sha256(path) == written[name]:
                path.unlink()
        written = {}
    if not _names(formats):
        if overwrite:
            (folder / _RECORD).unlink(missing_ok=True)
        return []

    def read(split: bool = True) -> Iterator[LabelledImage]:
        for image in progress(images):
            label_map = _read(image.label, labels)
            found = parts(label_map, labels, split)
            yield LabelledImage(image.name, label_map.shape, found)

    writers: dict[str, Callable[[TextIO], None]] = {
        "coco.json": lambda file: write_coco(file, read(), labels),
        "label-studio.json": lambda file: write_label_studio(
            file, read(split=False), address
        ),
        "label-studio.xml": partial(write_label_studio_config, labels=labels),
        "cvat.xml": lambda file: write_cvat(file, read(), labels),
        "cvat-labels.json": partial(write_cvat_labels, labels=labels),
        _CLASSES: lambda file: _write_classes(file, labels),
    }
    for name in _names(formats):
        path = folder / name
        with (
            atomic_write(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="\n") as file,
        ):
            writers[name](file)
        written[name] = file_sha256(path)
        hashes = dict(sorted(written.items()))
        write_json(folder / _RECORD, dict(format=_FORMAT, files=hashes))
    return [folder / name for name in _names(formats)]


def _names(formats: Iterable[str]) -> list[str]:
    names = [name for format in formats for name in _FILES.get(format, ())]
    return [*names, _CLASSES] if names else []


def _written(folder: Path) -> dict[str, str]:
    path = folder / _RECORD
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise FileExistsError(
            f"{path} is there, and mmwood did not write it: name another folder"
        )
    return dict(found.get("files", {}))


def _write_classes(file: TextIO, labels: Sequence[Label]) -> None:
    names = [label.name for label in labels if label.name != VOID_NAME]
    file.write("".join(f"{name}\n" for name in names))


def _read(path: Path, labels: Sequence[Label]) -> np.ndarray:
    """A label map whose values are labels or, where nothing else is, background."""
    known = {label.value for label in labels}
    label_map = read_label_png(path, wide=max(known) > VOID)
    wrong = sorted({*np.unique(label_map).tolist()} - known - {0})
    if wrong:
        *_, last = sorted(label.value for label in labels if label.name != VOID_NAME)
        void = f" and {VOID}" if last < VOID else ""
        raise ValueError(
            f"the label map {path} holds {wrong[:5]}; with these classes it may hold "
            f"0..{last}{void}"
        )
    return label_map


def folder_of_labels(
    folder: Path, classes: Sequence[str] | None = None
) -> tuple[Path, list[Label]]:
    """Where the label PNGs of a folder are, and their labels.

    Args:
        folder: A folder of mmwood (with ``manifest.json``), its ``labels``, or any
            folder of label PNGs.
        classes: The classes in the order of their labels, from 1. A manifest says them
            else.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: Nothing says the classes, or ``classes`` contradicts the manifest.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"LABELS: there is no folder {folder}")
    root = folder
    if folder.name == "labels" and (folder.parent / "manifest.json").is_file():
        root = folder.parent
    found = LabelFolder(root, "LABELS")
    if not found.manifest_path.is_file():
        if not classes:
            raise ValueError(
                f"--classes: {folder} has no manifest.json that says the classes: name "
                "them in the order of their labels"
            )
        refuse_background(classes, "--classes")
        return folder, make_labels(classes)
    manifest = found.manifest()
    if manifest.get("format") not in (PREDICTIONS, PSEUDO_LABELS):
        raise ValueError(
            f"LABELS: {found.manifest_path} is of {manifest.get('format')!r}, not of "
            "label maps of classes: name another folder"
        )
    names, first = manifest["classes"], 1
    if manifest["format"] == PREDICTIONS:
        # What a network calls label 0.
        first = first_class(names)
        names = names[first:]
    if classes and list(classes) != names:
        raise ValueError(
            f"--classes: {list(classes)} are not those of {found.manifest_path}, "
            f"{names}: leave the option out"
        )
    return root / "labels", make_labels(names, first)


def find_label_files(
    folder: Path, images: Path, labels: Sequence[Label]
) -> tuple[list[LabelFile], int]:
    """The images of a folder that have a label PNG, by its path.

    Returns:
        The images in the order of their label PNGs, and how many images have none.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There is no label PNG; some cannot be read, hold other values,
            have no image, several, or one of another size; names all.
    """
    if not images.is_dir():
        raise FileNotFoundError(f"--images: there is no folder {images}")
    by_id: dict[str, list[Path]] = {}
    for path in image_paths(images):
        image_id = without_suffix(path.relative_to(images).as_posix())
        by_id.setdefault(normalize("NFC", image_id), []).append(path)
    found, faults = [], []
    files = files_by_id(folder)
    for image_id, label in files.items():
        paths = by_id.pop(normalize("NFC", image_id), [])
        if len(paths) != 1:
            what = f"may be of any of {[*map(str, paths)]}" if paths else "has no image"
            faults.append(f"{label}: {what}")
            continue
        try:
            size = image_size(paths[0])
        except UNREADABLE as error:
            faults.append(f"{paths[0]}: {why_unreadable(error)}")
            continue
        try:
            shape = _read(label, labels).shape
        except ValueError as error:
            faults.append(str(error))
            continue
        if shape != size[::-1]:
            faults.append(
                f"{label} has (W, H) = {shape[::-1]}, its image {paths[0]} {size}"
            )
        found.append(LabelFile(paths[0].relative_to(images).as_posix(), label))
    if not files:
        raise ValueError(f"LABELS: {folder} holds no label PNG")
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(files)} label maps are not those of these classes "
            f"and of images in {images} (the pseudo masks of a pipeline are of its "
            "data/images):" + bullets(faults)
        )
    return found, sum(map(len, by_id.values()))
