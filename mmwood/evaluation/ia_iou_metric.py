"""Instance-aware mIoU of semantic segmentation, in all and by object size."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from prettytable import PrettyTable

from mmwood.evaluation.coco_instances import CocoInstances
from mmwood.fileio.files import write_json
from mmwood.fileio.labels import read_label_png
from mmwood.fileio.scores import SIZES
from mmwood.functional.components import Connectivity
from mmwood.functional.instance_iou import (
    Background,
    Void,
    check_instance_fields,
    score_instances,
    split_instances,
)
from mmwood.registry import METRICS

_KEYS = dict(zip(SIZES, ("IA-mIoU", "IA_S", "IA_M", "IA_L")))


@dataclass
class Tally:
    """Scores by class and size.

    Attributes:
        sums: (C, 4) float64, sums of the instances' IoU, as :data:`SIZES`.
        counts: (C, 4) int64, how many instances.
        images: How many images.
        conflicting: Pixels at which class map and instance map disagree;
            ``disputed_pixels`` in the JSON file.
    """

    sums: np.ndarray
    counts: np.ndarray
    images: int = 0
    conflicting: int = 0

    @classmethod
    def zero(cls, classes: int) -> "Tally":
        """Of no image."""
        return cls(np.zeros((classes, 4)), np.zeros((classes, 4), dtype=np.int64))

    def __add__(self, other: "Tally") -> "Tally":
        pairs = zip(vars(self).values(), vars(other).values())
        return Tally(*(one + another for one, another in pairs))

    def means(self) -> np.ndarray:
        """Mean IoU in percent, (C, 4), NaN for none."""
        with np.errstate(invalid="ignore"):
            return 100 * self.sums / self.counts


@METRICS.register_module()
class IAIoUMetric(BaseMetric):
    """Instance-aware mIoU (IA-mIoU), in all and for small, medium and large instances.

    Every ground-truth instance has an IoU of its own with its part of the predicted
    components (:func:`mmwood.functional.instance_iou.instance_ious`). A class's score
    is the mean over its instances in the split, IA-mIoU the mean over the classes;
    ``IA_S``, ``IA_M`` and ``IA_L`` are the same over the instances of one size, over
    the classes that have any. Background counts in IA-mIoU and has no size. Source: Mun
    et al., WACV 2024; docs/paper_or_program.md says what comes from the program.

    It stands beside mmseg's ``IoUMetric`` and reads the same: ``pred_sem_seg`` and
    ``gt_sem_seg``. Instances are, unless one of two fields names a source, the
    connected components of each class. ``split_instances`` of the same module says
    what happens where instances and class map disagree: those pixels are void, and
    the result tells how many they were. Of an image, paths alone stay in memory.

    Args:
        ignore_index: Label of void pixels; void in instance maps, too.
        background: What label 0 is: ``'image'``, the background of each image is one
            instance with the plain IoU, so that false positives are paid for there;
            ``'ignore'``, it is not scored; None, a class like any other (ADE20K, and
            whatever has ``reduce_zero_label=True``).
        connectivity: Components by 8 neighbours or by 4.
        void: Whether void pixels separate what is predicted on their sides,
            ``'separates'``, or not, ``'connects'``, as published.
        whole_pixels: Whether what several instances share of a component is cut to
            whole pixels, as in the authors' program.
        size_limits: Pixels of the original image from which on an instance is medium
            and large.
        instance_dir: Folder of instance maps, PNGs named as the class maps are, with
            their folders: 0 is no instance, ``ignore_index`` is void. Relative to the
            folder that the class maps' folder is in: ``'SegmentationObject'`` for
            PASCAL VOC.
        instance_file: COCO or LVIS annotation file
            (:class:`mmwood.evaluation.coco_instances.CocoInstances`); an instance has
            its annotation's class.
        out: JSON file to write: all scores and numbers of instances.
        collect_device, prefix: As in ``BaseMetric``.

    Raises:
        ValueError: ``background``, ``connectivity``, ``void`` or ``size_limits`` is
            none of these; both sources are given; ``out`` is no .json; a map holds a
            label outside the classes, or has not the size of the others; an image is
            not in ``instance_file``.
        FileNotFoundError: An instance map or ``instance_file`` is missing.

    Example:
        >>> val_evaluator = [
        ...     dict(type='IoUMetric', iou_metrics=['mIoU']),
        ...     dict(type='mmwood.IAIoUMetric', instance_dir='SegmentationObject')]
    """

    def __init__(
        self,
        ignore_index: int = 255,
        background: Background = "image",
        connectivity: Connectivity = 8,
        void: Void = "connects",
        whole_pixels: bool = False,
        size_limits: Sequence[int] = (32**2, 96**2),
        instance_dir: str | None = None,
        instance_file: str | None = None,
        out: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        owner = "mmwood.IAIoUMetric: "
        check_instance_fields(background, connectivity, void, owner)
        if len(size_limits) != 2 or not 0 < size_limits[0] < size_limits[1]:
            raise ValueError(
                f"{owner}size_limits must be two ascending numbers of pixels, got "
                f"{size_limits!r}"
            )
        if instance_dir is not None and instance_file is not None:
            raise ValueError(f"{owner}give instance_dir or instance_file, not both")
        if out is not None and Path(out).suffix != ".json":
            raise ValueError(f"{owner}out must be a .json file, got {out!r}")
        self.ignore_index = ignore_index
        self.background = background
        self.connectivity = connectivity
        self.void = void
        self.whole_pixels = whole_pixels
        self.size_limits = tuple(size_limits)
        self.instance_dir = instance_dir
        self.instance_file = instance_file
        self.out = out
        self._coco = None if instance_file is None else CocoInstances(instance_file)
        #: Which class map has which instance map: no two may share one.
        self._taken: dict[Path, Path] = {}
        # All images but the last, which the sampler may have repeated, and that one.
        self._sums: tuple[Tally, Tally] | None = None
        self._size = 0

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Score the instances of a batch.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_sem_seg`` and ``gt_sem_seg``, whose ``data`` is
                (1, H, W), and the metadata that ``PackSegInputs`` gives.
        """
        for sample in data_samples:
            scores = self._score(sample)
            tally, last = self._tallies()
            self._sums = tally + last, scores

    def _tallies(self) -> tuple[Tally, Tally]:
        """What there is so far; at the start, what ``instance_file`` lacks is said."""
        if self._sums is None:
            names = self.dataset_meta["classes"]
            self._sums = Tally.zero(len(names)), Tally.zero(len(names))
            lacking = self._coco.without_category(names) if self._coco else ()
            if lacking:
                print_log(
                    f"mmwood.IAIoUMetric.instance_file: {self.instance_file} has no "
                    f"categories {', '.join(lacking)}: their instances are connected "
                    "components. Give categories the names of the classes",
                    logger="current",
                    level=logging.WARNING,
                )
        return self._sums

    def _score(self, sample: dict) -> Tally:
        name = sample.get("img_path")
        for key in ("pred_sem_seg", "gt_sem_seg"):
            if key not in sample:
                raise ValueError(
                    f"mmwood.IAIoUMetric: {name} has no {key}; expected what mmseg's "
                    "IoUMetric reads: a segmentor's prediction and a loaded annotation"
                )
        if self.background is not None and sample.get("reduce_zero_label"):
            raise ValueError(
                "background: with reduce_zero_label=True label 0 is a class; expected "
                f"background=None, got {self.background!r}"
            )
        pred, gt = (
            sample[key]["data"].squeeze(0).cpu().numpy()
            for key in ("pred_sem_seg", "gt_sem_seg")
        )
        classes = len(self.dataset_meta["classes"])
        fields: dict[str, Any] = dict(
            num_classes=classes,
            ignore_index=self.ignore_index,
            connectivity=self.connectivity,
        )
        try:
            truth = split_instances(
                gt, self._instance_map(sample, gt), background=self.background, **fields
            )
            ious = score_instances(
                pred, truth, void=self.void, whole_pixels=self.whole_pixels, **fields
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        size = np.digitize(truth.areas, self.size_limits) + 1
        sized = np.arange(1, len(size) + 1) != truth.background
        row = truth.class_ids * 4
        cell = np.concatenate([row, (row + size)[sized]])
        sums, counts = (
            np.bincount(cell, weights, minlength=classes * 4).reshape(classes, 4)
            for weights in (np.concatenate([ious, ious[sized]]), None)
        )
        return Tally(sums, counts, 1, truth.conflicting)

    def _instance_map(self, sample: dict, gt: np.ndarray) -> np.ndarray | None:
        if self._coco is not None:
            classes = self.dataset_meta["classes"]
            return self._coco(sample["img_path"], gt, self.ignore_index, classes)
        if self.instance_dir is None:
            return None
        class_map = Path(sample["seg_map_path"])
        path = self._instance_path(class_map, self.instance_dir)
        try:
            ids = read_label_png(path, "instance map", wide=True)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"instance_dir: {class_map}: {error}") from error
        if ids.shape != gt.shape:
            raise ValueError(
                f"instance_dir: {path} has shape {ids.shape}, expected the class map's "
                f"{gt.shape}"
            )
        return ids

    def _instance_path(self, class_map: Path, folder: str) -> Path:
        """The instance map of the same id; ids may hold folders."""
        parts = class_map.with_suffix(".png").parts
        places = [
            Path(*parts[: -count - 1], folder, *parts[-count:])
            for count in range(1, len(parts))
        ]
        found = next(filter(Path.is_file, reversed(places)), places[0])
        other = self._taken.setdefault(found, class_map)
        if other != class_map:
            raise ValueError(
                f"instance_dir: {class_map} and {other} have one instance map, {found}"
            )
        return found

    def evaluate(self, size: int) -> dict[str, float]:
        """Hand this rank's sums over as its one result, then do as usual."""
        self.results.append(self._tallies())
        self._sums = None
        self._size = size
        # One result a rank instead of one an image.
        return super().evaluate(get_world_size())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Add up the ranks' sums.

        Returns:
            ``IA-mIoU``, ``IA_S``, ``IA_M`` and ``IA_L`` in percent, NaN where there is
            no instance.
        """
        # A sampler that gives every rank equally many images repeats some; they are
        # the last ones of the last ranks.
        surplus = sum(part.images for pair in results for part in pair) - self._size
        kept = len(results) - max(0, surplus)
        total = Tally.zero(len(self.dataset_meta["classes"]))
        for rank, (tally, last) in enumerate(results):
            total += tally + last if rank < kept else tally
        ious, counts = total.means(), total.counts
        occurs = counts > 0
        means = np.where(occurs, ious, 0).sum(axis=0) / occurs.sum(axis=0).clip(1)
        means[~occurs.any(axis=0)] = np.nan
        metrics = {
            key: round(float(mean), 2) for key, mean in zip(_KEYS.values(), means)
        }
        print_log(self._table(ious, means, counts, total), logger="current")
        if self.out is not None:
            write_json(self.out, self._report(ious, means, counts, total))
        return metrics

    def _left_out(self) -> int:
        """Annotations of ``instance_file`` that are of no class."""
        return self._coco.left_out(self.dataset_meta["classes"]) if self._coco else 0

    def _source(self) -> str:
        return self.instance_dir or self.instance_file or "connected components"

    def _table(
        self, ious: np.ndarray, means: np.ndarray, counts: np.ndarray, total: Tally
    ) -> str:
        table = PrettyTable()
        table.align = "r"
        names = [*self.dataset_meta["classes"], "mean"]
        table.add_column("class", names, align="l")
        for column, (size, key) in enumerate(_KEYS.items()):
            values = [*ious[:, column], means[column]]
            table.add_column(
                "IA-IoU" if size == "all" else key,
                ["-" if np.isnan(value) else f"{value:.2f}" for value in values],
            )
        for column, size in enumerate(SIZES):
            title = "instances" if size == "all" else size
            numbers = counts[:, column].tolist()
            table.add_column(title, [*numbers, sum(numbers)])
        low, high = self.size_limits
        text = (
            f"Instance-aware IoU in percent; instances: {self._source()}; void "
            f"{self.void}; small: below {low} pixels, medium: below {high}"
        )
        if total.conflicting:
            text += (
                f"; {total.conflicting} pixels left out where class map and instances "
                "disagree"
            )
        if left_out := self._left_out():
            text += f"; {left_out} annotations of other categories are no instances"
        return f"{text}\n{table}"

    def _report(
        self, ious: np.ndarray, means: np.ndarray, counts: np.ndarray, total: Tally
    ) -> dict:
        def by_size(values: np.ndarray) -> dict[str, float | None]:
            return {
                size: None if np.isnan(value) else round(float(value), 4)
                for size, value in zip(SIZES, values)
            }

        def numbers(values: np.ndarray) -> dict[str, int]:
            return dict(zip(SIZES, values.tolist()))

        return dict(
            metric="IA-mIoU",
            instance_source=self._source(),
            background=self.background,
            connectivity=self.connectivity,
            void=self.void,
            whole_pixels=self.whole_pixels,
            size_limits=list(self.size_limits),
            images=total.images,
            disputed_pixels=total.conflicting,
            annotations_left_out=self._left_out(),
            iou=by_size(means),
            instances=numbers(counts.sum(axis=0)),
            classes={
                name: dict(iou=by_size(iou), instances=numbers(count))
                for name, iou, count in zip(self.dataset_meta["classes"], ious, counts)
            },
        )
