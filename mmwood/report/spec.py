"""What a report is made of: a JSON file that names other files, and its checks."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from mmwood.fileio.decoding import PICTURE, Decoding, check_decoding
from mmwood.fileio.files import read_json
from mmwood.fileio.label_folder import LabelFolder
from mmwood.utils.check import one_of

#: Suffixes of figures.
PICTURES = (".jpg", ".jpeg", ".png", ".svg", ".webp")
#: Label PNGs have 255 for void.
MAX_CLASSES = 254
#: The fields of the spec, and of the objects in it by the field that holds them.
_FIELDS = {
    "": (
        *("title", "text", "plan", "tags", "data", "branches", "mining", "review"),
        *("figures", "records"),
    ),
    "data": ("images", "suffix", "masks", "classes", "levels", "bands"),
    "branches": ("name", "labels", "networks"),
    "labels": ("name", "folder", "curve", "scores"),
    "networks": (
        *("name", "folder", "predictions", "images"),
        *("false_positives", "upper_bound"),
    ),
    "false_positives": ("folder",),
    "upper_bound": ("folder",),
    "figures": ("title", "file", "text"),
}


@dataclass(frozen=True)
class Data:
    """The images that labels and predictions are of.

    Attributes:
        images: Their folder.
        suffix: Their suffix.
        masks: Folder of the true masks (label PNGs), or None.
        classes: Names of the classes, without background.
        decoding: How the images are read.
    """

    images: Path
    suffix: str
    masks: Path | None
    classes: Sequence[str]
    decoding: Decoding = PICTURE


@dataclass(frozen=True)
class Labels:
    """Label maps of the training images.

    Attributes:
        name: What they are called.
        folder: What :class:`mmwood.PseudoLabelHook` left, or a folder of label PNGs.
        curve: ``seed_curve.json`` of :class:`mmwood.SeedMetric`.
        scores: What ``tools/analysis_tools/evaluate_labels.py --out`` wrote.
        where: The place in the spec, for messages.
    """

    name: str
    folder: Path | None
    curve: Path | None
    scores: Path | None
    where: str

    @property
    def label_folder(self) -> Path | None:
        """Folder of the label PNGs."""
        if self.folder is not None and (self.folder / "labels").is_dir():
            return self.folder / "labels"
        return self.folder

    @property
    def has_scores(self) -> bool:
        """Whether the folder has score maps, too."""
        return self.folder is not None and (self.folder / "scores").is_dir()

    @property
    def supervision(self) -> str | None:
        """What the maps' model was trained with, as tools/external_maps.py was told."""
        if self.folder is None or not LabelFolder(self.folder).manifest_path.is_file():
            return None
        return LabelFolder(self.folder).manifest().get("supervision")


@dataclass(frozen=True)
class Network:
    """A tested segmentation network.

    Attributes:
        name: What it is called.
        metrics: ``metrics.json`` of tools/test.py.
        instances: ``ia_iou.json`` of :class:`mmwood.IAIoUMetric`, or None.
        predictions: Folder of label PNGs, or None.
        where: The place in the spec, for messages.
        images: What it was tested on: 'validation' images or 'training' ones.
        false_positives: ``metrics.json`` of its test on OoD images, where that is
            another one, or None.
        upper_bound: ``metrics.json`` of the same network, trained with the true masks
            and tested on the same images, or None.
    """

    name: str
    metrics: Path | None
    instances: Path | None
    predictions: Path | None
    where: str
    images: str = "validation"
    false_positives: Path | None = None
    upper_bound: Path | None = None

    @property
    def label_folder(self) -> Path | None:
        """As of labels."""
        return self.predictions


_Part = TypeVar("_Part", Labels, Network)


@dataclass(frozen=True)
class Branch:
    """One way to make labels and networks, to compare with others."""

    name: str
    labels: Sequence[Labels]
    networks: Sequence[Network]


@dataclass(frozen=True)
class Figure:
    """A picture that another tool drew."""

    title: str
    file: Path
    text: str


@dataclass(frozen=True)
class Spec:
    """The content of a report; None or empty is what there is not.

    Attributes:
        title: What was run.
        text: More about it.
        data: The images.
        branches: Labels and networks, e.g. without and with OoD images.
        mining: Summary of tools/mine_ood.py.
        review: The manifest that was reviewed.
        figures: More pictures.
        records: Provenance of the stages.
        plan: Settings with their reasons, as the plan for one's own images has them.
        tags: ``tags.csv`` of the training images.
        path: The spec's own file, for messages.
    """

    title: str
    path: Path
    text: str = ""
    data: Data | None = None
    branches: Sequence[Branch] = ()
    mining: Path | None = None
    review: Path | None = None
    figures: Sequence[Figure] = ()
    records: Sequence[Path] = ()
    plan: Path | None = None
    tags: Path | None = None

    @property
    def labels(self) -> dict[str, list[Labels | None]]:
        """Labels of all branches by their name; None where one has none."""
        return _by_name([branch.labels for branch in self.branches])

    @property
    def networks(self) -> dict[str, list[Network | None]]:
        """The same of networks."""
        return _by_name([branch.networks for branch in self.branches])


def _by_name(branches: Sequence[Sequence[_Part]]) -> dict[str, list[_Part | None]]:
    parts = [{item.name: item for item in branch} for branch in branches]
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: [part.get(name) for part in parts] for name in names}


@contextmanager
def named(where: str) -> Iterator[None]:
    """Put the place in the spec before an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def read_spec(path: str | os.PathLike) -> Spec:
    """Read a report's spec; its paths are absolute or from the current folder.

    ::

        {"title": str, "text": str, "plan": JSON of settings, "tags": tags.csv,
         "data": {"images": folder, "suffix": ".jpg", "masks": folder or null,
                  "classes": [str, ...],
                  "levels": as of mmwood.LoadImage, "bands": the same},
         "branches": [
           {"name": "without OoD images",
            "labels": [{"name": str, "folder": folder, "curve": seed_curve.json,
                        "scores": JSON of evaluate_labels.py}, ...],
            "networks": [{"name": str, "folder": folder with metrics.json and
                          perhaps ia_iou.json, "predictions": folder,
                          "images": "validation" or "training",
                          "false_positives": {"folder": folder},
                          "upper_bound": {"folder": folder}}, ...]}, ...],
         "mining": JSON of mine_ood.py, "review": manifest,
         "figures": [{"title": str, "file": picture, "text": str}, ...],
         "records": [JSON, ...]}

    Only ``title``, names, ``data.images`` and ``data.classes``, and a figure's
    ``file`` must be there; labels and networks need something to show. A name that
    several branches use is one row of the report's tables.

    Raises:
        FileNotFoundError: There is no such file, or one that it names is absent; the
            message names the field.
        ValueError: A field is unknown, missing, or not what is expected.
    """
    path = Path(path)
    top = _Object(read_json(path, "spec"), str(path))
    has_data = top.content.get("data") is not None
    branches = [_branch(item) for item in top.objects("branches")]
    _unique([branch.name for branch in branches], top.place("branches"))
    return Spec(
        title=top.text("title"),
        path=path,
        text=top.text("text", ""),
        data=_data(top.object("data")) if has_data else None,
        branches=branches,
        mining=top.path("mining", "file"),
        review=top.path("review", "file"),
        figures=[_figure(item) for item in top.objects("figures")],
        records=[_path(*item, "file") for item in top.items("records")],
        plan=top.path("plan", "file"),
        tags=top.path("tags", "file"),
    )


class _Object:
    """A JSON object: the spec, or what one of its fields holds."""

    def __init__(self, content: Any, where: str, field: str = "") -> None:
        if not isinstance(content, dict):
            raise ValueError(f"{where}: expected an object, got {content!r}")
        self.content, self.where = content, where
        known = _FIELDS[field]
        for key in content:
            if key not in known:
                raise ValueError(
                    f"{self.place(key)}: there is no such field; known are "
                    f"{', '.join(known)}"
                )

    def place(self, key: str) -> str:
        # The spec's path is followed by a colon, an object in it by a point.
        return f"{self.where}{'.' if ': ' in self.where else ': '}{key}"

    def text(self, key: str, default: str | None = None) -> str:
        value = self.content.get(key)
        value = default if value is None else value
        if not isinstance(value, str) or (default is None and not value):
            raise ValueError(f"{self.place(key)}: expected a text, got {value!r}")
        return value

    def path(self, key: str, kind: Literal["file", "folder"]) -> Path | None:
        value = self.content.get(key)
        return None if value is None else _path(value, self.place(key), kind)

    def items(self, key: str) -> list[tuple[Any, str]]:
        """The values of a list, and the place of each."""
        values = self.content.get(key) or []
        if not isinstance(values, list):
            raise ValueError(f"{self.place(key)}: expected a list, got {values!r}")
        return [(v, f"{self.place(key)}[{i}]") for i, v in enumerate(values)]

    def object(self, key: str) -> "_Object":
        return _Object(self.content[key], self.place(key), key)

    def objects(self, key: str) -> list["_Object"]:
        return [_Object(value, place, key) for value, place in self.items(key)]


def _path(value: Any, place: str, kind: Literal["file", "folder"]) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{place}: expected the path of a {kind}, got {value!r}")
    path = Path(value)
    if not (path.is_file() if kind == "file" else path.is_dir()):
        raise FileNotFoundError(f"{place}: there is no {kind} {value}")
    return path


def _data(item: _Object) -> Data:
    images, classes = item.path("images", "folder"), item.content.get("classes")
    if images is None:
        raise ValueError(f"{item.place('images')}: expected a folder, got None")
    if (
        not isinstance(classes, list)
        or not 0 < len(classes) <= MAX_CLASSES
        or not all(isinstance(name, str) for name in classes)
    ):
        raise ValueError(
            f"{item.place('classes')}: expected 1 to {MAX_CLASSES} names, without "
            f"background, got {classes!r}"
        )
    _unique(classes, item.place("classes"))
    suffix, masks = item.text("suffix", ".jpg"), item.path("masks", "folder")
    levels, bands = item.content.get("levels"), item.content.get("bands")
    decoding = check_decoding(levels, bands, item.place(""))
    return Data(images, suffix, masks, classes, decoding)


def _branch(item: _Object) -> Branch:
    labels = [_labels(part) for part in item.objects("labels")]
    networks = [_network(part) for part in item.objects("networks")]
    _unique([part.name for part in labels], item.place("labels"))
    _unique([part.name for part in networks], item.place("networks"))
    return Branch(item.text("name"), labels, networks)


def _labels(item: _Object) -> Labels:
    folder = item.path("folder", "folder")
    curve, scores = item.path("curve", "file"), item.path("scores", "file")
    if folder is curve is scores is None:
        raise ValueError(f"{item.where}: expected a folder, a curve or scores")
    if curve is not None and scores is not None:
        raise ValueError(f"{item.where}: expected a curve or scores, got both")
    return Labels(item.text("name"), folder, curve, scores, item.where)


def _network(item: _Object) -> Network:
    name, folder = item.text("name"), item.path("folder", "folder")
    predictions = item.path("predictions", "folder")
    images = item.text("images", "validation")
    one_of(item.place("images"), images, ("validation", "training"))
    if folder is predictions is None:
        raise ValueError(f"{item.where}: expected a folder or predictions")
    metrics = _metrics(item)
    instances = folder / "ia_iou.json" if folder else None
    others = [
        _metrics(item.object(key)) if item.content.get(key) else None
        for key in ("false_positives", "upper_bound")
    ]
    found = instances if instances and instances.is_file() else None
    return Network(name, metrics, found, predictions, item.where, images, *others)


def _metrics(item: _Object) -> Path | None:
    """``metrics.json`` in an object's folder; None without a folder."""
    folder = item.path("folder", "folder")
    if folder is None:
        return None
    metrics = folder / "metrics.json"
    if not metrics.is_file():
        raise FileNotFoundError(
            f"{item.place('folder')}: there is no file {metrics}; tools/test.py "
            "writes it with --out"
        )
    return metrics


def _figure(item: _Object) -> Figure:
    file = item.path("file", "file")
    if file is None or file.suffix.lower() not in PICTURES:
        raise ValueError(
            f"{item.place('file')}: expected a picture ({', '.join(PICTURES)}), got "
            f"{file}"
        )
    return Figure(item.text("title"), file, item.text("text", ""))


def _unique(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: the name {twice[0]!r} is there twice")
