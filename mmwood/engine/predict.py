"""Label maps of a folder or a list of images, each written once and whole.

::

    out_dir/
      manifest.json           what made the files, and whether all are there
      labels/IMAGE_ID.png     palette PNG
      overlays/IMAGE_ID.png   the labels on the image, if asked for
      tables/IMAGE_ID.json    what predictions.csv says of the image
      predictions.csv         image, class, pixels, share, instances, confidence
      contact_sheet.png       the images whose prediction is least sure, least first
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mmwood.engine.predictor import Predictor
from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.fileio.files import read_json, write_json
from mmwood.fileio.images import (
    IMAGE_SUFFIXES,
    check_there,
    list_folder,
    open_upright,
    read_picture,
    refuse_foreign_drawing,
    save_picture,
    unreadable,
)
from mmwood.fileio.label_folder import LabelFolder, image_ids
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.fileio.lists import (
    TaggedImage,
    check_id,
    read_id_list,
    refuse_shared_files,
    without_suffix,
)
from mmwood.fileio.tables import write_table
from mmwood.functional.components import count_components
from mmwood.utils.processes import end_with_parent
from mmwood.utils.progress import progress
from mmwood.visualization.contact_sheet import contact_sheet
from mmwood.visualization.panels import overlay_label

#: Longest side of an overlay, in pixels.
OVERLAY_SIDE = 2048
#: Images of the contact sheet, and the side of each in pixels.
SHEET, CELL = 60, 200
COLUMNS = ("image", "class", "pixels", "share", "instances", "confidence")


class ImageFile(NamedTuple):
    """An image to predict.

    Attributes:
        image_id: What names its files.
        name: What the table calls it.
        path: Where it is.
    """

    image_id: str
    name: str
    path: str


class Summary(NamedTuple):
    """What :func:`predict_images` did.

    Attributes:
        made: How many images were predicted.
        were_there: How many were finished before.
        faults: Image and reason of those that could not be.
        images: All others.
    """

    made: int
    were_there: int
    faults: list[str]
    images: list[ImageFile]


@dataclass
class PredictionFiles(Dataset):
    """A data set that writes its images' predictions instead of returning them.

    Attributes:
        images: The images.
        folder: Where to write.
        make_predictor: Makes what predicts, in the process that does.
        classes: Name of each label.
        palette: Colour of each label. Shape: (len(classes), 3) uint8.
        overlays: Whether to draw the labels on the images.
        predictor: What predicts in this process, if it is there already.
        decoding: How images are read.
    """

    images: Sequence[ImageFile]
    folder: LabelFolder
    make_predictor: Callable[[], Predictor]
    classes: Sequence[str]
    palette: np.ndarray
    overlays: bool = False
    predictor: Predictor | None = None
    decoding: Decoding = PICTURE

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[str, str]:
        """Write an image's files.

        Returns:
            'made' or 'there'; or 'fault' and why the image cannot be predicted.
        """
        image = self.images[index]
        overlay = self.folder.overlay(image.image_id)
        try:
            size = _size(image.path)
            there = self._is_finished(image, size)
            if not there:
                self._predict(image, size)
            if self.overlays and not (there and overlay.is_file()):
                save_picture(self.overlay(image, OVERLAY_SIDE), overlay)
        except _UnusableError as error:
            return "fault", str(error)
        return ("there" if there else "made"), ""

    def overlay(self, image: ImageFile, side: int) -> np.ndarray:
        """An image's labels on it, no side longer than ``side``; (h, w, 3) uint8."""
        label = self._label(image)
        picture = open_upright(image.path, (side, side), decoding=self.decoding)
        scale = min(1.0, side / max(label.shape))
        size = [max(1, round(length * scale)) for length in label.shape[::-1]]
        shown = picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
        small = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
        # Labels above 255 have the colours of those 256 below.
        return overlay_label(np.array(shown), small.astype(np.uint8), self.palette)

    def table(self, image: ImageFile) -> dict:
        """What :meth:`__getitem__` found out about an image."""
        return read_json(self.folder.table(image.image_id), "table of an image")

    def _label(self, image: ImageFile) -> np.ndarray:
        label = read_label_png(
            self.folder.label(image.image_id), wide=len(self.classes) > 255
        )
        return label.astype(np.uint16) if label.dtype != np.uint8 else label

    def _is_finished(self, image: ImageFile, size: int) -> bool:
        try:
            # Another image of this name may lie there now.
            if self.table(image)["bytes"] != size:
                return False
            self._label(image)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def _predict(self, image: ImageFile, size: int) -> None:
        try:
            pixels = read_picture(image.path, self.decoding, shown=False)
        except (FileNotFoundError, ValueError) as error:
            raise _UnusableError(str(error)) from error
        if self.predictor is None:
            self.predictor = self.make_predictor()
        try:
            found = self.predictor(pixels, image.path)
        except ValueError as error:
            raise _UnusableError(f"the image {image.path} {error}") from error
        ground = [0] if self.classes[0].casefold() == "background" else []
        instances = count_components(found.label, leave_out=ground)
        rows = [
            dict(
                label=label,
                pixels=int(found.pixels[label]),
                instances=instances.get(label),
                confidence=round(float(found.confidence[label]), 6),
            )
            for label in np.flatnonzero(found.pixels).tolist()
        ]
        # The label last: what is there is whole.
        write_json(
            self.folder.table(image.image_id),
            dict(image=image.name, bytes=size, classes=rows),
        )
        save_label_png(found.label, self.folder.label(image.image_id), self.palette)


class _UnusableError(Exception):
    """An image cannot be predicted; the others can."""


def _size(path: str) -> int:
    """Bytes of an image's file, which a link may not lead to."""
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise _UnusableError(unreadable(path, error)) from error


def list_images(
    images: Sequence[str | os.PathLike], out: str | os.PathLike | None = None
) -> list[ImageFile]:
    """The images of a folder, of a list, or image files.

    Files are named after the path from the folder; those of lists and files after the
    path from the deepest folder that holds all.

    Args:
        images: One folder, with the images in its folders; or one list (.txt) with a
            path a line, relative to its folder; or image files.
        out: Where their label maps will be, which must not be below the folder.

    Raises:
        FileNotFoundError: There is no such folder, list or image.
        ValueError: The folder holds no image, or ``out``; a file is neither list nor
            image; two images would share a file.
    """
    paths = [Path(path) for path in images]
    kinds = ", ".join(IMAGE_SUFFIXES)
    first = paths[0]
    if len(paths) == 1 and not first.is_file():
        if not first.exists():
            raise FileNotFoundError(f"IMAGES: there is no folder or file {first}")
        if out is not None:
            place, folder = Path(out).resolve(), first.resolve()
            if folder in (place, *place.parents):
                raise ValueError(
                    f"--out: {out} is in the folder of the images, {first}: the next "
                    "run would take masks for images. Name another folder"
                )
        found = [
            ImageFile(without_suffix(item.image), item.image, item.source)
            for item in list_folder(first, "IMAGES")
        ]
    else:
        if len(paths) == 1 and first.suffix.lower() == ".txt":
            items = read_id_list(first)
            if not items:
                raise ValueError(f"IMAGES: {first} names no image")
            paths = [first.parent / item.image for item in items]
        else:
            for path in paths:
                if path.is_dir():
                    raise ValueError(
                        f"IMAGES: {path} is a folder beside others: name one folder "
                        "that holds all, or image files"
                    )
            items = [TaggedImage(str(path), None, "IMAGES") for path in paths]
        check_there(items, paths, "IMAGES")
        for path in paths:
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                raise ValueError(
                    f"IMAGES: {path} is no image ({kinds}), nor a list of paths (.txt)"
                )
        try:
            ids = image_ids(dict(img_path=str(path)) for path in paths)
        except ValueError as error:
            raise ValueError(f"IMAGES: {error}") from error
        found = [
            ImageFile(name, name + Path(path).suffix, path)
            for path, name in ids.items()
        ]
    files = [TaggedImage(image.image_id, None, image.path) for image in found]
    try:
        refuse_shared_files(files)
        for file in files:
            check_id(file.image, file.source)
    except ValueError as error:
        raise ValueError(
            f"IMAGES: {error} (files are named after their image without its suffix)"
        ) from error
    return found


def predict_images(
    files: PredictionFiles,
    description: dict[str, Any],
    workers: int = 1,
    overwrite: bool = False,
) -> Summary:
    """Predict images, write their files, the table and the contact sheet.

    Images that are finished are left out when the folder's manifest is as described.

    Args:
        files: The images, and how they are predicted.
        description: What determines the label maps, ``format`` among it.
        workers: Processes; the threads of torch are shared out among them. Several need
            ``files`` without a predictor of this process.
        overwrite: Whether to remove the predictions that are there, whatever made them.

    Raises:
        FileExistsError: A drawing would replace one that mmwood did not make.
        OSError: The folder cannot be written.
        ValueError: It holds something else, or predictions of another network.
    """
    folder = files.folder
    folder.compare(description, "make all anew with --overwrite", overwrite)
    sheet = folder.root / "contact_sheet.png"
    refuse_foreign_drawing(sheet)
    try:
        folder.begin(description, overwrite)
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(
            f"{folder.field}: cannot write to {folder.root} ({reason}): name another "
            "folder"
        ) from error
    several: dict[str, Any] = {}
    if workers > 1:
        several = dict(
            num_workers=workers,
            worker_init_fn=partial(_start_worker, torch.get_num_threads() // workers),
            # Copies of this process could neither use a GPU nor threads of their own.
            multiprocessing_context="spawn",
        )
    loader = DataLoader(files, batch_size=None, **several)
    outcomes: dict[str, list[ImageFile]] = dict(made=[], there=[], fault=[])
    faults = []
    bar = progress(loader, "predict", total=len(files))
    for image, (outcome, reason) in zip(files.images, bar, strict=True):
        outcomes[outcome].append(image)
        if outcome == "fault":
            faults.append(reason)
            bar.write(reason, file=sys.stderr)
    bad = set(outcomes["fault"])
    good = [image for image in files.images if image not in bad]
    confidences = _write_table(folder.root / "predictions.csv", files, good)
    if good:
        save_picture(_contact_sheet(files, good, confidences), sheet)
    if not bad:
        folder.finish(description, len(files))
    return Summary(len(outcomes["made"]), len(outcomes["there"]), faults, good)


def _start_worker(threads: int, worker: int) -> None:
    end_with_parent()
    torch.set_num_threads(max(1, threads))
    cv2.setNumThreads(max(1, threads))


def _write_table(
    path: Path, files: PredictionFiles, images: Sequence[ImageFile]
) -> list[float]:
    """Write the table; return the mean confidence of each image."""
    confidences, lines = [], []
    for image in images:
        rows = files.table(image)["classes"]
        total = sum(row["pixels"] for row in rows)
        weighted = sum(row["pixels"] * row["confidence"] for row in rows)
        confidences.append(weighted / total)
        for row in rows:
            # Of the background nobody counts the parts.
            parts = "" if row["instances"] is None else row["instances"]
            share = f"{row['pixels'] / total:.6f}"
            place = image.name, files.classes[row["label"]]
            numbers = row["pixels"], share, parts, f"{row['confidence']:.4f}"
            lines.append((*place, *numbers))
    write_table(path, COLUMNS, lines)
    return confidences


def _contact_sheet(
    files: PredictionFiles, images: Sequence[ImageFile], confidences: Sequence[float]
) -> np.ndarray:
    """The least sure images with their labels, least first."""
    order = np.argsort(confidences, kind="stable")[:SHEET].tolist()
    pictures = [files.overlay(images[number], CELL) for number in order]
    captions = [f"{confidences[n]:.2f} {images[n].name}" for n in order]
    return contact_sheet(pictures, captions, cell=(CELL, CELL))
