"""What a report is made of: a JSON file that names other files, and its checks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmwood.fileio.files import read_json

__all__ = ["Branch", "Data", "Figure", "Labels", "Network", "Spec", "read_spec"]

#: Suffixes of figures.
PICTURES = (".jpg", ".jpeg", ".png", ".svg", ".webp")
#: Label PNGs have 255 for void.
MAX_CLASSES = 254


@dataclass(frozen=True)
class Data:
    """The images that labels and predictions are of.

    Attributes:
        images: Their folder.
        suffix: Their suffix.
        masks: Folder of the true masks (label PNGs), or None.
        classes: Names of the classes, without background.
    """

    images: Path
    suffix: str
    masks: Path | None
    classes: Sequence[str]


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
    def score_folder(self) -> Path | None:
        """Folder of the score maps, if they were kept."""
        if self.folder is not None and (self.folder / "scores").is_dir():
            return self.folder / "scores"
        return None


@dataclass(frozen=True)
class Network:
    """A tested segmentation network.

    Attributes:
        name: What it is called.
        metrics: ``metrics.json`` of tools/test.py.
        instances: ``ia_iou.json`` of :class:`mmwood.IAIoUMetric`, or None.
        predictions: Folder of label PNGs, or None.
        where: The place in the spec, for messages.
    """

    name: str
    metrics: Path | None
    instances: Path | None
    predictions: Path | None
    where: str


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
        title, text: What was run.
        data: The images.
        branches: Labels and networks, e.g. without and with OoD images.
        mining: Summary of tools/mine_ood.py.
        review: The manifest that was reviewed.
        figures: More pictures.
        records: Provenance of the stages.
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
    records: Sequence[Path] = field(default=())


def read_spec(path: str | os.PathLike) -> Spec:
    """Read a report's spec; its paths are absolute or from the current folder.

    ::

        {"title": str, "text": str,
         "data": {"images": folder, "suffix": ".jpg", "masks": folder or null,
                  "classes": [str, ...]},
         "branches": [
           {"name": "without OoD images",
            "labels": [{"name": str, "folder": folder, "curve": seed_curve.json,
                        "scores": JSON of evaluate_labels.py}, ...],
            "networks": [{"name": str, "folder": folder with metrics.json and
                          perhaps ia_iou.json, "predictions": folder}, ...]}, ...],
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
    spec = Spec(
        title=top.text("title"),
        path=path,
        text=top.text("text", ""),
        data=_data(top),
        branches=[_branch(item) for item in top.objects("branches")],
        mining=top.file("mining"),
        review=top.file("review"),
        figures=[_figure(item) for item in top.objects("figures")],
        records=top.files("records"),
    )
    top.finish()
    _unique([branch.name for branch in spec.branches], f"{path}: branches")
    return spec


class _Object:
    """A JSON object whose fields are asked for one by one."""

    def __init__(self, content: Any, where: str) -> None:
        if not isinstance(content, dict):
            raise ValueError(f"{where}: expected an object, got {content!r}")
        self.content, self.where = content, where
        self.known: list[str] = []

    def place(self, key: str) -> str:
        # The spec's path is followed by a colon, an object in it by a point.
        return f"{self.where}{'.' if ': ' in self.where else ': '}{key}"

    def get(self, key: str) -> Any:
        self.known.append(key)
        return self.content.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, str) or (default is None and not value):
            raise ValueError(f"{self.place(key)}: expected a text, got {value!r}")
        return value

    def file(self, key: str) -> Path | None:
        return self._path(self.get(key), self.place(key), Path.is_file, "file")

    def folder(self, key: str) -> Path | None:
        return self._path(self.get(key), self.place(key), Path.is_dir, "folder")

    def files(self, key: str) -> list[Path]:
        return [
            self._path(value, place, Path.is_file, "file")
            for value, place in self._items(key)
        ]

    def objects(self, key: str) -> list["_Object"]:
        return [_Object(value, place) for value, place in self._items(key)]

    def finish(self) -> None:
        unknown = sorted(set(self.content) - set(self.known))
        if unknown:
            raise ValueError(
                f"{self.place(unknown[0])}: there is no such field; known are "
                f"{', '.join(self.known)}"
            )

    def _items(self, key: str) -> list[tuple[Any, str]]:
        values = self.get(key) or []
        if not isinstance(values, list):
            raise ValueError(f"{self.place(key)}: expected a list, got {values!r}")
        return [(v, f"{self.place(key)}[{i}]") for i, v in enumerate(values)]

    @staticmethod
    def _path(value: Any, place: str, exists, kind: str) -> Path | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise ValueError(f"{place}: expected the path of a {kind}, got {value!r}")
        if not exists(Path(value)):
            raise FileNotFoundError(f"{place}: there is no {kind} {value}")
        return Path(value)


def _data(top: _Object) -> Data | None:
    if top.get("data") is None:
        return None
    item = _Object(top.content["data"], top.place("data"))
    images, classes = item.folder("images"), item.get("classes")
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
    data = Data(images, item.text("suffix", ".jpg"), item.folder("masks"), classes)
    item.finish()
    return data


def _branch(item: _Object) -> Branch:
    labels = [_labels(part) for part in item.objects("labels")]
    networks = [_network(part) for part in item.objects("networks")]
    branch = Branch(item.text("name"), labels, networks)
    item.finish()
    for key in ("labels", "networks"):
        _unique([part.name for part in getattr(branch, key)], item.place(key))
    return branch


def _labels(item: _Object) -> Labels:
    labels = Labels(
        item.text("name"),
        item.folder("folder"),
        item.file("curve"),
        item.file("scores"),
        item.where,
    )
    item.finish()
    if labels.folder is labels.curve is labels.scores is None:
        raise ValueError(f"{item.where}: expected a folder, a curve or scores")
    if labels.curve is not None and labels.scores is not None:
        raise ValueError(f"{item.where}: expected a curve or scores, got both")
    return labels


def _network(item: _Object) -> Network:
    name, folder = item.text("name"), item.folder("folder")
    predictions = item.folder("predictions")
    item.finish()
    if folder is predictions is None:
        raise ValueError(f"{item.where}: expected a folder or predictions")
    metrics = instances = None
    if folder is not None:
        metrics, instances = folder / "metrics.json", folder / "ia_iou.json"
        if not metrics.is_file():
            raise FileNotFoundError(
                f"{item.place('folder')}: there is no file {metrics}; tools/test.py "
                "writes it with --out"
            )
        if not instances.is_file():
            instances = None
    return Network(name, metrics, instances, predictions, item.where)


def _figure(item: _Object) -> Figure:
    figure = Figure(item.text("title"), item.file("file"), item.text("text", ""))
    item.finish()
    if figure.file is None or figure.file.suffix.lower() not in PICTURES:
        raise ValueError(
            f"{item.place('file')}: expected a picture ({', '.join(PICTURES)}), got "
            f"{figure.file}"
        )
    return figure


def _unique(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: the name {twice[0]!r} is there twice")
