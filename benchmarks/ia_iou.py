#!/usr/bin/env python
"""What instance-aware IoU costs: mmwood.IAIoUMetric against mmseg's IoUMetric.

Both score the same predictions, an image at a time; they alternate in one process, so
that a noisy machine is noisy for both. Without --data the maps are smooth random ones
of VOC's size; with it they are the masks of a folder, and the predictions are the same
masks displaced and with blocks of other classes.
"""

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from common import add_json_argument, compare, write_results
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from PIL import Image
from prettytable import PrettyTable

from mmwood.evaluation import IAIoUMetric


def smooth_map(rng: np.random.Generator, grid: int, classes: int) -> np.ndarray:
    """A label map of VOC's size with background, four classes and blobs of them."""
    chosen = rng.choice(np.arange(1, classes), size=4, replace=False)
    coarse = rng.random((5, grid, grid)).astype(np.float32)
    coarse[0] += 0.4
    scores = [
        cv2.resize(part, (500, 375), interpolation=cv2.INTER_CUBIC) for part in coarse
    ]
    return np.append(0, chosen)[np.argmax(scores, axis=0)].astype(np.uint8)


def synthetic(rng: np.random.Generator, classes: int):
    """Prediction and ground truth, the latter with a border of void."""
    gt = smooth_map(rng, 8, classes)
    pred = np.where(
        cv2.resize(rng.random((12, 12)), (500, 375)) < 0.7,
        gt,
        smooth_map(rng, 20, classes),
    )
    edge = cv2.morphologyEx(gt, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    gt[edge] = 255
    return pred, gt


def from_mask(path: Path, rng: np.random.Generator, classes: int):
    """Prediction and ground truth from a mask file."""
    with Image.open(path) as image:
        gt = np.array(image)
    pred = np.roll(np.where(gt == 255, 0, gt), (3, 5), axis=(0, 1))
    for _ in range(3):
        y, x = (int(rng.integers(side)) for side in gt.shape)
        pred[y : y + 40, x : x + 40] = rng.integers(classes)
    return pred, gt


def sample(pred: np.ndarray, gt: np.ndarray, path: str) -> dict:
    """A data sample as a segmentor hands it to a metric."""
    data = SegDataSample(metainfo=dict(img_path=path, seg_map_path=path))
    for name, label in (("pred_sem_seg", pred), ("gt_sem_seg", gt)):
        label = torch.from_numpy(label.astype(np.int64))
        data.set_data({name: PixelData(data=label[None])})
    return data.to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder of masks (PNG)")
    parser.add_argument(
        "--instance-dir", help="folder of instance maps, as in mmwood.IAIoUMetric"
    )
    add_json_argument(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    rng = np.random.default_rng(0)
    if args.data is None:
        samples = [
            sample(*synthetic(rng, args.classes), f"{number}.png")
            for number in range(args.images)
        ]
    else:
        paths = sorted(args.data.glob("*.png"))
        if args.instance_dir is not None:
            folder = Path(args.data.parent, args.instance_dir)
            paths = [path for path in paths if (folder / path.name).is_file()]
        samples = [
            sample(*from_mask(path, rng, args.classes), str(path))
            for path in paths[: args.images]
        ]
    metrics = {
        "IoUMetric": IoUMetric(),
        "IAIoUMetric": IAIoUMetric(),
        "IAIoUMetric without background": IAIoUMetric(background="ignore"),
    }
    if args.instance_dir is not None:
        metrics["IAIoUMetric with instance maps"] = IAIoUMetric(
            instance_dir=args.instance_dir
        )
    for metric in metrics.values():
        metric.dataset_meta = dict(classes=[str(c) for c in range(args.classes)])
        metric.process({}, samples[:2])
    times: dict[str, list[float]] = {name: [] for name in metrics}
    for number, single in enumerate(samples):
        # None is always the one that comes first.
        for name in sorted(metrics, reverse=bool(number % 2)):
            start = time.perf_counter()
            metrics[name].process({}, [single])
            times[name].append(time.perf_counter() - start)
    table = PrettyTable(["metric", "median of an image", "median ratio"])
    table.align = "r"
    for name, own in times.items():
        ratios = (a / b for a, b in zip(own, times["IoUMetric"]))
        table.add_row(
            [
                name,
                f"{1000 * statistics.median(own):.2f} ms",
                f"{statistics.median(ratios):.2f}",
            ]
        )
    print(f"{len(samples)} images, {args.threads} threads")
    print(table)
    results = [
        compare(f"an image, {name}", "IoUMetric", own, times["IoUMetric"])
        for name, own in times.items()
        if name != "IoUMetric"
    ]
    write_results(args.json, results)


if __name__ == "__main__":
    main()
