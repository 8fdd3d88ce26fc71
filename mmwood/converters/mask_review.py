"""Masks for people to review, the least confident first, and what they decided.

A manifest of the form of OoD candidates (:mod:`mmwood.fileio.candidates`) has a row for
each class that a mask shows. ``kept``: the class is right there; ``rejected``: it is
wrong. Its hash is that of the class's pixels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mmwood.converters.annotations import (
    LabelFile,
    find_label_files,
    folder_of_labels,
)
from mmwood.converters.reviewed import reviewed_rows
from mmwood.converters.source import VOID_NAME, Label
from mmwood.fileio.candidates import Candidate, write_manifest
from mmwood.fileio.files import read_json
from mmwood.fileio.label_folder import (
    PREDICTIONS,
    PSEUDO_LABELS,
    LabelFolder,
    load_score_maps,
)
from mmwood.fileio.labels import BIASED, VOID, read_label_png
from mmwood.fileio.lists import bullets
from mmwood.fileio.mask_review import (
    AboutMasks,
    is_mask_review,
    region_sha256,
    write_about,
)

#: Confidence of each class that an image's mask shows, by its label.
Confidence = Callable[[str, np.ndarray, Sequence[int]], dict[int, float]]
#: What the confidence is where there are no scores.
AREA = "fraction of the image"


@dataclass(frozen=True)
class Masks:
    """A folder of label PNGs.

    Attributes:
        folder: Where they are.
        labels: The labels of classes.
        about: The manifest beside them, or empty.
    """

    folder: Path
    labels: list[Label]
    about: Mapping

    @property
    def root(self) -> Path:
        """The folder that was named, or that the manifest is in."""
        return self.folder.parent if self.about else self.folder

    @property
    def classes(self) -> list[str]:
        """Their names."""
        return [label.name for label in self.labels]

    def regions(self, path: Path) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """A label map, and where each class is that it shows."""
        label = read_label_png(path)
        values = {*np.unique(label).tolist()}
        known = (item.value for item in self.labels if item.value in values)
        return label, {value: label == value for value in known}


class MaskRow(NamedTuple):
    """What draws a row of a manifest.

    Attributes:
        label: The label PNG.
        value: Label of the row's class.
    """

    label: Path
    value: int


class MadeReview(NamedTuple):
    """What :func:`make_mask_review` did.

    Attributes:
        rows: What draws each row, in the manifest's order.
        confidence: What the manifest's probability is.
        empty: How many masks show no class, and have no row.
        without: How many images have no mask.
        changed: How many decisions were about masks that have changed since, or are
            gone.
    """

    rows: list[MaskRow]
    confidence: str
    empty: int
    without: int
    changed: int


def open_masks(
    folder: Path, classes: Sequence[str] | None = None, may_have_manifest: bool = False
) -> Masks:
    """A folder of label PNGs for review.

    Args:
        folder: A folder of mmwood (pseudo labels, predictions), its ``labels``, or any
            folder of label PNGs.
        classes: See :func:`mmwood.converters.annotations.folder_of_labels`.
        may_have_manifest: Whether ``classes`` are meant for a folder without a manifest
            alone.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: As there; its labels are not complete; or it has so many classes
            that none is left for void.
    """
    root = LabelFolder(folder.parent if folder.name == "labels" else folder, "LABELS")
    has_manifest = root.manifest_path.is_file()
    if has_manifest and may_have_manifest:
        classes = None
    place, labels = folder_of_labels(folder, classes)
    about = root.manifest() if has_manifest else {}
    if has_manifest and not about.get("complete"):
        raise ValueError(
            f"LABELS: {root.root} is not complete: run what makes it again, which "
            "continues where it was"
        )
    own = [label for label in labels if label.name != VOID_NAME]
    most = BIASED if "biased" in about else VOID
    if own[-1].value >= most:
        raise ValueError(
            f"LABELS: {folder} has {len(own)} classes; a review needs {most}, which is "
            "no class"
        )
    return Masks(place, own, about)


def make_mask_review(
    masks: Masks,
    images: Path,
    out: Path,
    scores: Path | None = None,
    update: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> MadeReview:
    """Write a manifest of masks, or bring the one that is there up to date.

    Decisions about masks that are as they were stay.

    Args:
        masks: The masks.
        images: Folder of their images.
        out: The manifest, a ``.csv``; a JSON beside it says what it is of.
        scores: Folder with score maps of the images, such as that of the seeds. None:
            those of the masks' own folder, if there are any.
        update: Whether decisions may go that are about masks that have changed.
        progress: Wraps the list of masks.

    Raises:
        FileExistsError: ``out`` is something else.
        FileNotFoundError: There is no such folder, or a file is missing.
        ValueError: A label map or an image cannot be read, or does not fit; somebody
            reviews ``out``; or masks have changed, and not ``update``.
    """
    if out.suffix.lower() != ".csv":
        raise ValueError(f"--out must be a .csv file, got {out}")
    if not is_mask_review(out):
        for path in (out, out.with_suffix(".json")):
            if path.exists():
                raise FileExistsError(
                    f"--out: {path} is there, and of no review of masks: name another "
                    "file"
                )
    what, confidence = _confidence(masks, scores)
    files, without = _label_files(masks, images)
    names = {label.value: label.name for label in masks.labels}
    found: list[tuple[Candidate, MaskRow]] = []
    empty = 0
    for item in progress(files):
        label, regions = masks.regions(item.label)
        image = str(images / item.name)
        image_id = item.label.relative_to(masks.folder).with_suffix("").as_posix()
        sure = confidence(image_id, label, [*regions])
        empty += not regions
        for value, region in regions.items():
            row = Candidate(
                image, names[value], sure[value], 0, "unseen", region_sha256(region)
            )
            found.append((row, MaskRow(item.label, value)))
    found.sort(key=lambda pair: (pair[0].probability, pair[0].image))
    ranks: Counter[str] = Counter()
    out.parent.mkdir(parents=True, exist_ok=True)
    with reviewed_rows(out, "--out") as lines:
        decided = {
            (row.image, row.class_name): row
            for _, row in lines
            if row.state != "unseen"
        }
        for row, _ in found:
            ranks[row.class_name] += 1
            row.rank = ranks[row.class_name]
            old = decided.get((row.image, row.class_name))
            if old is not None and old.sha256 == row.sha256:
                row.state = old.state
                del decided[row.image, row.class_name]
        if decided and not update:
            first = [f"{image}: {name}" for image, name in decided]
            raise ValueError(
                f"--out: {len(decided)} decisions in {out} are about masks that have "
                f"changed since, or that {masks.root} lacks: name another file, or add "
                "--update, by which these are lost and the others stay" + bullets(first)
            )
        about = AboutMasks(str(masks.root), str(images), masks.classes, what)
        # Before the manifest, which must never be taken for one of OoD candidates.
        write_about(out, about)
        write_manifest(out, (row for row, _ in found))
    rows = [row for _, row in found]
    return MadeReview(rows, what, empty, without, len(decided))


def _label_files(masks: Masks, images: Path) -> tuple[list[LabelFile], int]:
    """The masks with their images, all of the right sizes and values."""
    others = [Label(VOID, VOID_NAME, "")]
    if "biased" in masks.about:
        others.append(Label(BIASED, "removed", ""))
    return find_label_files(masks.folder, images, [*masks.labels, *others])


def _confidence(masks: Masks, scores: Path | None) -> tuple[str, Confidence]:
    """What tells how sure masks are, and its name."""
    if scores is not None:
        folder = LabelFolder(scores, "--scores")
        folder.require_scores(masks.classes)
        return f"mean score of {scores}", _from_maps(folder, masks)
    own = LabelFolder(masks.root, "LABELS")
    if masks.about.get("format") == PREDICTIONS:
        return "mean probability", _from_tables(own)
    if masks.about.get("format") == PSEUDO_LABELS and masks.about.get("scores"):
        return "mean score of its own maps", _from_maps(own, masks)
    return AREA, _from_area


def _from_area(
    image_id: str, label: np.ndarray, values: Sequence[int]
) -> dict[int, float]:
    return {value: float((label == value).mean()) for value in values}


def _from_maps(folder: LabelFolder, masks: Masks) -> Confidence:
    """The mean of a class's map over its own pixels."""
    first = masks.labels[0].value

    def confidence(
        image_id: str, label: np.ndarray, values: Sequence[int]
    ) -> dict[int, float]:
        if not values:
            return {}
        path = folder.scores(image_id)
        maps = load_score_maps(path)
        kept = maps.strided if maps.full is None else maps.full
        if kept is None:
            raise ValueError(f"{path} holds no maps")
        if maps.full is not None and kept.shape[1:] != label.shape:
            raise ValueError(
                f"{path} has maps of (H, W) = {kept.shape[1:]}, the mask {label.shape}"
            )
        found = {}
        for value in values:
            places = np.flatnonzero(maps.classes == value - first)
            if not places.size:
                name = masks.classes[value - first]
                raise ValueError(
                    f"{path} has no map of {name!r}, which the mask shows: name a "
                    "folder with maps of all that masks show (--scores)"
                )
            score = kept[places[0]].astype(np.float32)
            # Those on the stride-4 grid; a small region may lie between its points.
            score = cv2.resize(score, label.shape[::-1], interpolation=cv2.INTER_LINEAR)
            found[value] = float(score[label == value].mean())
        return found

    return confidence


def _from_tables(folder: LabelFolder) -> Confidence:
    """The mean probability that prediction has left."""

    def confidence(
        image_id: str, label: np.ndarray, values: Sequence[int]
    ) -> dict[int, float]:
        path = folder.table(image_id)
        rows = {
            row["label"]: row
            for row in read_json(path, "table of a prediction")["classes"]
        }
        for value in values:
            pixels = rows.get(value, {}).get("pixels")
            if pixels != int((label == value).sum()):
                raise ValueError(
                    f"{path} is not of {folder.label(image_id)}, which was changed "
                    "since: predict anew, or copy the masks to a folder of their own"
                )
        return {value: rows[value]["confidence"] for value in values}

    return confidence
