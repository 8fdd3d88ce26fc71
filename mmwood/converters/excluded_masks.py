"""Label maps without what a review rejected."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np

from mmwood.converters.mask_review import Masks, open_masks
from mmwood.converters.writer import Writer
from mmwood.fileio.candidates import Candidate, read_manifest
from mmwood.fileio.files import file_sha256, files_by_id, text_sha256
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import VOID
from mmwood.fileio.lists import bullets, check_id, read_id_list, without_suffix
from mmwood.fileio.mask_review import AboutMasks, read_about, region_sha256

#: The list of images that stay, in the folder of their label maps.
IMAGES = "images.txt"


class Exclusions(NamedTuple):
    """What a review says of a folder of masks.

    Attributes:
        leave: Ids of images of which every class is rejected: they leave the list of
            training images.
        wrong: Of the other images with a rejected class, these classes.
        unseen: How many rows nobody has looked at.
        changed: How many kept rows are of masks that have changed since.
    """

    leave: list[str]
    wrong: dict[str, list[str]]
    unseen: int
    changed: int


def read_exclusions(
    review: Path, masks: Masks, progress: Callable[[Iterable], Iterable] = iter
) -> Exclusions:
    """What a review rejects of masks that are as they were then.

    Args:
        review: The manifest of the review.
        masks: The masks.
        progress: Wraps the list of images.

    Raises:
        FileNotFoundError: There is no review.
        ValueError: It is none of masks or of these classes, lacks decisions of a review
            that was cut off, or rejects what the masks do not show any more; names all.
    """
    # It needs fcntl, which the rest of this package can do without.
    from mmwood.fileio.journal import refuse_open_decisions

    about = read_about(review, "--exclude")
    if list(about.classes) != masks.classes:
        raise ValueError(
            f"--exclude: {review} is of masks of {list(about.classes)}, those in "
            f"{masks.root} are of {masks.classes}"
        )
    remedy = "start tools/review_masks.py once more"
    refuse_open_decisions(review, "--exclude", remedy)
    rows = _rows_by_id(review, about)
    files = {normalize("NFC", name): name for name in files_by_id(masks.folder)}
    values = {label.name: label.value for label in masks.labels}
    place = LabelFolder(masks.folder)
    leave, wrong, faults = [], {}, []
    unseen = changed = 0
    for image_id in progress(rows):
        name = files.get(normalize("NFC", image_id))
        regions: Mapping[int, np.ndarray] = {}
        if name is not None:
            _, regions = masks.regions(place.picture(name))
        hashes = {value: region_sha256(region) for value, region in regions.items()}
        rejected = []
        for line, row in rows[image_id]:
            same = hashes.get(values[row.class_name]) == row.sha256
            unseen += row.state == "unseen"
            changed += row.state == "kept" and not same
            if row.state == "rejected":
                rejected.append(row.class_name)
                if not same:
                    faults.append(f"{review}:{line}: {row.image}: {row.class_name}")
        if not rejected or name is None:
            continue
        # Of all that the mask shows: a class may have come since.
        if {values[class_name] for class_name in rejected} == hashes.keys():
            leave.append(name)
        else:
            wrong[name] = rejected
    if faults:
        raise ValueError(
            f"--exclude: {len(faults)} rejected masks have changed since, or are gone: "
            f"run tools/review_masks.py with --update on {masks.root} and look at them "
            "again:" + bullets(faults)
        )
    return Exclusions(leave, wrong, unseen, changed)


def exclude_masks(
    labels: Path,
    review: Path,
    out: Path,
    listed: Path | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Exclusions:
    """Write label maps anew, without what a review rejected.

    ::

        out/manifest.json         what they were made from, and what was rejected
        out/labels/IMAGE_ID.png   pixels of rejected classes are 255 (void), and of
                                  images that leave all
        out/images.txt            ids of the images that stay, one a line

    A training that names ``images.txt`` as its ``ann_file`` does not see images that
    leave. One with a list of its own finds masks of nothing but void for them, from
    which nothing is learned.

    Args:
        labels: The label maps, see :func:`mmwood.converters.mask_review.open_masks`.
        review: The manifest of their review.
        out: A new or an empty folder, or the same that was ended.
        listed: A list of images, one id a line: those of it stay that do not leave.
            None: all that have a label map.
        progress: Wraps the list of label maps.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: See :func:`read_exclusions`; no image would be left; an image of
            ``listed`` has no label map; ``out`` holds something else.
    """
    about = read_about(review, "--exclude")
    masks = open_masks(labels, about.classes, may_have_manifest=True)
    target = LabelFolder(out, "--out")
    if out.resolve() in (masks.root.resolve(), masks.folder.resolve()):
        raise ValueError(
            f"--out: {out} holds the masks that were reviewed: name another folder"
        )
    found = read_exclusions(review, masks, progress)
    files = files_by_id(masks.folder)
    ids = list(files)
    if listed is not None:
        items = read_id_list(listed)
        unknown = [
            f"{item.source}: {item.image}" for item in items if item.image not in files
        ]
        if unknown:
            raise ValueError(
                f"--list: {len(unknown)} of {len(items)} images have no label map in "
                f"{masks.folder} (a list of ids, without suffix):" + bullets(unknown)
            )
        ids = [item.image for item in items]
    gone = set(found.leave)
    stay = [name for name in ids if name not in gone]
    if not stay:
        raise ValueError(f"--exclude: {review} rejects every image: none is left")
    description = _describe(masks, found, listed)
    target.compare(description, "remove it")
    target.begin(description)
    values = {label.name: label.value for label in masks.labels}
    writer = Writer(overwrite=True)
    for name in progress(files):
        label, _ = masks.regions(files[name])
        wrong = [values[item] for item in found.wrong.get(name, ())]
        void = np.isin(label, wrong) if name not in gone else np.ones_like(label, bool)
        writer.label(target.label(name), np.where(void, np.uint8(VOID), label))
    for name, path in files_by_id(out / "labels").items():
        if name not in files:
            path.unlink()
    writer.lines(out / IMAGES, stay)
    rejected = dict(leave=found.leave, wrong=found.wrong)
    target.finish(dict(description, labels=str(masks.root), **rejected), len(files))
    return found


def _describe(masks: Masks, found: Exclusions, listed: Path | None) -> dict[str, Any]:
    """What determines the files."""
    description: dict[str, Any] = dict(
        format=masks.about.get("format", PSEUDO_LABELS),
        classes=masks.about.get("classes", masks.classes),
        # Labels alone.
        scores=[],
        labels_sha256=_sha256(masks.about),
        exclude_sha256=_sha256([found.leave, found.wrong]),
        list_sha256=None if listed is None else file_sha256(listed),
    )
    if "biased" in masks.about:
        description["biased"] = masks.about["biased"]
    return description


def _sha256(content: Any) -> str:
    return text_sha256(json.dumps(content, sort_keys=True))


def _rows_by_id(
    review: Path, about: AboutMasks
) -> dict[str, list[tuple[int, Candidate]]]:
    """Line numbers and rows by the id of their image."""
    rows: dict[str, list[tuple[int, Candidate]]] = {}
    for line, row in read_manifest(review):
        where = f"{review}:{line}"
        if row.class_name not in about.classes:
            raise ValueError(f"{where}: {row.class_name!r} is none of the classes")
        name = os.path.relpath(row.image, about.images)
        image_id = without_suffix(check_id(name, where))
        rows.setdefault(image_id, []).append((line, row))
    return rows
