"""The seeds of several runs side by side."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.fileio.files import files_by_id
from mmwood.fileio.images import read_picture
from mmwood.fileio.label_folder import LabelFolder, load_score_maps
from mmwood.fileio.labels import read_label_png
from mmwood.visualization.contact_sheet import contact_sheet
from mmwood.visualization.panels import overlay_heat, overlay_label


def seed_comparison(
    runs: Mapping[str, str | os.PathLike],
    image_ids: Sequence[str],
    image_dir: str | os.PathLike,
    mask_dir: str | os.PathLike | None = None,
    suffix: str = ".jpg",
    cell: tuple[int, int] = (200, 150),
    with_labels: bool = True,
    decoding: Decoding = PICTURE,
) -> np.ndarray:
    """One row an image: image | map and seed of every run | ground truth.

    The map is that of the class which occurs most in the seeds, or of the first class
    of the image.

    Args:
        runs: What to call a run, and the folder that :class:`mmwood.PseudoLabelHook`
            wrote for it, with 'strided' score maps.
        image_ids: Which images.
        image_dir: Folder of the images.
        mask_dir: Folder of the masks, or None.
        suffix: Suffix of the images.
        cell: (width, height) of a picture in pixels.
        with_labels: Whether the seeds are shown beside the maps.
        decoding: How images are read.

    Returns:
        The sheet, uint8 RGB.

    Raises:
        FileNotFoundError: A file of a run, an image or a mask is missing.
        ValueError: A run has no 'strided' maps, or the runs have other classes.
    """
    classes = _class_names(runs.values())
    pictures, captions = [], []
    for image_id in image_ids:
        picture = read_picture(Path(image_dir, image_id + suffix), decoding)
        labels = [
            read_label_png(LabelFolder(run).label(image_id)) for run in runs.values()
        ]
        maps = [
            load_score_maps(LabelFolder(run).scores(image_id), needs=("strided",))
            for run in runs.values()
        ]
        pictures.append(picture)
        captions.append(image_id)
        present = maps[0].classes
        if len(present):
            found = np.concatenate([label[label > 0] for label in labels])
            shown = np.bincount(found, minlength=present.max() + 2)[present + 1]
            chosen = int(present[shown.argmax()])
        for name, label, stored in zip(runs, labels, maps):
            heat = np.zeros(picture.shape[:2], dtype=np.float32)
            caption = name
            if len(present):
                place = list(stored.classes).index(chosen)
                score = stored.strided[place]  # type: ignore[index]  # needs says so
                size = picture.shape[1::-1]
                heat = cv2.resize(score.astype(np.float32), size)
                caption += f": {classes[chosen]}"
            pictures.append(overlay_heat(picture, heat))
            captions.append(caption)
            if with_labels:
                pictures.append(overlay_label(picture, label))
                captions.append(f"{name}: labels")
        if mask_dir is not None:
            truth = read_label_png(Path(mask_dir, f"{image_id}.png"))
            pictures.append(overlay_label(picture, truth))
            captions.append("ground truth")
    columns = len(pictures) // len(image_ids)
    return contact_sheet(pictures, captions, columns=columns, cell=cell)


def one_image_per_class(run: str | os.PathLike) -> list[str]:
    """For each class the first image that shows it alone, by the names of the files.

    Returns:
        Image ids, in the order of the classes; a class without such an image has none.

    Raises:
        FileNotFoundError: It holds no manifest.
    """
    wanted = len(_class_names([run]))
    first: dict[int, str] = {}
    files = files_by_id(Path(run, "scores"), ".npz")
    bar = tqdm(files.items(), desc="choose", leave=None, disable=None, delay=1)
    for name, path in bar:
        classes = load_score_maps(path).classes
        if len(classes) == 1:
            first.setdefault(int(classes[0]), name)
            if len(first) == wanted:
                break
    return [first[number] for number in sorted(first)]


def _class_names(runs: Iterable[str | os.PathLike]) -> list[str]:
    names = []
    for run in runs:
        manifest = LabelFolder(run).manifest()
        if not isinstance(manifest.get("classes"), list):
            raise ValueError(f"{run}: its manifest.json names no classes")
        names.append(manifest["classes"])
    if any(other != names[0] for other in names):
        raise ValueError(f"the runs have other classes: {names}")
    return names[0]
