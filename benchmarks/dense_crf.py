#!/usr/bin/env python
"""The dense CRF: time and memory against pydensecrf2, which a compiler builds.

Ten iterations, image, unary terms and parameters the same. The two are timed in turn in
one process; seconds are of the processor, so that other programs disturb them less.
Memory is what the peak of a run, in a process of its own, adds to what the packages and
the inputs hold; it is read from Linux's /proc.
"""

import argparse
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import add_json_argument, compare, write_results
from PIL import Image
from prettytable import PrettyTable

from mmwood.functional.crf import DEEPLAB_CRF, dense_crf
from mmwood.functional.refine import refine_settings

SETS: dict[str, dict] = {"IRN": {}, "DeepLab": DEEPLAB_CRF}


def make_image(height: int, width: int) -> np.ndarray:
    """Discs on a slope of colours, with the noise of a photograph."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    image = np.stack([x / width, y / height, (x + y) / (width + height)], axis=-1) * 160
    for _ in range(12):
        cy, cx, radius = rng.random(3) * (height, width, height / 4)
        inside = np.hypot(y - cy, x - cx) < radius
        image[inside] = 0.6 * image[inside] + 100 * rng.random(3)
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)


def make_probs(height: int, width: int, labels: int) -> np.ndarray:
    """Probabilities that change every 40 pixels, as from a coarse map."""
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 2, (labels, -(-height // 40), -(-width // 40)))
    scores = scores.repeat(40, axis=1).repeat(40, axis=2)[:, :height, :width]
    exponential = np.exp(scores)
    return (exponential / exponential.sum(axis=0)).astype(np.float32)


def pydensecrf(image: np.ndarray, probs: np.ndarray, **options: float) -> np.ndarray:
    from pydensecrf import densecrf

    settings = {**refine_settings(dict(method="crf")), **options}
    labels, height, width = probs.shape
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(-np.log(probs.clip(1e-5)).reshape(labels, -1))
    crf.addPairwiseGaussian(settings["gaussian_sxy"], settings["gaussian_compat"])
    crf.addPairwiseBilateral(
        settings["bilateral_sxy"],
        settings["bilateral_srgb"],
        image,
        settings["bilateral_compat"],
    )
    return np.array(crf.inference(settings["iterations"])).reshape(probs.shape)


METHODS: dict[str, Callable] = {"mmwood": dense_crf, "pydensecrf2": pydensecrf}


def peak(name: str, image: np.ndarray, labels: int, options: dict) -> float:
    """Megabytes that a first run adds."""
    probs = make_probs(*image.shape[:2], labels)
    # What is loaded once, by the first image.
    METHODS[name](image[:8, :8].copy(), probs[:, :8, :8].copy(), **options)
    # Importing torch may have needed more than is held now: forget that peak.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_peak()
    METHODS[name](image, probs, **options)
    return memory_peak() - before


def memory_peak() -> float:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1e3


def in_process(*arguments: object) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size", type=int, nargs=2, default=(375, 500), metavar=("H", "W")
    )
    parser.add_argument("--image", type=Path, help="instead of a drawn one")
    parser.add_argument("--labels", type=int, nargs="+", default=(2, 21))
    parser.add_argument("--repeats", type=int, default=5)
    add_json_argument(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    image = make_image(*args.size)
    if args.image:
        image = np.array(Image.open(args.image).convert("RGB"))
    height, width = image.shape[:2]
    results = []
    table = PrettyTable(
        ["CRF", "labels", "method", "median time", "memory", "largest difference"]
    )
    table.align = "r"
    # First: a process's peak is at least that of the one that starts it.
    memory = {
        (crf, labels, name): in_process(name, image, labels, SETS[crf])
        for crf in SETS
        for labels in args.labels
        for name in METHODS
    }
    for crf, options in SETS.items():
        for labels in args.labels:
            probs = make_probs(height, width, labels)
            seconds: dict[str, list[float]] = {name: [] for name in METHODS}
            for _ in range(args.repeats):
                found = {}
                for name, method in METHODS.items():
                    start = time.process_time()
                    found[name] = method(image, probs, **options)
                    seconds[name].append(time.process_time() - start)
            difference = np.abs(found["mmwood"] - found["pydensecrf2"]).max()
            for name in METHODS:
                median = statistics.median(seconds[name])
                row = [crf, labels, name, f"{median:.3f} s"]
                megabytes = f"{memory[crf, labels, name]:.0f} MB"
                table.add_row([*row, megabytes, f"{difference:.1e}"])
            what = f"{crf}'s dense CRF, {height} x {width}, {labels} labels"
            results.append(compare(what, "pydensecrf2", *seconds.values()))
    print(f"{height} x {width} pixels, 10 iterations, one thread")
    print(table)
    for result in results:
        print(f"{result.what}: {result.ratio:.2f} of pydensecrf2's time")
    write_results(args.json, results)


if __name__ == "__main__":
    main()
