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

``classes.csv`` says which categories are which class. Its LVIS names were checked
against version 1's list (detectron2's ``lvis_v1_categories.py``), and chosen by VOC's
annotation guidelines: cars without emergency vehicles, chairs without stools, tables to
eat at, trains as a whole. LVIS has no potted plants; they come from COCO.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mmwood.converters.pascal_b.annotations import (
    CLASS_TABLE,
    Scene,
    read_class_table,
    read_files,
)
from mmwood.converters.pascal_b.choice import (
    LEFT_OUT,
    SIZES,
    annotated_cells,
    choose_images,
    find_candidates,
)
from mmwood.converters.pascal_b.drawing import count_instances, draw_scene
from mmwood.converters.pascal_b.review import check_review, read_exclude, write_review
from mmwood.converters.source import check_sizes
from mmwood.converters.writer import find_record, write_lines
from mmwood.fileio.coco import run_lengths
from mmwood.fileio.files import (
    TEMPORARY,
    atomic_write,
    compare_description,
    file_sha256,
    remove_leftovers,
    write_json,
)
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.fileio.lists import TaggedImage
from mmwood.utils.check import at_least, one_of

Place = Literal["none", "link", "copy"]
#: What becomes of the images: symbolic links, copies, or nothing.
PLACES = get_args(Place)
#: The list of the chosen images, where stock VOC configs look for it.
LIST = "ImageSets/Segmentation/val.txt"

_FORMAT = "mmwood PASCAL-B 1"
_MANIFEST = "pascal_b.json"


def build(
    out_dir: str | os.PathLike,
    *,
    lvis: Sequence[str | os.PathLike] = (),
    coco: Sequence[str | os.PathLike] = (),
    images: str | os.PathLike | None = None,
    place: Place = "none",
    number: int = 1137,
    seed: int = 0,
    exclude: str | os.PathLike | None = None,
    size_limits: Sequence[int] = (32**2, 96**2),
    class_table: str | os.PathLike = CLASS_TABLE,
    review: str | os.PathLike | None = None,
    force: bool = False,
    progress: Callable[[list], Iterable] = iter,
) -> dict[str, Any]:
    """Choose the images and write the data set; the module's text has the layout.

    All that can be wrong is looked for before the first file is written. An interrupted
    build is resumed: maps that are there and whole are kept. The same files and
    parameters give the same bytes.

    Args:
        out_dir: The folder; it may be missing, empty, or hold this data set.
        lvis: Annotation files of LVIS; ``find_candidates`` says what each is for.
        coco: Those of COCO; of both together at least one.
        images: Folder of the images, or of their splits (``val2017/``). Each chosen
            image must be there and have the size that its annotation says.
        place: What becomes of the images, one of :data:`PLACES`.
        number: How many images to choose.
        seed: Random seed of the choice.
        exclude: List of images that people rejected, an id or a file name a line; or
            a ``.csv`` manifest that they reviewed: images with a rejected row.
        size_limits: Pixels from which on an instance is medium and large.
        class_table: See ``read_class_table``.
        review: Folder for what people look at: ``CLASS/ID.jpg``, one picture for each
            class of each image (``draw_review``), and the manifest ``review.csv`` with
            them, whose ``probability`` is the fraction of the image's pixels that show
            the class. A row that is there already keeps its state if its picture is the
            same. Decisions about images that are not chosen any more stay.
        force: Replace this data set where it was built otherwise.
        progress: Wraps the list of images while they are drawn, as ``tqdm`` does.

    Raises:
        ImportError: pycocotools is not installed.
        FileNotFoundError: A file or an image is missing.
        ValueError: A parameter or a file is faulty, or the folder holds something
            else, or this data set built otherwise; or somebody is reviewing it.
    """
    if not lvis and not coco:
        raise ValueError("name at least one annotation file of LVIS or COCO")
    one_of("place", place, PLACES)
    if images is None and (place != "none" or review is not None):
        raise ValueError("place and review need the folder of the images (images)")
    at_least("number", number, 1)
    at_least("seed", seed, 0)
    if len(size_limits) != 2 or not 0 < size_limits[0] < size_limits[1]:
        raise ValueError(
            f"size_limits must ascend from above 0, got {tuple(size_limits)}"
        )
    run_lengths("PASCAL-B")
    root = Path(out_dir)
    table = read_class_table(class_table)
    scenes = {
        source: read_files(paths, table.labels[source])
        for source, paths in (("lvis", lvis), ("coco", coco))
    }
    excluded = [] if exclude is None else read_exclude(Path(exclude), scenes.values())
    if review is not None:
        check_review(Path(review), table.names)
    parameters = dict(
        lvis=[_described(path) for path in lvis],
        coco=[_described(path) for path in coco],
        categories=table.labels,
        excluded=excluded,
        number=number,
        seed=seed,
        size_limits=list(size_limits),
    )
    old = find_record(root, _MANIFEST, needs=("parameters", "images"), format=_FORMAT)
    if old is not None and not force:
        remedy = "name another folder, or replace it with force"
        compare_description(old["parameters"], parameters, root, remedy, "out_dir")
    candidates, left_out = find_candidates(**scenes, table=table)
    cells = annotated_cells(candidates, len(table.names), size_limits)
    stems = set(excluded)
    rejected = {n for n, scene in enumerate(candidates) if scene.stem in stems}
    left_out["excluded"] = len(rejected)
    rows = choose_images(cells, number, seed, rejected)
    if not rows:
        raise ValueError(
            "no image can be chosen: "
            + ", ".join(f"{n} {LEFT_OUT[key]}" for key, n in left_out.items() if n)
        )
    chosen = sorted((candidates[row] for row in rows), key=lambda scene: scene.stem)
    paths: list[Path] = []
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
    if old is not None:
        # Before the new manifest: it must never describe old files.
        same = old["parameters"] == parameters
        _remove(root, set(old["images"]) - set(names if same else ()))
    write_json(root / _MANIFEST, record)
    remove_leftovers(root)
    counts = np.zeros((len(table.names), len(SIZES)), dtype=np.int64)
    shown = np.zeros(len(table.names), dtype=np.int64)
    for scene in progress(chosen):
        found = count_instances(*_write_maps(root, scene), len(counts), size_limits)
        counts += found
        shown += found.any(axis=1)
    if place != "none":
        for scene, path in zip(chosen, paths):
            _place_image(path, root / "JPEGImages" / Path(scene.name).name, place)
    write_lines(root / LIST, [scene.stem for scene in chosen])
    numbers = counts.tolist()
    lines: list[tuple] = [("class", *SIZES, "instances", "images")]
    lines += [(n, *row, sum(row), i) for n, row, i in zip(table.names, numbers, shown)]
    write_lines(root / "counts.csv", [",".join(map(str, line)) for line in lines])
    record.update(
        complete=True,
        candidates=len(candidates) - len(rejected),
        left_out={LEFT_OUT[key]: left_out[key] for key in LEFT_OUT if left_out[key]},
        # Covered by others, without a pixel, or the same object once more.
        not_drawn=int(cells[rows].sum() - counts.sum()),
        instances={n: dict(zip(SIZES, row)) for n, row in zip(table.names, numbers)},
        images_of_class=dict(zip(table.names, shown.tolist())),
    )
    write_json(root / _MANIFEST, record)
    if review is not None:
        pairs = zip(progress(chosen), paths)
        drawn = ((scene, path, *_write_maps(root, scene)) for scene, path in pairs)
        write_review(Path(review), drawn, table.names)
    return record


def _described(path: str | os.PathLike) -> dict[str, str]:
    """A file by its name and its content: where it lies does not matter."""
    return dict(name=Path(path).name, sha256=file_sha256(path))


def _remove(root: Path, names: Iterable[str]) -> None:
    """Remove the list and the files of these images."""
    (root / LIST).unlink(missing_ok=True)
    for name in names:
        for path in _map_paths(root, Path(name).stem):
            path.unlink(missing_ok=True)
        (root / "JPEGImages" / Path(name).name).unlink(missing_ok=True)


def _find_images(folder: Path, scenes: Sequence[Scene], decode: bool) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"images: there is no folder {folder}")
    paths = []
    for scene in scenes:
        path = folder / scene.name
        inside = folder / scene.folder / path.name
        paths.append(inside if inside.is_file() and not path.is_file() else path)
    check_sizes(
        [TaggedImage(scene.name, None, scene.source) for scene in scenes],
        paths,
        [scene.size for scene in scenes],
        "images",
        decode,
        " (the exclude list can leave them out)",
    )
    return paths


def _map_paths(root: Path, stem: str) -> Iterator[Path]:
    for folder in ("SegmentationClass", "SegmentationObject"):
        yield root / folder / f"{stem}.png"


def _write_maps(root: Path, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw and write the maps of an image, unless they are there and whole."""
    # Missing or cut off: it is drawn.
    with suppress(OSError, ValueError):
        classes, ids = (
            read_label_png(path, wide=True) for path in _map_paths(root, scene.stem)
        )
        if classes.shape == ids.shape == scene.size:
            return classes, ids
    maps = draw_scene(scene)
    for path, label in zip(_map_paths(root, scene.stem), maps):
        save_label_png(label, path)
    return maps


def _place_image(source: Path, target: Path, place: Place) -> None:
    source = source.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if place == "copy":
        size = source.stat().st_size
        whole = target.is_file() and target.stat().st_size == size
        if target.is_symlink() or not whole:
            with atomic_write(target) as temporary:
                shutil.copyfile(source, temporary)
    elif not target.is_symlink() or target.resolve() != source:
        temporary = target.with_name(f"{TEMPORARY}{target.name}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source)
        os.replace(temporary, target)
