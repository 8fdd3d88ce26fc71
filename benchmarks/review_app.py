#!/usr/bin/env python
"""What the review app costs with many candidates: 100,000 against 1,000.

The command itself, in a process of its own, with a manifest of photographs that exist
and an empty cache. The first page is its HTML and its 48 small pictures, fetched by one
client one after the other; a page again finds the pictures in the cache. A decision
goes to the journal and is synchronised; saving writes the whole manifest. Groups of
alike images are made of random features of 1,280 numbers, in a process of its own.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from common import Result, add_json_argument, write_results
from PIL import Image
from prettytable import PrettyTable

from mmwood.fileio.candidates import Candidate, write_manifest
from mmwood.fileio.image_features import write_features
from mmwood.fileio.mining_results import FEATURE_TYPE
from mmwood.ood.review.decisions import Review

TOOL = Path(__file__).parents[1] / "tools/review_ood.py"
CLASSES = 20
PAGE = 48
#: Of the images, in pixels.
SIZE = (1024, 768)
#: Length of a feature, and how many kinds of images there are among a hundred.
DIM, KINDS = 1280, 2
GROUPS = """
import sys, time
from mmwood.ood.review.alike import Alike
from mmwood.ood.review.counts import ReviewRows
from mmwood.ood.review.decisions import Review

table = ReviewRows(Review(sys.argv[1]))
times = [time.perf_counter()]
alike = Alike(table)
times.append(time.perf_counter())
alike.groups(table.choose(0))
times.append(time.perf_counter())
alike.varied(table.choose())
times.append(time.perf_counter())
print(*(after - before for before, after in zip(times, times[1:])))
print(open("/proc/self/status").read())
"""


def make_manifest(folder: Path, rows: int) -> Path:
    """Each image is a candidate for 20 classes; 50 files under many names."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(-(-rows // CLASSES)):
        path = folder / f"images/{number:06d}.jpg"
        if number < 50:
            rough = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            rough.resize(SIZE, Image.Resampling.BICUBIC).save(path)
        else:
            path.symlink_to(f"{number % 50:06d}.jpg")
    candidates = (
        Candidate(
            image=str(folder / f"images/{number // CLASSES:06d}.jpg"),
            class_name=f"class {number % CLASSES}",
            probability=1 - number / rows / 2,
            rank=number // CLASSES + 1,
            state="unseen",
            sha256=f"{number // CLASSES:064x}",
        )
        for number in range(rows)
    )
    write_manifest(folder / "ood.csv", candidates)
    images = -(-rows // CLASSES)
    kinds = rng.normal(size=(max(1, images * KINDS // 100), DIM)).astype(np.float32)
    features = (
        (
            f"{number:064x}",
            (kinds[rng.integers(len(kinds))] + 0.5 * rng.normal(size=DIM))
            .astype(FEATURE_TYPE)
            .tobytes(),
        )
        for number in range(images)
    )
    write_features(folder / "ood.npz", images, DIM, features)
    return folder / "ood.csv"


def group(manifest: Path) -> dict[str, float]:
    """Seconds and memory of features, groups of one class, and the order of variety."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GROUPS, manifest],
        env=dict(os.environ, PYTHONPATH=str(TOOL.parents[1])),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times, status = process.stdout.split("\n", 1)
    names = ("features", "groups of a class", "diverse first")
    found = {f"{name} (s)": float(t) for name, t in zip(names, times.split())}
    found["peak memory of groups (MB)"] = memory_in(status)
    return found


def seconds_of_page(url: str) -> float:
    start = time.perf_counter()
    with urlopen(url) as answer:
        answer.read()
    for number in range(PAGE):
        with urlopen(f"{url}picture/small/{number * CLASSES}") as answer:
            answer.read()
    return time.perf_counter() - start


def peak_memory(process: int) -> float:
    """In MB; Linux only."""
    return memory_in(Path(f"/proc/{process}/status").read_text())


def memory_in(status: str) -> float:
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def measure(folder: Path, rows: int) -> dict[str, float]:
    manifest = make_manifest(folder, rows)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", TOOL, manifest, "--port", "0", "--no-browser"],
        env=dict(os.environ, PYTHONPATH=str(TOOL.parents[1])),
        stdout=subprocess.PIPE,
        text=True,
    )
    found = None
    while found is None:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the review app did not start")
        found = re.search(r"http://\S+", line)
    url = found[0]
    for _ in range(1000):
        try:
            urlopen(f"{url}picture/small/{rows - 1}").close()
            break
        except OSError:
            time.sleep(0.005)
    result = {"start until it answers (s)": time.perf_counter() - start}
    result["first page (s)"] = seconds_of_page(url)
    result["a page again (s)"] = statistics.median(seconds_of_page(url) for _ in "123")
    result["peak memory (MB)"] = peak_memory(process.pid)
    process.terminate()
    process.communicate()

    review = Review(manifest)
    times = []
    for row in range(50):
        start = time.perf_counter()
        review.decide([row], "kept")
        times.append(1000 * (time.perf_counter() - start))
    result["decision (ms)"] = statistics.median(times)
    start = time.perf_counter()
    review.save()
    result["saving (s)"] = time.perf_counter() - start
    review.close()
    return result | group(manifest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, nargs=2, default=[1000, 100_000], help="of the manifests"
    )
    add_json_argument(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few, many = (measure(Path(folder, str(rows)), rows) for rows in args.rows)
    names = [f"{rows:,} rows" for rows in args.rows]
    table = PrettyTable(["", *names, "ratio"], align="r")
    table.align[""] = "l"
    results = []
    for name, value in few.items():
        other = many[name]
        what, unit = name.removesuffix(")").split(" (")
        what = f"review app, {what}, {names[1]}"
        ratio = other / value
        results.append(Result(what, names[0], other, value, ratio, 1, unit))
        table.add_row([name, f"{value:.3g}", f"{other:.3g}", f"{other / value:.2f}"])
    print(table)
    write_results(args.json, results)


if __name__ == "__main__":
    main()
