"""What a segmentation network finds where nothing is: on images without any class."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmwood.fileio.files import write_json
from mmwood.registry import METRICS
from mmwood.utils.check import at_least
from mmwood.utils.tables import number_table


@METRICS.register_module()
class FalsePositiveMetric(BaseMetric):
    """False positives on images that show none of the classes.

    On such an image, a held-out OoD one, every pixel that is not background is wrong.
    Pixels count alike whatever image they are of::

        FP_pixels = 100 · foreground pixels / pixels
        FP_images = 100 · images with ``min_area`` foreground pixels or more / images

    The table and the file have both by class, too; there an image counts for a class by
    this class's pixels alone.

    It reads ``pred_sem_seg``, where label 0 is background. Where the test's data set is
    a :class:`mmwood.OoDMixDataset`, images that are in distribution are left out, so
    that the metric stands beside ``IoUMetric`` in one test; the OoD part has
    ``label=255`` there, which ``IoUMetric`` leaves out. Of all other data sets every
    image counts, and must show no class.

    Args:
        min_area: Pixels from which on an image has a false positive.
        out: JSON file to write: numbers of pixels and images, and both in percent.
        collect_device, prefix: As in ``BaseMetric``.

    Raises:
        ValueError: ``min_area`` is below 1; ``out`` is no .json; an image shows a class
            in its ground truth; label 0 is a class; a prediction is missing or of
            another class.

    Example:
        >>> test_evaluator = dict(type='mmwood.NamedEvaluator', metrics=dict(
        ...     iou=dict(type='IoUMetric', iou_metrics=['mIoU']),
        ...     false_positives=dict(type='mmwood.FalsePositiveMetric', min_area=50)))
    """

    def __init__(
        self,
        min_area: int = 1,
        out: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        at_least("mmwood.FalsePositiveMetric: min_area", min_area, 1, integer=True)
        if out is not None and Path(out).suffix != ".json":
            raise ValueError(
                f"mmwood.FalsePositiveMetric: out must be a .json file, got {out!r}"
            )
        self.min_area = min_area
        self.out = out

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch by predicted class.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_sem_seg``, whose ``data`` is (1, H, W); perhaps
                with ``is_ood`` and ``gt_sem_seg``.
        """
        for sample in data_samples:
            counted = sample.get("is_ood", True)
            # An entry an image: those that a sampler repeats are cut off by place.
            self.results.append(self._count(sample) if counted else None)

    def _count(self, sample: dict) -> np.ndarray:
        """(C,) int64, pixels by class."""
        name, classes = sample.get("img_path"), self.dataset_meta["classes"]
        if "pred_sem_seg" not in sample:
            raise ValueError(
                f"mmwood.FalsePositiveMetric: {name} has no pred_sem_seg; expected a "
                "segmentor's prediction"
            )
        if sample.get("reduce_zero_label"):
            raise ValueError(
                "mmwood.FalsePositiveMetric: with reduce_zero_label=True label 0 is a "
                "class, so that no prediction is background"
            )
        if "gt_sem_seg" in sample:
            truth = np.unique(sample["gt_sem_seg"]["data"].cpu().numpy())
            if shown := sorted({*truth.tolist()} - {0, 255}):
                raise ValueError(
                    f"mmwood.FalsePositiveMetric: {name} shows a class, label "
                    f"{shown[0]}: test images without any class, or join both kinds "
                    "in a mmwood.OoDMixDataset"
                )
        labels = sample["pred_sem_seg"]["data"].cpu().numpy()
        counts = np.bincount(labels.reshape(-1), minlength=len(classes))
        if len(counts) > len(classes):
            raise ValueError(
                f"mmwood.FalsePositiveMetric: the prediction of {name} holds label "
                f"{len(counts) - 1}, the data set has {len(classes)} classes"
            )
        return counts

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum up all images.

        Returns:
            ``FP_pixels`` and ``FP_images`` in percent, NaN without images.
        """
        names = list(self.dataset_meta["classes"])[1:]
        found = [counts for counts in results if counts is not None]
        if not found:
            print_log(
                "mmwood.FalsePositiveMetric: the test has no OoD image",
                logger="current",
                level=logging.WARNING,
            )
        counts = np.array(found, dtype=np.int64).reshape(-1, len(names) + 1)
        # By image and class, in all first.
        wrong = np.c_[counts[:, 1:].sum(axis=1), counts[:, 1:]]
        pixels, images = wrong.sum(axis=0), (wrong >= self.min_area).sum(axis=0)
        total = int(counts.sum())
        rows = [
            dict(
                pixels=_percent(wrong_pixels, total),
                images=_percent(wrong_images, len(found)),
                pixel_count=wrong_pixels,
                image_count=wrong_images,
            )
            for wrong_pixels, wrong_images in zip(pixels.tolist(), images.tolist())
        ]
        print_log(self._table(names, rows, len(found)), logger="current")
        if self.out is not None:
            content = dict(
                num_images=len(found),
                num_pixels=total,
                min_area=self.min_area,
                **rows[0],
                classes=dict(zip(names, rows[1:])),
            )
            write_json(self.out, content)
        return {
            f"FP_{key}": np.nan if rows[0][key] is None else rows[0][key]
            for key in ("pixels", "images")
        }

    def _table(self, names: Sequence[str], rows: Sequence[dict], images: int) -> str:
        columns = ("pixels", "images")
        shown = [
            ["-" if row[key] is None else f"{row[key]:.3f}" for key in columns]
            for row in rows
        ]
        lines = [[name, *row] for name, row in zip(["any class", *names], shown)]
        table = number_table(["class", *columns], lines)
        return (
            f"False positives on {images} images that show no class, in percent of "
            f"their pixels, and of the images with {self.min_area} such pixels or more"
            f"\n{table}"
        )


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 4) if whole else None
