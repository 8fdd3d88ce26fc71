"""What any model scored images with: tables, COCO's results, YOLO's folders.

A row says that a model gives an image a score for a class. It may have several for one
image and class, as a detector has a box each.
"""

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mmwood.fileio.coco import image_name, read_coco
from mmwood.fileio.files import files_by_id, read_json, read_text
from mmwood.fileio.images import image_paths
from mmwood.fileio.lists import (
    ImageIndex,
    read_class_names,
    read_lines,
    unknown_classes,
)
from mmwood.fileio.stores import open_parquet
from mmwood.fileio.tables import stream_rows
from mmwood.utils.require import require

#: Path of the image, the class and its score; class None: the model was shown the image
#: and may have found nothing.
ScoreRow = tuple[str, str | None, float]
_COLUMNS = ("image", "class", "score")
_RANGE = (
    "scores are probabilities from 0 to 1, with a decimal point: divide percents by "
    "100, put logits through a sigmoid"
)


class ImageScores(NamedTuple):
    """Scores as a file or a folder has them.

    Attributes:
        classes: The classes in the order of the source; None: in that of the alphabet.
        rows: The rows, to be gone through once; reading them raises what
            :func:`read_scores` says.
        notes: What was passed over, once all rows are read.
    """

    classes: tuple[str, ...] | None
    rows: Iterator[ScoreRow]
    notes: list[str]


def read_scores(
    path: str | os.PathLike,
    root: str | os.PathLike | None = None,
    annotations: str | os.PathLike | None = None,
    classes: str | os.PathLike | None = None,
) -> ImageScores:
    """Scores of images, in the form that the path's kind tells.

    ========= ============================================ ============================
    path      holds                                        needs
    ========= ============================================ ============================
    a table,  the columns ``image``, ``class``, ``score``  nothing; ``classes`` gives
    Parquet                                                their order
    too
    ``.json`` COCO's results: ``image_id``,                ``annotations``
              ``category_id``, ``score``
    a folder  a ``.txt`` an image, as YOLO predicts with   ``classes``, ``root``
              ``save_txt=True save_conf=True``: class,
              box or polygon, confidence
    ========= ============================================ ============================

    Of a table a row at a time is in memory, of Parquet a batch of rows, of COCO's
    results the text and some bytes a result. Images of the annotation file, and of
    YOLO's folder of images, without a result were shown to the model, too.

    Args:
        path: The file or folder.
        root: Folder of the images, which their names are relative to. None: that of
            ``path``.
        annotations: COCO JSON that names images and categories.
        classes: File with one name a line, or a ``data.yaml`` with ``names``.

    Raises:
        FileNotFoundError: A file or folder is missing.
        ImportError: A ``data.yaml`` needs PyYAML, Parquet pyarrow.
        ValueError: An option does not fit the form or is lacking; a row is malformed,
            of an unknown class or image, or its score is no number from 0 to 1; the
            message names the line or entry.
    """
    path = Path(path)
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"--root: there is no folder {root}")
    if not path.exists():
        raise FileNotFoundError(f"--scores: there is no file or folder {path}")
    base = path.parent if root is None else Path(root)
    is_coco = path.suffix.lower() == ".json"
    if annotations is not None and not is_coco:
        raise ValueError(f"--annotations is for COCO's results, and {path} is no .json")
    if path.is_dir():
        if root is None or classes is None:
            raise ValueError(
                f"--scores {path} is a folder, as YOLO leaves it: name the images' "
                "folder with --root, and the data.yaml or a list of names with "
                "--classes"
            )
        names = read_names(classes)
        return ImageScores(tuple(names.values()), _yolo_rows(path, base, names), [])
    if is_coco:
        if annotations is None or classes is not None:
            raise ValueError(
                f"--scores {path} is JSON, as COCO's results: name the file of its "
                "images and categories with --annotations, and no --classes"
            )
        return _coco_scores(path, base, Path(annotations))
    known = None if classes is None else tuple(read_names(classes).values())
    notes: list[str] = []
    is_parquet = path.suffix.lower() == ".parquet"
    rows = _parquet_rows(path) if is_parquet else _csv_rows(path, notes)
    return ImageScores(known, _table_rows(rows, base, known), notes)


def read_names(path: str | os.PathLike) -> dict[int, str]:
    """The names of classes by their numbers, from a list or a YOLO ``data.yaml``.

    Args:
        path: A file with one name a line, of the classes 0, 1, ...; or a ``.yaml``
            whose ``names`` is a list, or maps numbers to names.

    Returns:
        The names in the order of their numbers.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: PyYAML is not installed.
        ValueError: It names no class or one twice, or is no such YAML.
    """
    path = Path(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        names = dict(enumerate(read_class_names(str(path), field="--classes")))
    else:
        names = _yaml_names(path)
    if not names:
        raise ValueError(f"--classes: {path} names no class")
    read_class_names([*names.values()], field=f"--classes: {path}")
    return names


def _yaml_names(path: Path) -> dict[int, str]:
    yaml = require("yaml", "onedl", "a data.yaml")
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise ValueError(f"{path}:{line}: not YAML") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(
        type(number) is int and isinstance(name, str) for number, name in names.items()
    ):
        raise ValueError(
            f"{path}: `names` must list the classes, or map their numbers to texts "
            "(quote names such as 'no')"
        )
    return dict(sorted(names.items()))


def _score(value: Any, source: str) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = float("nan")
    # NaN is in no range.
    if isinstance(value, bool) or not 0 <= score <= 1:
        raise ValueError(f"{source}: the score is {value!r}; {_RANGE}")
    return score


def image_path_below(base: Path) -> Callable[[str], str]:
    """From a name to a path as mining lists it; rows of one image often follow."""
    return lru_cache(1 << 12)(lambda name: str(base / name.replace("\\", "/")))


def _csv_rows(
    path: Path, notes: list[str]
) -> Iterator[tuple[str, str, str, float | str | None]]:
    """Where each row is, image, class and score."""
    for line, (image, name, score) in stream_rows(path, _COLUMNS, "--scores", notes):
        yield f"{path}:{line}", image, name, score


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    """As :func:`_csv_rows`, of a Parquet file."""
    with open_parquet(str(path)) as file:
        lacking = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if lacking:
            raise ValueError(
                f"--scores: {path} must have the columns {', '.join(_COLUMNS)}; it "
                f"has {', '.join(file.schema_arrow.names)}"
            )
        number = 0
        for batch in file.iter_batches(columns=[*_COLUMNS]):
            columns = (batch.column(name).to_pylist() for name in _COLUMNS)
            for image, name, score in zip(*columns):
                number += 1
                yield f"{path}: row {number}", image, name, score


def _table_rows(
    rows: Iterator[tuple[str, Any, Any, Any]],
    base: Path,
    classes: Sequence[str] | None,
) -> Iterator[ScoreRow]:
    below = image_path_below(base)
    for source, image, name, score in rows:
        # Those of Parquet may be of any type.
        if not isinstance(image, str) or not image:
            raise ValueError(f"{source}: column 'image' names no image")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{source}: column 'class' names no class")
        if classes is not None and name not in classes:
            raise ValueError(f"{source}: {unknown_classes([name], classes)}")
        yield below(image), name, _score(score, source)


def _yolo_rows(folder: Path, root: Path, names: dict[int, str]) -> Iterator[ScoreRow]:
    images = [image.relative_to(root).as_posix() for image in image_paths(root)]
    if not images:
        raise ValueError(f"--root: {root} holds no image")
    for image in images:
        yield str(root / image), None, 0.0
    index = ImageIndex(images, f"--root {root}")
    files = files_by_id(folder, ".txt")
    # Annotation tools leave the names of the classes there.
    files.pop("classes", None)
    if not files:
        raise ValueError(f"--scores: {folder} holds no .txt")
    for name, path in files.items():
        try:
            image = str(root / index.find(name))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        for line, text in read_lines(path):
            fields, source = text.split(), f"{path}:{line}"
            # Class, x y w h or x y x y ..., confidence.
            if len(fields) < 6 or len(fields) % 2:
                raise ValueError(
                    f"{source}: expected class, box or polygon, and confidence, got "
                    f"{len(fields)} fields: predict with save_txt=True save_conf=True, "
                    "without tracks"
                )
            number = int(fields[0]) if fields[0].isdecimal() else None
            if number not in names:
                raise ValueError(
                    f"{source}: the unknown class {fields[0]}; --classes has "
                    f"{', '.join(f'{n} {names[n]!r}' for n in names)}"
                )
            yield image, names[number], _score(fields[-1], source)


def _coco_scores(path: Path, base: Path, annotations: Path) -> ImageScores:
    coco = read_coco(annotations, object_hook=_without_shape, annotated=False)
    images: dict[Any, str] = {}
    for place, (number, entry) in enumerate(coco.images.items()):
        folder, name = image_name(entry, coco.sources("images", place))
        images[number] = str(base / ("" if "file_name" in entry else folder) / name)
    classes = tuple(coco.categories.values())

    def rows() -> Iterator[ScoreRow]:
        for image in images.values():
            yield image, None, 0.0
        paths = [*images.values()]
        for place, category, score in _results(path, [*images], [*coco.categories]):
            yield paths[place], classes[category], score

    return ImageScores(classes, rows(), [])


def _without_shape(entry: dict) -> dict:
    entry.pop("segmentation", None)
    return entry


def _results(
    path: Path, images: Sequence[Any], categories: Sequence[Any]
) -> Iterator[tuple[int, int, float]]:
    """Places among images and categories, and score, of each of COCO's results.

    They are taken out of each entry as soon as it is read, which then is no more.
    """
    known = dict(
        image_id={number: place for place, number in enumerate(images)},
        category_id={number: place for place, number in enumerate(categories)},
    )
    columns = dict(image_id=array("i"), category_id=array("i"))
    scores = array("d")

    def take(entry: dict) -> Any:
        if "image_id" not in entry and "counts" in entry:
            # A segmentation, which is read before the entry around it.
            return None
        source = f"{path}: entry [{len(scores)}]"
        if lacking := [field for field in (*known, "score") if field not in entry]:
            raise ValueError(
                f"{source} lacks {', '.join(lacking)}: --scores takes a model's "
                "results, a list of objects with image_id, category_id and score"
            )
        for field, places in known.items():
            value = entry[field]
            if isinstance(value, (list, dict, bool)) or value not in places:
                raise ValueError(f"{source} has the unknown {field} {value!r}")
            columns[field].append(places[value])
        scores.append(_score(entry["score"], source))
        return None

    content = read_json(path, "file of results", take)
    if not isinstance(content, list) or content != [None] * len(scores):
        raise ValueError(
            f"{path}: expected COCO's results, a list of objects with image_id, "
            "category_id and score"
        )
    yield from zip(columns["image_id"], columns["category_id"], scores)
