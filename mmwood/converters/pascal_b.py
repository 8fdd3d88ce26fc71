"""PASCAL-B: an evaluation set with about equally many objects of each class and size.

Images with the 20 classes of PASCAL VOC, chosen from the annotations of LVIS and COCO
so that small, medium and large objects of every class count alike. Source: Mun et al.,
"Small Objects Matter in Weakly-supervised Semantic Segmentation", WACV 2024, whose own
list (1,137 images) cannot be had from the text. The folder is laid out as PASCAL VOC:

    SegmentationClass/*.png     palette PNG: 0 background, 1..20 classes, 255 void
    SegmentationObject/*.png    0 no instance, 255 void, any other value an instance;
                                palette PNG, or 16 bits where 254 are not enough
    ImageSets/Segmentation/val.txt
    JPEGImages/                 the images, where they were linked or copied
    counts.csv                  instances by class and size, as they are drawn
    pascal_b.json               parameters, counts, what was left out; complete at last

People look at the masks in ``tools/review_ood.py`` (see :func:`build`, ``review``).

``pascal_b_classes.csv`` says which categories are which class. Its LVIS names were
checked against version 1's list (detectron2's ``lvis_v1_categories.py``), and chosen
by VOC's annotation guidelines: cars without emergency vehicles, chairs without stools,
tables to eat at, trains as a whole. LVIS has no potted plants; they come from COCO.
"""

import io
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mmwood.fileio.candidates import Candidate, read_manifest, write_manifest
from mmwood.fileio.coco import (
    entry_size,
    image_name,
    read_coco,
    run_lengths,
    segment,
)
from mmwood.fileio.files import (
    atomic_write,
    compare_description,
    file_sha256,
    read_json,
    remove_leftovers,
    write_json,
)
from mmwood.fileio.images import check_readable, check_there, read_rgb
from mmwood.fileio.labels import VOID, read_label_png, save_label_png, voc_palette
from mmwood.fileio.lists import (
    TaggedImage,
    bullets,
    check_id,
    read_id_list,
    refuse_shared_files,
)
from mmwood.fileio.tables import read_rows

__all__ = [
    "CLASS_TABLE",
    "LIST",
    "PLACES",
    "REVIEW",
    "SIZES",
    "ClassTable",
    "Item",
    "Scene",
    "build",
    "choose_images",
    "count_instances",
    "draw_review",
    "draw_scene",
    "find_candidates",
    "read_annotations",
    "read_class_table",
]

#: The table of classes that comes with the package.
CLASS_TABLE = Path(__file__).with_name("pascal_b_classes.csv")
#: What becomes of the images: symbolic links, copies, or nothing.
PLACES = ("none", "link", "copy")
SIZES = ("small", "medium", "large")
#: The list of the chosen images, where stock VOC configs look for it.
LIST = "ImageSets/Segmentation/val.txt"
#: The manifest of the pictures that people review, in their folder.
REVIEW = "review.csv"
#: Why an image cannot be chosen.
LEFT_OUT = dict(
    excluded="in the exclude list",
    partial="LVIS has not annotated a class exhaustively",
    unknown="no COCO file lists it, so classes that LVIS lacks are unknown",
    disputed="COCO shows a class that LVIS has not annotated",
    empty="no instance of a class",
    coco_only="no LVIS file lists it",
)

_FORMAT = "mmwood PASCAL-B 1"
_MANIFEST = "pascal_b.json"
#: How many images are drawn for one place, of which the most even one is taken.
_DRAWS = 64
#: Masks of one class that overlap so much show one object, named twice.
_SAME_OBJECT = 0.8
#: What is kept of JSON objects; the rest (addresses, boxes, dates) only needs memory.
_KEPT = (
    *("images", "annotations", "categories", "id", "name", "file_name", "coco_url"),
    *("height", "width", "not_exhaustive_category_ids", "image_id", "category_id"),
    *("segmentation", "area", "iscrowd", "size", "counts"),
)


@dataclass(frozen=True)
class ClassTable:
    """Which categories of a source are which class.

    Attributes:
        names: The classes; label c is ``names[c - 1]``.
        labels: Label by category, for the sources ``'lvis'`` and ``'coco'``.
    """

    names: tuple[str, ...]
    labels: dict[str, dict[str, int]]


@dataclass(slots=True)
class Item:
    """One annotation of a class.

    Attributes:
        label: Its class, from 1.
        category: The source's category.
        segmentation: Polygons, or run lengths, as in COCO.
        area: Pixels, as annotated.
        crowd: Whether it is a crowd, which becomes void.
    """

    label: int
    category: int
    segmentation: list | dict
    area: float
    crowd: bool


@dataclass(slots=True)
class Scene:
    """One image and its annotations.

    Attributes:
        name: File name, perhaps in a folder.
        folder: The folder (split) that the image's address names, or ''.
        height, width: Size in pixels.
        source: The file and the entry, to be named in errors.
        items: Annotations of the classes.
        partial: Labels that are not annotated exhaustively.
    """

    name: str
    folder: str
    height: int
    width: int
    source: str
    items: list[Item] = field(default_factory=list)
    partial: set[int] = field(default_factory=set)

    @property
    def stem(self) -> str:
        """The image's id in lists, and the name of its maps."""
        return Path(self.name).stem


def read_class_table(path: str | os.PathLike = CLASS_TABLE) -> ClassTable:
    """The classes from a CSV file with the columns ``class, source, category``.

    Classes are numbered from 1 as they first occur; ``source`` is lvis or coco.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a file; the message names the line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"class_table: there is no file {path}")
    names: dict[str, int] = {}
    labels: dict[str, dict[str, int]] = dict(lvis={}, coco={})
    for where, row in read_rows(path, ("class", "source", "category")):
        name, source, category = row
        if not category or source not in labels:
            raise ValueError(
                f"{where}: expected a class, lvis or coco, and a category, got "
                f"{','.join(row)!r}"
            )
        if category in labels[source]:
            raise ValueError(f"{where}: {source} {category!r} has a class already")
        # Pictures for review lie in a folder of their class.
        check_id(name, where, "class")
        labels[source][category] = names.setdefault(name, len(names) + 1)
    if not 0 < len(names) < VOID:
        raise ValueError(f"{path} names {len(names)} classes, expected 1..{VOID - 1}")
    return ClassTable(tuple(names), labels)


def read_annotations(
    path: str | os.PathLike, labels: Mapping[str, int]
) -> dict[int, Scene]:
    """The images of a COCO or LVIS file by their id, with the annotations of classes.

    Needs much less memory than ``json.load``: what is not used, and above all the
    polygons' Python numbers, is dropped while the file is parsed.

    Args:
        path: The annotation file.
        labels: Label by category name; annotations of other categories are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a file, or lacks a category of ``labels``; the
            message names the entry.
    """
    fields = ("height", "width"), ("segmentation", "area")
    coco = read_coco(path, *fields, object_hook=_compact)
    lacking = sorted(set(labels) - set(coco.categories.values()))
    if lacking:
        raise ValueError(
            f"{path}: there are no categories {lacking}, which the table of classes "
            "names"
        )
    by_id = {number: labels.get(name) for number, name in coco.categories.items()}
    scenes = {
        number: _scene(entry, by_id, coco.sources("images", place))
        for place, (number, entry) in enumerate(coco.images.items())
    }
    for place, entry in enumerate(coco.annotations):
        label = by_id[entry["category_id"]]
        if label is not None:
            item = _item(entry, label, coco.sources("annotations", place))
            # Without a polygon of three points it has no pixel.
            if item.segmentation:
                scenes[entry["image_id"]].items.append(item)
    return scenes


def _compact(entry: dict) -> dict:
    """A JSON object without what is not used, its polygons as arrays."""
    entry = {key: entry[key] for key in _KEPT if key in entry}
    if isinstance(entry.get("segmentation"), list):
        try:
            entry["segmentation"] = [array("d", p) for p in entry["segmentation"]]
        except TypeError:
            # Which entry is faulty is not known here: _item refuses it.
            entry["segmentation"] = None
    return entry


def _scene(entry: dict, by_id: Mapping[int, int | None], source: str) -> Scene:
    folder, name = image_name(entry, source)
    partial = {by_id.get(c) for c in entry.get("not_exhaustive_category_ids", ())}
    size = entry_size(entry, source)
    return Scene(name, folder, *size, source, partial=partial - {None})


def _item(entry: dict, label: int, source: str) -> Item:
    segmentation, area = entry["segmentation"], entry["area"]
    if isinstance(segmentation, list):
        if any(len(part) % 2 for part in segmentation):
            raise ValueError(f"{source}: a polygon has an odd number of coordinates")
        # pycocotools takes four numbers for a box; two points enclose nothing.
        segmentation = [part for part in segmentation if len(part) >= 6]
    elif not isinstance(segmentation, dict) or {"size", "counts"} - set(segmentation):
        raise ValueError(f"{source}: segmentation is neither polygons nor run lengths")
    if not isinstance(area, (int, float)):
        raise ValueError(f"{source}: area is {area!r}, no number")
    crowd = bool(entry.get("iscrowd", 0))
    return Item(label, entry["category_id"], segmentation, float(area), crowd)


def find_candidates(
    lvis: Mapping[int, Scene],
    coco: Mapping[int, Scene],
    table: ClassTable,
) -> tuple[list[Scene], Counter]:
    """The images that may be chosen, and how many may not, by reason.

    With LVIS files the images are theirs, and COCO adds the classes that LVIS lacks.
    LVIS says of few classes that an image does not show them; COCO, which is
    exhaustive, answers that: an image in which it shows a class that LVIS has not
    annotated is left out. Without COCO files the absence of annotations is believed.

    Args:
        lvis, coco: Images by id; empty where there are no such files.
        table: The classes.

    Returns:
        Images in the order of their ids, each with all its classes; numbers by the
        keys of :data:`LEFT_OUT`.

    Raises:
        ValueError: Both list an image, but in different sizes; or two images have one
            name.
    """
    of_lvis = set(table.labels["lvis"].values())
    kept: dict[str, Scene] = {}
    left_out = Counter(coco_only=len(set(coco) - set(lvis)) if lvis else 0)
    for number, scene in sorted((lvis or coco).items()):
        other = coco.get(number) if lvis else None
        if other is not None:
            _compare_sizes(scene, other)
            shown = {item.label for item in scene.items}
            disputed = {i.label for i in other.items} & of_lvis - shown
            added = [item for item in other.items if item.label not in of_lvis]
            scene = replace(scene, items=scene.items + added)
        if scene.partial:
            left_out["partial"] += 1
        elif lvis and coco and other is None:
            left_out["unknown"] += 1
        elif other is not None and disputed:
            left_out["disputed"] += 1
        elif all(item.crowd for item in scene.items):
            left_out["empty"] += 1
        elif scene.stem in kept:
            raise ValueError(
                f"{scene.source} has the name {scene.stem!r} of "
                f"{kept[scene.stem].source}: their maps would be one file"
            )
        else:
            kept[scene.stem] = scene
    refuse_shared_files(
        TaggedImage(stem, None, scene.source) for stem, scene in kept.items()
    )
    return list(kept.values()), left_out


def _compare_sizes(scene: Scene, other: Scene) -> None:
    sizes = [(each.height, each.width) for each in (scene, other)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{scene.source} has (H, W) = {sizes[0]}, {other.source}, the same image, "
            f"{sizes[1]}"
        )


def choose_images(
    counts: np.ndarray, number: int, seed: int, excluded: Collection[int] = ()
) -> list[int]:
    r"""Draw images at random so that all cells (class and size) fill evenly.

    The next image is one for the cell with the fewest instances so far, of those that
    an image is left for: 64 of these are drawn, and that one is taken which leaves

    .. math:: \sum_k n_k^2 / \bigl(\sum_k n_k\bigr)^2

    smallest, with :math:`n_k` one more than the instances in cell k, so that the first
    images are compared too. At its minimum all are equal.

    Excluded images are drawn like others; then they are given back, and others drawn
    in their place, until none is among them. So the rest of a choice that people have
    looked at stays, however many of it they reject.

    Args:
        counts: Instances of each image in each cell.
        number: How many images to choose, or all that show an instance.
        seed: Seed of the draws, at least 0.
        excluded: Rows of images that must not be chosen.

    Returns:
        The images' rows, in the order in which they were chosen.

    Shape:
        - counts: (N, K)

    Example:
        >>> choose_images(np.array([[5, 0], [1, 0], [0, 1]]), 2, seed=0)
        [1, 2]
    """
    rng = np.random.default_rng(seed)
    counts = np.asarray(counts, dtype=np.int64)
    holders = [np.flatnonzero(column) for column in counts.T]
    free = np.ones(len(counts), dtype=bool)
    total = np.zeros(counts.shape[1], dtype=np.int64)
    chosen = []
    while True:
        holders = [rows[free[rows]] for rows in holders]
        open_cells = [cell for cell, rows in enumerate(holders) if len(rows)]
        if len(chosen) == number or not open_cells:
            rejected = [row for row in chosen if row in excluded]
            if not rejected:
                return chosen
            chosen = [row for row in chosen if row not in excluded]
            total -= counts[rejected].sum(axis=0)
            continue
        rows = holders[min(open_cells, key=lambda cell: total[cell])]
        drawn = rng.choice(rows, size=min(_DRAWS, len(rows)), replace=False)
        after = total + counts[drawn] + 1
        best = drawn[((after**2).sum(axis=1) / after.sum(axis=1) ** 2).argmin()]
        total += counts[best]
        free[best] = False
        chosen.append(int(best))


def draw_scene(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw the class map and the instance map of an image.

    Where instances overlap the smaller one is on top. Crowds are void where no
    instance is. An object that LVIS names twice (a bird, a duck) is drawn once: of
    two masks of one class, different categories and an IoU of 0.8, the first.

    Returns:
        Class map (H, W) uint8, and instance map (H, W) uint8, or uint16 where it has
        more than 254 instances; 255 is void in both.

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: Run lengths are not of the image's size, or no run lengths.
    """
    tools = run_lengths("PASCAL-B")
    size = scene.height, scene.width
    pairs = []
    for item in scene.items:
        try:
            rle = segment(item.segmentation, *size)
        except ValueError as error:
            raise ValueError(f"{scene.source}: {error}") from error
        if rle is not None:
            pairs.append((item, rle))
    sizes = {id(rle): int(tools.area(rle)) for _, rle in pairs}
    pairs = [pair for pair in pairs if sizes[id(pair[1])]]
    classes = np.zeros((scene.height, scene.width), dtype=np.uint8)
    for item, rle in pairs:
        if item.crowd:
            classes[tools.decode(rle).view(bool)] = VOID
    pairs = _without_repeats([pair for pair in pairs if not pair[0].crowd], tools)
    ids = classes.astype(np.uint16 if len(pairs) >= VOID else np.uint8)
    pairs.sort(key=lambda pair: sizes[id(pair[1])])
    for number, (item, rle) in reversed(list(enumerate(pairs, start=1))):
        mask = tools.decode(rle).view(bool)
        classes[mask] = item.label
        ids[mask] = number + (number >= VOID)
    return classes, ids


def _without_repeats(pairs: list[tuple[Item, dict]], tools: ModuleType) -> list:
    """Leave out what shows the same object as an earlier pair."""
    repeated = set()
    categories: dict[int, set[int]] = {}
    for item, _ in pairs:
        categories.setdefault(item.label, set()).add(item.category)
    for label, found in categories.items():
        if len(found) == 1:
            continue
        places = [place for place, (item, _) in enumerate(pairs) if item.label == label]
        rles = [pairs[place][1] for place in places]
        same = tools.iou(rles, rles, [0] * len(rles)) >= _SAME_OBJECT
        for later, earlier in np.argwhere(np.tril(same, -1)).tolist():
            first, second = places[earlier], places[later]
            if (
                first not in repeated
                and pairs[first][0].category != pairs[second][0].category
            ):
                repeated.add(second)
    return [pair for place, pair in enumerate(pairs) if place not in repeated]


def build(
    out_dir: str | os.PathLike,
    *,
    lvis: Sequence[str | os.PathLike] = (),
    coco: Sequence[str | os.PathLike] = (),
    images: str | os.PathLike | None = None,
    place: str = "none",
    number: int = 1137,
    seed: int = 0,
    exclude: str | os.PathLike | None = None,
    size_limits: Sequence[int] = (32**2, 96**2),
    class_table: str | os.PathLike = CLASS_TABLE,
    review: str | os.PathLike | None = None,
    force: bool = False,
    progress: Callable[[list], Iterable] | None = None,
) -> dict[str, Any]:
    """Choose the images and write the data set; the module's text has the layout.

    All that can be wrong is looked for before the first file is written. A build that
    was ended goes on where it was: maps that are there and whole are kept. The same
    files and parameters give the same bytes.

    Args:
        out_dir: The folder; it may be missing, empty, or hold this data set.
        lvis, coco: Annotation files, at least one; see :func:`find_candidates`.
        images: Folder of the images, or of their splits (``val2017/``). Each chosen
            image must be there and have the size that its annotation says.
        place: What becomes of the images, one of :data:`PLACES`.
        number: How many images to choose.
        seed: Seed of the choice.
        exclude: List of images that people rejected, an id or a file name a line; or
            a ``.csv`` manifest that they reviewed: images with a rejected row.
        size_limits: Pixels from which on an instance is medium and large.
        class_table: See :func:`read_class_table`.
        review: Folder for what people look at: ``CLASS/ID.jpg``, one picture for each
            class of each image (:func:`draw_review`), and the manifest ``review.csv``
            with them, whose ``probability`` is the share of the image's pixels that
            show the class. A row that is there already keeps its state if its picture
            is the same. Decisions about images that are not chosen any more stay.
        force: Replace this data set where it was built otherwise.
        progress: Wraps the list of images while they are drawn, as ``tqdm`` does.

    Returns:
        The content of ``pascal_b.json``.

    Raises:
        ImportError: pycocotools is not installed.
        FileNotFoundError: A file or an image is missing.
        ValueError: A parameter or a file is faulty, or the folder holds something
            else, or this data set built otherwise; or somebody is reviewing it.
    """
    _check(lvis, coco, images, place, number, seed, size_limits, review)
    run_lengths("PASCAL-B")
    root = Path(out_dir)
    table = read_class_table(class_table)
    parts = {
        key: _read_all(paths, table.labels[key])
        for key, paths in (("lvis", lvis), ("coco", coco))
    }
    excluded = [] if exclude is None else _read_exclude(Path(exclude), parts)
    if review is not None:
        _check_review(Path(review, REVIEW), table.names)
    parameters = dict(
        lvis=[_described(path) for path in lvis],
        coco=[_described(path) for path in coco],
        categories=table.labels,
        excluded=excluded,
        number=number,
        seed=seed,
        size_limits=list(size_limits),
    )
    old = _find(root, parameters, force)
    candidates, left_out = find_candidates(**parts, table=table)
    cells = _annotated_cells(candidates, len(table.names), size_limits)
    stems = set(excluded)
    rejected = {n for n, scene in enumerate(candidates) if scene.stem in stems}
    left_out["excluded"] = len(rejected)
    rows = choose_images(cells, number, seed, rejected)
    annotated = cells[rows].sum()
    chosen = [candidates[row] for row in rows]
    if not chosen:
        raise ValueError(
            "no image can be chosen: "
            + ", ".join(f"{n} {LEFT_OUT[key]}" for key, n in left_out.items() if n)
        )
    chosen.sort(key=lambda scene: scene.stem)
    paths = None
    if images is not None:
        paths = _find_images(Path(images), chosen, decode=review is not None)
    names = [scene.name for scene in chosen]
    record = dict(
        format=_FORMAT,
        complete=False,
        classes=list(table.names),
        parameters=parameters,
        images=names,
    )
    same = old["parameters"] == parameters
    # Before the new manifest: it must never describe old files.
    _remove(root, set(old["images"]) - set(names if same else ()))
    write_json(root / _MANIFEST, record)
    remove_leftovers(root)
    counts = np.zeros((len(table.names), len(SIZES)), dtype=np.int64)
    shown = np.zeros(len(table.names), dtype=np.int64)
    for scene in chosen if progress is None else progress(chosen):
        found = count_instances(*_write_maps(root, scene), len(counts), size_limits)
        counts += found
        shown += found.any(axis=1)
    if paths is not None and place != "none":
        for scene, path in zip(chosen, paths):
            _place_image(path, root / "JPEGImages" / Path(scene.name).name, place)
    _write_lines(root / LIST, [scene.stem for scene in chosen])
    numbers = [[*row, sum(row)] for row in counts.tolist()]
    _write_lines(
        root / "counts.csv",
        [
            ",".join(map(str, row))
            for row in (
                ("class", *SIZES, "instances", "images"),
                *((n, *row, i) for n, row, i in zip(table.names, numbers, shown)),
            )
        ],
    )
    record.update(
        complete=True,
        candidates=len(candidates) - len(rejected),
        left_out={LEFT_OUT[key]: left_out[key] for key in LEFT_OUT if left_out[key]},
        # Covered by others, without a pixel, or the same object once more.
        not_drawn=int(annotated - counts.sum()),
        instances={
            name: dict(zip(SIZES, row)) for name, row in zip(table.names, numbers)
        },
        images_of_class=dict(zip(table.names, shown.tolist())),
    )
    write_json(root / _MANIFEST, record)
    if review is not None:
        drawn = zip(chosen if progress is None else progress(chosen), paths)
        _write_review(Path(review), root, drawn, table.names)
    return record


def count_instances(
    classes: np.ndarray, ids: np.ndarray, count: int, size_limits: Sequence[int]
) -> np.ndarray:
    """Visible instances by class and size.

    Args:
        classes, ids: What :func:`draw_scene` gives.
        count: Number of classes.
        size_limits: Pixels from which on an instance is medium and large.

    Shape:
        - classes, ids: (H, W); output: (count, 3) int64
    """
    areas = np.bincount(ids.ravel())
    label = np.zeros(len(areas), dtype=np.int64)
    # Drawn together, all pixels of an instance have one class.
    label[ids.ravel()] = classes.ravel()
    numbers = np.flatnonzero(areas)
    numbers = numbers[(numbers > 0) & (numbers != VOID)]
    counts = np.zeros((count, len(SIZES)), dtype=np.int64)
    cell = label[numbers] - 1, np.digitize(areas[numbers], size_limits)
    np.add.at(counts, cell, 1)
    return counts


def draw_review(
    image: np.ndarray, classes: np.ndarray, ids: np.ndarray, label: int
) -> np.ndarray:
    """Lay the instances of one class over an image, each in a colour of its own.

    Instances are translucent, in VOC's colours, and edged: a solid line inside them, a
    white one around them. Void is white.

    Args:
        image: The image, RGB.
        classes, ids: What :func:`draw_scene` gives.
        label: The class.

    Shape:
        - image: (H, W, 3) uint8; classes, ids: (H, W); output as image
    """
    mask = classes == label
    # Numbers of their own: the first colours of the palette differ most.
    numbers = np.unique(ids[mask], return_inverse=True)[1]
    shown = np.zeros(ids.shape, dtype=np.uint8)
    shown[mask] = numbers % (VOID - 1) + 1
    shown[classes == VOID] = VOID
    palette = voc_palette()
    palette[VOID] = 255
    colours = palette[shown]
    mixed = cv2.addWeighted(image, 0.6, colours, 0.4, 0)
    square = np.ones((3, 3), dtype=np.uint8)
    edge = cv2.dilate(shown, square) != cv2.erode(shown, square)
    colours[shown == 0] = 255
    inside = (shown > 0)[..., None]
    return np.where(edge[..., None], colours, np.where(inside, mixed, image))


def _write_review(
    folder: Path,
    root: Path,
    drawn: Iterable[tuple[Scene, Path]],
    names: Sequence[str],
) -> None:
    """Write the pictures of these images, and the manifest that lists them."""
    with _reviewed(folder / REVIEW, "review") as lines:
        # The folder may have been moved, or be named from elsewhere.
        old = {folder / r.class_name / Path(r.image).name: r for _, r in lines}
        remove_leftovers(folder)
        rows = []
        for scene, source in drawn:
            classes, ids = _write_maps(root, scene)
            image = read_rgb(source)
            for label in sorted(set(np.unique(classes).tolist()) - {0, VOID}):
                name = names[label - 1]
                path = folder / name / f"{scene.stem}.jpg"
                picture = Image.fromarray(draw_review(image, classes, ids, label))
                # To memory first: Pillow does not see that the disk is full.
                jpeg = io.BytesIO()
                picture.save(jpeg, "JPEG", quality=90, subsampling=0)
                with atomic_write(path) as temporary:
                    temporary.write_bytes(jpeg.getvalue())
                digest = file_sha256(path)
                before = old.pop(path, None)
                same = before is not None and before.sha256 == digest
                state = before.state if same else "unseen"
                share = round(float((classes == label).mean()), 6)
                rows.append(Candidate(str(path), name, share, 0, state, digest))
        # Without the rejected rows the next build would choose their images again.
        stay = {path: row for path, row in old.items() if row.state != "unseen"}
        rows += [replace(row, image=str(path)) for path, row in stay.items()]
        rows.sort(key=lambda r: (names.index(r.class_name), -r.probability, r.image))
        ranks: Counter[str] = Counter()
        for row in rows:
            ranks[row.class_name] += 1
            row.rank = ranks[row.class_name]
        write_manifest(folder / REVIEW, rows)
        for path in set(old) - set(stay):
            path.unlink(missing_ok=True)


@contextmanager
def _reviewed(path: Path, field: str) -> Iterator[list[tuple[int, Candidate]]]:
    """Line numbers and rows of a manifest that nobody can review meanwhile.

    Decisions of a review that was cut off are brought in. No file: no rows.
    """
    # It needs fcntl, which the rest of this package can do without.
    from mmwood.fileio.journal import LockedError, SaveError
    from mmwood.ood.review.decisions import Review

    if not path.is_file():
        yield []
        return
    try:
        manifest = Review(path)
    except (LockedError, ValueError) as error:
        raise ValueError(f"{field}: {error}") from error
    try:
        manifest.save()
        yield list(read_manifest(path))
    except SaveError as error:
        raise ValueError(f"{field}: {error}") from error
    finally:
        manifest.journal.close()


def _check_review(path: Path, names: Sequence[str]) -> None:
    """Refuse a manifest that is faulty, under review, or of something else."""
    with _reviewed(path, "review") as rows:
        for line, row in rows:
            if row.class_name not in names:
                raise ValueError(
                    f"review: {path}:{line}: {row.class_name!r} is no class of this "
                    "data set: name another folder"
                )


def _check(lvis, coco, images, place, number, seed, size_limits, review) -> None:
    if not lvis and not coco:
        raise ValueError("name at least one annotation file of LVIS or COCO")
    if place not in PLACES:
        raise ValueError(f"place must be one of {PLACES}, got {place!r}")
    if place != "none" and images is None:
        raise ValueError(f"place={place!r} needs the folder of the images (images)")
    if review is not None and images is None:
        raise ValueError("review needs the folder of the images (images)")
    if number < 1 or seed < 0:
        raise ValueError(
            "expected a number of images of at least 1 and a seed of at least 0, got "
            f"{number} and {seed}"
        )
    if len(size_limits) != 2 or not 0 < size_limits[0] < size_limits[1]:
        raise ValueError(
            f"size_limits must ascend from above 0, got {tuple(size_limits)}"
        )


def _described(path: str | os.PathLike) -> dict[str, str]:
    """A file by its name and its content: where it lies does not matter."""
    return dict(name=Path(path).name, sha256=file_sha256(path))


def _read_all(
    paths: Sequence[str | os.PathLike], labels: Mapping[str, int]
) -> dict[int, Scene]:
    scenes: dict[int, Scene] = {}
    for path in paths:
        found = read_annotations(path, labels)
        twice = sorted(set(found) & set(scenes))
        if twice:
            raise ValueError(
                f"{found[twice[0]].source} has the id {twice[0]} of "
                f"{scenes[twice[0]].source}: expected every image in one file"
            )
        scenes |= found
    return scenes


def _read_exclude(path: Path, parts: Mapping[str, Mapping[int, Scene]]) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"exclude: there is no file {path}")
    known = {scene.stem for scenes in parts.values() for scene in scenes.values()}
    if path.suffix == ".csv":
        with _reviewed(path, "exclude") as rows:
            items = [
                TaggedImage(Path(row.image).stem, None, f"{path}:{line}")
                for line, row in rows
                if row.state == "rejected"
            ]
    else:
        items = read_id_list(path)
    # Not Path.stem for all: an id may hold a dot.
    stems = [i.image if i.image in known else Path(i.image).stem for i in items]
    unknown = [
        f"{item.source}: {item.image}"
        for item, stem in zip(items, stems)
        if stem not in known
    ]
    if unknown:
        raise ValueError(
            f"exclude: {len(unknown)} of {len(items)} images are not in the "
            "annotations:" + bullets(unknown)
        )
    return sorted(set(stems))


def _find(root: Path, parameters: dict, force: bool) -> dict:
    """Parameters and images of the build that is in the folder, if there is one."""
    path = root / _MANIFEST
    if not path.is_file():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ValueError(
                f"out_dir: {root} holds files but no {_MANIFEST}: name another folder"
            )
        return dict(parameters=parameters, images=[])
    found = read_json(path)
    try:
        if found["format"] != _FORMAT:
            raise ValueError(f"format is {found['format']!r}")
        found["images"] = [str(name) for name in found["images"]]
        made_from = found["parameters"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}): name another folder"
        ) from error
    if not force:
        remedy = "name another folder, or replace it with force"
        compare_description(made_from, parameters, root, remedy, "out_dir")
    return found


def _remove(root: Path, names: Iterable[str]) -> None:
    """Remove the list and the files of these images."""
    (root / LIST).unlink(missing_ok=True)
    for name in names:
        for path in _map_paths(root, Path(name).stem):
            path.unlink(missing_ok=True)
        (root / "JPEGImages" / Path(name).name).unlink(missing_ok=True)


def _annotated_cells(
    scenes: Sequence[Scene], classes: int, size_limits: Sequence[int]
) -> np.ndarray:
    """Instances by class and size as annotated: (N, classes * 3)."""
    cells = np.zeros((len(scenes), classes * len(SIZES)), dtype=np.int64)
    for row, scene in enumerate(scenes):
        for item in scene.items:
            if not item.crowd:
                size = sum(item.area >= limit for limit in size_limits)
                cells[row, (item.label - 1) * len(SIZES) + size] += 1
    return cells


def _find_images(folder: Path, scenes: Sequence[Scene], decode: bool) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"images: there is no folder {folder}")
    items, paths = [], []
    for scene in scenes:
        places = (
            folder / scene.name,
            folder / scene.folder / Path(scene.name).name,
        )
        paths.append(next((path for path in places if path.is_file()), places[0]))
        items.append(TaggedImage(scene.name, None, scene.source))
    check_there(items, paths, "images")
    sizes = check_readable(items, paths, decode)
    misfits = [
        f"{scene.source} has (W, H) = {(scene.width, scene.height)}, {path} has {size}"
        for scene, path, size in zip(scenes, paths, sizes)
        if size != (scene.width, scene.height)
    ]
    if misfits:
        raise ValueError(
            f"images: {len(misfits)} of {len(items)} do not have the size that their "
            "annotation says (the exclude list can leave them out):" + bullets(misfits)
        )
    return paths


def _map_paths(root: Path, stem: str) -> tuple[Path, Path]:
    return tuple(
        root / folder / f"{stem}.png"
        for folder in ("SegmentationClass", "SegmentationObject")
    )


def _write_maps(root: Path, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw and write the maps of an image, unless they are there and whole."""
    paths = _map_paths(root, scene.stem)
    # Missing or cut off: it is drawn.
    with suppress(OSError, ValueError):
        maps = tuple(read_label_png(path, wide=True) for path in paths)
        if all(each.shape == (scene.height, scene.width) for each in maps):
            return maps
    maps = draw_scene(scene)
    for path, label in zip(paths, maps):
        save_label_png(label, path)
    return maps


def _place_image(source: Path, target: Path, place: str) -> None:
    source = source.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if place == "copy":
        if target.is_symlink() or not _same_size(source, target):
            with atomic_write(target) as temporary:
                shutil.copyfile(source, temporary)
    elif not target.is_symlink() or target.resolve() != source:
        temporary = target.with_name(f".tmp-{target.name}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source)
        os.replace(temporary, target)


def _same_size(source: Path, target: Path) -> bool:
    return target.is_file() and target.stat().st_size == source.stat().st_size


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
