"""What a report shows of single images: the image, its truth, and what it was given."""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mmwood.fileio.files import files_by_id
from mmwood.fileio.images import image_paths, read_picture
from mmwood.fileio.label_folder import LabelFolder, load_score_maps
from mmwood.fileio.labels import VOID, biased_as_void, read_label_png
from mmwood.functional.confusion import image_miou
from mmwood.report.pictures import outlined, picture_source
from mmwood.report.spec import Data, Labels, Network, Spec, named
from mmwood.utils.progress import progress
from mmwood.visualization.comparison import one_image_per_class
from mmwood.visualization.panels import overlay_heat, overlay_label

#: Images that are shown as examples.
MAX_EXAMPLES = 20
#: Images whose own mIoU is computed; of more, so many at equal distances.
MAX_SCORED = 5000
#: Best and worst images.
EXTREMES = 3


class Cell(NamedTuple):
    """A picture with its texts."""

    source: str
    alt: str
    caption: str


class Card(NamedTuple):
    """Everything that is shown of one image.

    Attributes:
        title: Its heading.
        columns: Pictures side by side.
        rows: Heading and pictures of each row; None leaves a place empty.
    """

    title: str
    columns: int
    rows: list[tuple[str, list[Cell | None]]]


class Extremes(NamedTuple):
    """The images on which one kind of labels or one network is best and worst.

    Attributes:
        name: Of the labels or of the network.
        branch: By whose mIoU the images were ranked.
        quartiles: Branch, lower quartile, median and upper quartile of the images'
            mIoU.
        scored, images: How many images have a mIoU, and how many there are.
        best, worst: The best image first, the worst image first.
    """

    name: str
    branch: str
    quartiles: list[tuple[str, float, float, float]]
    scored: int
    images: int
    best: list[Card]
    worst: list[Card]


class Album:
    """Images, their true masks, and label maps of them."""

    def __init__(self, data: Data, where: str) -> None:
        self.data, self.where = data, where
        # A card shows one image in every cell.
        self._picture = lru_cache(maxsize=1)(
            lambda name: read_picture(self.path(name), data.decoding)
        )

    @cached_property
    def _index(self) -> dict[str, Path]:
        """Images by their path without suffix, and by their name where it is one's."""
        paths: dict[str, Path] = {}
        names: dict[str, list[Path]] = {}
        for path in sorted(image_paths(self.data.images)):
            paths[str(path.relative_to(self.data.images).with_suffix(""))] = path
            names.setdefault(path.stem, []).append(path)
        single = {name: found[0] for name, found in names.items() if len(found) == 1}
        return {**single, **paths}

    def path(self, name: str) -> Path:
        """The file of an image.

        A folder of predictions is flat, and one's own images may have any suffix.
        """
        path = self.data.images / f"{name}{self.data.suffix}"
        if path.is_file():
            return path
        if name not in self._index:
            raise FileNotFoundError(
                f"{self.where}.images: there is no image {path}, of which there are "
                "labels"
            )
        return self._index[name]

    def truth(self, name: str) -> np.ndarray | None:
        """The true mask of an image, or None without."""
        if self.data.masks is None:
            return None
        inside = self.path(name).relative_to(self.data.images)
        path = self.data.masks / inside.with_name(f"{inside.stem}.png")
        return read_label_png(path) if path.is_file() else None

    def cell(
        self, name: str, caption: str, layer: np.ndarray | None = None, of: str = ""
    ) -> Cell:
        """The image with a label map over it (uint8), with a score map, or alone."""
        picture = self._picture(name)
        if layer is not None and layer.dtype == np.uint8:
            if layer.shape != picture.shape[:2]:
                raise ValueError(
                    f"{self.path(name)} has (H, W) = {picture.shape[:2]}, its "
                    f"{caption} {of} {layer.shape}"
                )
            picture = outlined(overlay_label(picture, layer), layer)
        elif layer is not None:
            size = picture.shape[1::-1]
            heat = cv2.resize(layer.astype(np.float32), size)
            picture = overlay_heat(picture, heat)
        alt = f"{name}: {caption}" + (f", {of}" if of else "")
        return Cell(picture_source(picture), alt, caption)

    def miou(self, path: Path, truth: np.ndarray | None) -> float:
        """MIoU of one label map; NaN where the truth shows no object."""
        if truth is None or not np.setdiff1d(truth, (0, VOID)).size:
            return np.nan
        classes = len(self.data.classes)
        label, _ = biased_as_void(read_label_png(path), classes)
        with named(str(path)):
            return image_miou(label, truth, classes)


class _Kind(NamedTuple):
    """One kind of labels, or one network: its label maps in every branch."""

    name: str
    files: list[dict[str, Path]]


def labels_examples(spec: Spec) -> list[Card]:
    """For each class the first training image that shows it alone.

    Rows are branches; columns are the maps, every kind of labels, and predictions of
    networks that were tested on these images.

    Raises:
        FileNotFoundError: Labels are of an image that is not there.
        ValueError: Labels are of other classes, or of another size than their image.
    """
    kinds = _kinds(spec.labels)
    if spec.data is None or not kinds:
        return []
    album = Album(spec.data, f"{spec.path}: data")
    for branch in spec.branches:
        for item in branch.labels:
            _check_classes(item, spec.data.classes)
    mapped = next(
        (
            found
            for found in spec.labels.values()
            if any(item and item.has_scores for item in found)
        ),
        [None] * len(spec.branches),
    )
    chosen = list(_examples(album, kinds[0], mapped).items())[:MAX_EXAMPLES]
    kinds += [
        kind
        for kind in _kinds(spec.networks)
        if any(name in files for files in kind.files for name, _ in chosen)
    ]
    return [
        _card(album, spec, *image, kinds, [_class_map(item, *image) for item in mapped])
        for image in chosen
    ]


def network_examples(spec: Spec) -> list[Card]:
    """For each class the first image that shows it alone, of those not trained on."""
    kinds = _kinds(spec.networks)
    if spec.data is None or not kinds:
        return []
    album = Album(spec.data, f"{spec.path}: data")
    seen = {
        name for kind in _kinds(spec.labels) for files in kind.files for name in files
    }
    first = _Kind(
        kinds[0].name,
        [{n: p for n, p in files.items() if n not in seen} for files in kinds[0].files],
    )
    chosen = list(_examples(album, first).items())[:MAX_EXAMPLES]
    return [_card(album, spec, *image, kinds) for image in chosen]


def extremes(spec: Spec) -> list[Extremes]:
    """Best and worst images of the last kind of labels and of the last network."""
    if spec.data is None or spec.data.masks is None:
        return []
    album = Album(spec.data, f"{spec.path}: data")
    last = [*_kinds(spec.labels)[-1:], *_kinds(spec.networks)[-1:]]
    found = (_extremes(album, spec, kind) for kind in last)
    return [item for item in found if item is not None]


def _extremes(album: Album, spec: Spec, kind: _Kind) -> Extremes | None:
    used = [number for number, files in enumerate(kind.files) if files]
    names = sorted(set.intersection(*(set(kind.files[number]) for number in used)))
    images = len(names)
    if images > MAX_SCORED:
        places = np.linspace(0, images - 1, MAX_SCORED).round().astype(int)
        names = [names[place] for place in places]
    scores: dict[str, list[float]] = {}
    for name in progress(names, kind.name):
        truth = album.truth(name)
        own = [album.miou(kind.files[number][name], truth) for number in used]
        if not np.isnan(own).any():
            scores[name] = own
    if not scores:
        return None
    order = sorted(scores, key=lambda name: (scores[name][-1], name))
    count = min(EXTREMES, len(order) // 2 or 1)

    def card(name: str) -> Card:
        cells: list[Cell | None] = [
            album.cell(name, "image"),
            album.cell(name, "truth", album.truth(name)),
        ]
        for number, score in zip(used, scores[name]):
            label = read_label_png(kind.files[number][name])
            caption = spec.branches[number].name
            cell = album.cell(name, caption, label, kind.name)
            cells.append(cell._replace(caption=f"{caption}: {score:.0f}"))
        return Card(name, len(cells), [("", cells)])

    table = np.array(list(scores.values()))
    quartiles = [
        (spec.branches[number].name, *np.percentile(column, (25, 50, 75)).tolist())
        for number, column in zip(used, table.T)
    ]
    return Extremes(
        name=kind.name,
        branch=spec.branches[used[-1]].name,
        quartiles=quartiles,
        scored=len(scores),
        images=images,
        best=[card(name) for name in order[: -count - 1 : -1]],
        worst=[card(name) for name in order[:count]],
    )


def _card(
    album: Album,
    spec: Spec,
    name: str,
    number: int,
    kinds: Sequence[_Kind],
    maps: Sequence[np.ndarray | None] = (),
) -> Card:
    """Image and truth, and below them a row of every branch's map and labels."""
    truth = album.truth(name)
    top: list[Cell | None] = [album.cell(name, "image")]
    if truth is not None:
        top.append(album.cell(name, "truth", truth))
    has_maps = any(score_map is not None for score_map in maps)
    rows = [("", top)]
    for place, branch in enumerate(spec.branches):
        cells: list[Cell | None] = []
        if has_maps:
            heat = maps[place]
            cells.append(
                None if heat is None else album.cell(name, "map", heat, branch.name)
            )
        for kind in kinds:
            path = kind.files[place].get(name)
            if path is None:
                cells.append(None)
                continue
            cell = album.cell(name, kind.name, read_label_png(path), branch.name)
            score = album.miou(path, truth)
            if not np.isnan(score):
                cell = cell._replace(caption=f"{kind.name}: {score:.0f}")
            cells.append(cell)
        rows.append((branch.name, cells))
    title = f"{album.data.classes[number]}: {name}"
    return Card(title, max(2, len(kinds) + has_maps), rows)


def _examples(
    album: Album, kind: _Kind, mapped: Sequence[Labels | None] = ()
) -> dict[str, int]:
    """Image -> class, from 0: the first image of each class that it shows alone.

    By the tags that the maps were made for; without maps by the true masks, and
    without these by the labels.
    """
    for item in mapped:
        if item is None or item.folder is None or not item.has_scores:
            continue
        folder = LabelFolder(item.folder)
        if folder.manifest_path.is_file():
            return {
                name: int(load_score_maps(folder.scores(name)).classes[0])
                for name in one_image_per_class(item.folder)
            }
    first: dict[int, str] = {}
    files = next(filter(None, kind.files), {})
    for name, path in list(files.items())[:MAX_SCORED]:
        shown = album.truth(name)
        if shown is None:
            label = read_label_png(path)
            shown, _ = biased_as_void(label, len(album.data.classes))
        found = np.setdiff1d(shown, (0, VOID))
        if len(found) == 1 and found[0] <= len(album.data.classes):
            first.setdefault(int(found[0]) - 1, name)
            if len(first) == len(album.data.classes):
                break
    return {first[number]: number for number in sorted(first)}


def _class_map(item: Labels | None, name: str, number: int) -> np.ndarray | None:
    """The map of a class, float, on whatever grid; None without."""
    if item is None or item.folder is None or not item.has_scores:
        return None
    path = LabelFolder(item.folder).scores(name)
    if not path.is_file():
        return None
    stored = load_score_maps(path)
    maps = stored.strided if stored.full is None else stored.full
    if maps is None or number not in stored.classes:
        return None
    return maps[list(stored.classes).index(number)]


def _check_classes(item: Labels, classes: Sequence[str]) -> None:
    """Labels that mmwood made say which classes they are of."""
    if item.folder is None or not LabelFolder(item.folder).manifest_path.is_file():
        return
    found = LabelFolder(item.folder).manifest().get("classes")
    if found is not None and found != list(classes):
        raise ValueError(
            f"{item.where}.folder: {item.folder} holds labels of the classes {found}, "
            f"data.classes are {list(classes)}"
        )


def _kinds(parts: Mapping[str, Sequence[Labels | Network | None]]) -> list[_Kind]:
    """The kinds of labels, or the networks, with a label map in some branch."""
    kinds = (
        _Kind(
            name,
            [
                files_by_id(item.label_folder) if item and item.label_folder else {}
                for item in found
            ],
        )
        for name, found in parts.items()
    )
    return [kind for kind in kinds if any(kind.files)]
