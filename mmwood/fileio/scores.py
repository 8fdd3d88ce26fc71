"""JSON files of metrics: what tests and tools write, and charts and reports read.

They are in percent. Score maps of images are in :mod:`mmwood.fileio.label_folder`,
scores that mining reads in :mod:`mmwood.fileio.image_scores`.
"""

import math
import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

from mmwood.fileio.files import read_json

LABEL_SCORES = ("mIoU", "precision", "recall")
#: Names of the size groups of instances; "all" has the background too.
SIZES = ("all", "small", "medium", "large")
#: Of the areas of a class's instances.
AREA_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_Content = TypeVar("_Content")


class SeedResult(NamedTuple):
    """Quality of labels at one threshold.

    Attributes:
        miou: mIoU.
        class_iou: IoU by class, background included; None where the class occurs
            neither in the ground truth nor in the labels.
    """

    miou: float
    class_iou: dict[str, float | None]


class SeedCurve(NamedTuple):
    """What :class:`mmwood.SeedMetric` wrote.

    Attributes:
        configured: threshold, mIoU, precision and recall at the configured threshold.
        best: The same at the one with the largest mIoU.
        points: The same at every threshold.
        class_iou: IoU by class at the configured threshold; None: the class is absent.
    """

    configured: dict[str, float]
    best: dict[str, float]
    points: list[dict[str, float]]
    class_iou: dict[str, float | None]


class InstanceScores(NamedTuple):
    """What :class:`mmwood.IAIoUMetric` wrote of one run.

    Attributes:
        iou: IA-mIoU by ``all``, ``small``, ``medium`` and ``large``; None where there
            is no instance.
        instances: Number of instances by the same.
        settings: What runs must have in common to be compared.
        class_iou: IA-IoU over all sizes by class.
    """

    iou: dict[str, float | None]
    instances: dict[str, int]
    settings: dict[str, object]
    class_iou: dict[str, float | None]


class FalsePositives(NamedTuple):
    """What :class:`mmwood.FalsePositiveMetric` wrote of one run, in percent.

    Attributes:
        pixels: Pixels that were given a class, of all pixels.
        images: Images in which ``min_area`` pixels or more were, of all images.
        class_pixels: As ``pixels``, by class without background.
        num_images: How many images; 0 leaves all else None.
        min_area: Pixels.
    """

    pixels: float | None
    images: float | None
    class_pixels: dict[str, float | None]
    num_images: int
    min_area: int


class InstanceAreas(NamedTuple):
    """What ``tools/analysis_tools/size_report.py data`` wrote of a data set.

    Attributes:
        size_limits: Pixels from which on an instance is medium and large.
        quantiles: :data:`AREA_QUANTILES` of the instances' pixels, by class; None
            where the class has no instance.
    """

    size_limits: list[int]
    quantiles: dict[str, list[float] | None]


def parse_json(
    path: str | os.PathLike, expected: str, parse: Callable[[Any], _Content]
) -> _Content:
    """What a function makes of the content of a JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or not of that kind.
    """
    try:
        content = read_json(path, "file")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}: expected {expected}") from error
    try:
        return parse(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no {expected} ({type(error).__name__}: {error})"
        ) from error


def refuse_other_content(path: str | os.PathLike, field: str = "--out") -> None:
    """Refuse to replace a file that holds no scores by scores.

    Raises:
        FileExistsError: There is a file that is no JSON object of names and numbers.
    """
    if not os.path.exists(path):
        return
    try:
        content = read_json(path)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or _lists_objects(content):
        raise FileExistsError(
            f"{field}: {path} is there and holds no scores: name another file, or move "
            "it away"
        )


def _lists_objects(content: Any) -> bool:
    """Whether a list in it holds objects, as in annotations and configs."""
    if isinstance(content, dict):
        return any(_lists_objects(value) for value in content.values())
    return isinstance(content, list) and any(
        isinstance(item, dict) or _lists_objects(item) for item in content
    )


def read_seed_result(
    path: str | os.PathLike, at: Literal["configured", "best"]
) -> SeedResult:
    """The quality of labels from the curve of :class:`mmwood.SeedMetric`.

    The best threshold is chosen with pixel masks.

    Raises:
        FileNotFoundError, ValueError: As :func:`parse_json`.
    """

    def parse(content: Any) -> SeedResult:
        class_iou = _by_class(content[f"class_iou_at_{at}"])
        return SeedResult(float(content[at]["mIoU"]), class_iou)

    expected = (
        f"seed_curve.json of mmwood.SeedMetric with {at}.mIoU and class_iou_at_{at}"
    )
    return parse_json(path, expected, parse)


def read_seed_curve(path: str | os.PathLike) -> SeedCurve:
    """The threshold curve of :class:`mmwood.SeedMetric`.

    Raises:
        FileNotFoundError, ValueError: As :func:`parse_json`.
    """

    def point(values: dict) -> dict[str, float]:
        return {key: float(values[key]) for key in ("threshold", *LABEL_SCORES)}

    def parse(content: Any) -> SeedCurve:
        return SeedCurve(
            point(content["configured"]),
            point(content["best"]),
            [point(values) for values in content["curve"]],
            _by_class(content["class_iou_at_configured"]),
        )

    return parse_json(path, "seed_curve.json of mmwood.SeedMetric", parse)


def read_instance_scores(path: str | os.PathLike) -> InstanceScores:
    """Scores from the ``out`` file of :class:`mmwood.IAIoUMetric`.

    Raises:
        FileNotFoundError, ValueError: As :func:`parse_json`.
    """

    def parse(content: Any) -> InstanceScores:
        instances = {size: int(content["instances"][size]) for size in SIZES}
        settings = dict(
            size_limits=[int(limit) for limit in content["size_limits"]],
            background=content["background"],
            connectivity=content["connectivity"],
            void=content["void"],
            whole_pixels=content["whole_pixels"],
            instances=instances,
        )
        class_iou = {
            name: values["iou"]["all"] for name, values in content["classes"].items()
        }
        iou = {size: finite(content["iou"][size]) for size in SIZES}
        return InstanceScores(iou, instances, settings, _by_class(class_iou))

    return parse_json(path, "out file of mmwood.IAIoUMetric", parse)


def read_false_positives(path: str | os.PathLike) -> FalsePositives:
    """False positives from the ``out`` file of :class:`mmwood.FalsePositiveMetric`.

    Raises:
        FileNotFoundError, ValueError: As :func:`parse_json`.
    """

    def parse(content: Any) -> FalsePositives:
        by_class = {n: part["pixels"] for n, part in content["classes"].items()}
        return FalsePositives(
            finite(content["pixels"]),
            finite(content["images"]),
            _by_class(by_class),
            int(content["num_images"]),
            int(content["min_area"]),
        )

    return parse_json(path, "out file of mmwood.FalsePositiveMetric", parse)


def read_instance_areas(path: str | os.PathLike) -> InstanceAreas:
    """Quantiles of the instances' areas, from ``size_report.py data``.

    Raises:
        FileNotFoundError, ValueError: As :func:`parse_json`.
    """

    def parse(content: Any) -> InstanceAreas:
        if content["area_quantiles"] != list(AREA_QUANTILES):
            raise ValueError(
                f"area_quantiles are {content['area_quantiles']}, expected "
                f"{list(AREA_QUANTILES)}"
            )
        quantiles = {
            name: None if areas is None else [float(area) for area in areas]
            for name, areas in content["areas"].items()
        }
        limits = [int(limit) for limit in content["size_limits"]]
        return InstanceAreas(limits, quantiles)

    return parse_json(path, "numbers of size_report.py data", parse)


def read_metrics(path: str | os.PathLike) -> dict[str, float | None]:
    """What ``tools/test.py --out`` wrote, by names without prefix.

    Raises:
        FileNotFoundError, ValueError: As :func:`parse_json`.
    """

    def parse(content: Any) -> dict[str, float | None]:
        return {key.split("/")[-1]: finite(value) for key, value in content.items()}

    return parse_json(path, "metrics of tools/test.py --out", parse)


def read_label_scores(path: str | os.PathLike, name: str) -> dict[str, float | None]:
    """One entry of what ``tools/analysis_tools/evaluate_labels.py --out`` wrote.

    A file with one entry gives that, whatever its name.

    Raises:
        FileNotFoundError, ValueError: As :func:`parse_json`.
    """

    def parse(content: Any) -> dict[str, float | None]:
        (entry,) = content.values() if len(content) == 1 else (content[name],)
        return {key: finite(entry[key]) for key in (*LABEL_SCORES, "open")}

    expected = (
        "JSON of tools/analysis_tools/evaluate_labels.py with one entry, or one called "
        f"{name!r}"
    )
    return parse_json(path, expected, parse)


def finite(value: Any) -> float | None:
    """A finite number, or None: NaN is a score of nothing."""
    number = None if value is None else float(value)
    return None if number is None or not math.isfinite(number) else number


def _by_class(values: dict) -> dict[str, float | None]:
    return {str(name): finite(value) for name, value in values.items()}
