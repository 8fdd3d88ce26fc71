"""Quality of seeds at every background threshold, in one pass."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from prettytable import PrettyTable

from mmwood.fileio.files import write_json
from mmwood.registry import METRICS
from mmwood.utils.check import at_least
from mmwood.visualization.curves import save_threshold_curve


class SeedScores:
    """mIoU, precision, recall and F1 of several confusion matrices.

    Each is averaged over the classes, background included, that occur in the ground
    truth or in the seeds; F1 is that of the two averages, as in the evaluation of
    IRN and W-OoD.

    Args:
        confusion: Pixel counts, ground truth by seed. Shape: (..., L, L).
        labels: How many of the L labels, the first, are scored; None: all.
    """

    def __init__(self, confusion: np.ndarray, labels: int | None = None) -> None:
        confusion = confusion.astype(np.float64)
        true_positive = np.diagonal(confusion, axis1=-2, axis2=-1)[..., :labels]
        seed = confusion.sum(axis=-2)[..., :labels]
        truth = confusion.sum(axis=-1)[..., :labels]
        # A class that is in neither has no score: 0 / 0 is left out of the means.
        with np.errstate(invalid="ignore", divide="ignore"):
            self.iou = true_positive / (seed + truth - true_positive)
            self.class_precision = true_positive / seed
            self.class_recall = true_positive / truth
        self.miou = _mean(self.iou)
        self.precision = _mean(self.class_precision)
        self.recall = _mean(self.class_recall)
        total = self.precision + self.recall
        self.f1 = np.divide(
            2 * self.precision * self.recall,
            total,
            out=np.zeros_like(total),
            where=total > 0,
        )


def _mean(values: np.ndarray) -> np.ndarray:
    valid = ~np.isnan(values)
    total = np.where(valid, values, 0).sum(axis=-1)
    return total / np.maximum(valid.sum(axis=-1), 1)


@METRICS.register_module()
class SeedMetric(BaseMetric):
    """Seed mIoU, precision, recall and F1 at all thresholds at once.

    A seed is the argmax over [threshold, maps of the image's classes]
    (:func:`mmwood.functional.cam.seed_from_cam`). Which map wins does not depend on
    the threshold, so each pixel is counted once, by ground truth, winning class and
    the number of thresholds below its score; sums over that count give the confusion
    matrix at every threshold. Memory does not grow with the number of images.

    The best threshold is chosen with pixel masks. It tells how good the maps are; a
    method that may see image-level labels only cannot use it. ``threshold``, fixed
    beforehand, can.

    Args:
        threshold: The configured background threshold.
        thresholds: Those that are tried: their number of equal steps in [0, 1).
        ignore_index: Ground truth of pixels that are left out.
        out_dir: Folder for ``seed_curve.json`` and ``seed_curve.png``. None writes
            no file; ``tools/test.py`` fills in the work dir.
        collect_device, prefix: As in ``BaseMetric``.

    Raises:
        ValueError: A threshold is outside [0, 1); a sample has no maps or no mask;
            a mask holds a value outside the classes, or has not its maps' size.

    Example:
        >>> test_evaluator = dict(type='mmwood.SeedMetric', threshold=0.15)
    """

    default_prefix = "seed"

    def __init__(
        self,
        threshold: float = 0.15,
        thresholds: int = 100,
        ignore_index: int = 255,
        out_dir: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        at_least("mmwood.SeedMetric: threshold", threshold, 0, below=1)
        at_least("mmwood.SeedMetric: thresholds", thresholds, 1, integer=True)
        grid = np.arange(thresholds) / thresholds
        self.thresholds = np.unique(np.append(grid, threshold)).astype(np.float32)
        self.threshold = threshold
        self.ignore_index = ignore_index
        self.out_dir = out_dir
        self._counts: Any = None

    def process(self, data_batch: dict, data_samples: Sequence) -> None:
        """Count the pixels of a batch of predictions.

        Args:
            data_batch: Not used.
            data_samples: With ``cam`` (n, H, W), ``cam_classes`` (n,) and
                ``gt_sem_seg``, whose ``data`` is (1, H, W).
        """
        classes = len(self.dataset_meta["classes"])
        if self._counts is None:
            self._counts = self._start()
        for sample in data_samples:
            self._count(sample, classes)

    def _start(self) -> np.ndarray:
        """Zero pixels by ground truth, winning class and thresholds below the score."""
        labels = len(self.dataset_meta["classes"]) + 1
        return np.zeros((labels, labels, len(self.thresholds) + 1), dtype=np.int64)

    def _count(self, sample: dict, classes: int) -> None:
        name = sample.get("img_path")
        if "cam" not in sample or "gt_sem_seg" not in sample:
            raise ValueError(
                f"mmwood.SeedMetric needs maps and a mask of {name}: the model must be "
                "a mmwood.CAMClassifier, the pipeline must load the mask "
                "(mmwood.LoadSemanticMask) and pack it "
                "(PackInputs(algorithm_keys=('gt_sem_seg',)))"
            )
        mask = sample["gt_sem_seg"]["data"][0].cpu().numpy()
        cam = sample["cam"].float().cpu().numpy()
        if mask.shape != cam.shape[1:]:
            raise ValueError(
                f"the mask of {name} has (H, W) = {mask.shape}, its maps have "
                f"{cam.shape[1:]}"
            )
        valid = mask != self.ignore_index
        truth = mask[valid].astype(np.int64)
        if truth.size and truth.max() > classes:
            raise ValueError(
                f"the mask of {name} holds {truth.max()}; with {classes} classes it "
                f"may hold 0..{classes} and {self.ignore_index}"
            )
        if len(cam):
            winner = sample["cam_classes"].cpu().numpy()[cam.argmax(axis=0)[valid]] + 1
            # Foreground at a threshold means a score strictly above it.
            below = np.searchsorted(self.thresholds, cam.max(axis=0)[valid])
        else:
            winner = below = np.zeros_like(truth)
        shape = self._counts.shape
        index = np.ravel_multi_index((truth, winner, below), shape)
        self._counts += np.bincount(index, minlength=self._counts.size).reshape(shape)

    def evaluate(self, size: int) -> dict[str, float]:
        """Hand this rank's counts over as its one result, then do as usual."""
        self.results.append(self._start() if self._counts is None else self._counts)
        self._counts = None
        # One result a rank instead of one an image.
        return super().evaluate(get_world_size())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Add up the ranks' counts and score them at every threshold.

        Returns:
            At the best threshold ``best_threshold``, ``best_mIoU``, ...; at the
            configured one ``mIoU``, ``precision``, ``recall``, ``F1``, in percent.
        """
        counts = np.sum(results, axis=0)
        if not counts[1:].any():
            print_log(
                "mmwood.SeedMetric: no mask shows a class, so the scores are those of "
                "the background alone. Masks of 0 and 255 need 1 in place of 255, "
                f"which is void (ignore_index={self.ignore_index})",
                logger="current",
                level=logging.WARNING,
            )
        scores = SeedScores(self._confusion(counts))
        best = int(scores.miou.argmax())
        configured = int(np.abs(self.thresholds - self.threshold).argmin())
        print_log(self._class_table(scores, best, configured), logger="current")
        curve = self._curve(scores, best, configured)
        if self.out_dir is not None:
            write_json(Path(self.out_dir, "seed_curve.json"), curve)
            save_threshold_curve(curve, Path(self.out_dir, "seed_curve.png"))
        metrics = dict(curve["configured"])
        metrics.update({f"best_{key}": value for key, value in curve["best"].items()})
        return metrics

    def _confusion(self, counts: np.ndarray) -> np.ndarray:
        """(T, C + 1, C + 1) confusion matrices from the counts by score."""
        # A pixel with t thresholds strictly below its score is foreground at those.
        foreground = np.flip(np.cumsum(np.flip(counts, -1), axis=-1), -1)[..., 1:]
        confusion = np.moveaxis(foreground, -1, 0).copy()
        total = counts.sum(axis=(1, 2))
        confusion[:, :, 0] = total - confusion[:, :, 1:].sum(axis=2)
        return confusion

    def _curve(self, scores: SeedScores, best: int, configured: int) -> dict:
        def at(index: int) -> dict[str, float]:
            return dict(
                threshold=round(float(self.thresholds[index]), 4),
                mIoU=round(100 * float(scores.miou[index]), 3),
                precision=round(100 * float(scores.precision[index]), 3),
                recall=round(100 * float(scores.recall[index]), 3),
                F1=round(100 * float(scores.f1[index]), 3),
            )

        names = ["background", *self.dataset_meta["classes"]]
        return dict(
            note="The best threshold was chosen with pixel masks.",
            best=at(best),
            configured=at(configured),
            class_iou_at_best=_by_class(names, scores.iou[best]),
            class_iou_at_configured=_by_class(names, scores.iou[configured]),
            curve=[at(index) for index in range(len(self.thresholds))],
        )

    def _class_table(self, scores: SeedScores, best: int, configured: int) -> str:
        table = PrettyTable()
        table.align = "r"
        table.add_column(
            "class", ["background", *self.dataset_meta["classes"], "mean"], align="l"
        )
        columns = (
            ("IoU", scores.iou, scores.miou),
            ("precision", scores.class_precision, scores.precision),
            ("recall", scores.class_recall, scores.recall),
        )
        for index, note in ((best, " *"), (configured, "")):
            for title, per_class, mean in columns:
                values = [*per_class[index], mean[index]]
                table.add_column(
                    f"{title} @{self.thresholds[index]:.2f}{note}",
                    ["-" if np.isnan(v) else f"{100 * v:.1f}" for v in values],
                )
            if best == configured:
                break
        text = "Seed quality in percent (* best threshold, chosen with pixel masks)"
        return f"{text}\n{table}"


def _by_class(names: list[str], values: np.ndarray) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else round(100 * float(value), 3)
        for name, value in zip(names, values)
    }
