#!/usr/bin/env python
"""What building PASCAL-B costs: time and memory against json.load alone.

Annotations of LVIS's size and form are drawn at random (20,000 images, 240,000
polygons, both files together about as large as LVIS v1 val and its COCO part). Each
step runs in a process of its own; memory is what its peak adds to that of the process
with everything imported.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from common import add_json_argument, compare, write_results

from mmwood.converters.pascal_b import build, read_annotations, read_class_table
from mmwood.utils.tables import number_table

#: A unit of ru_maxrss in megabytes: bytes on macOS, kibibytes elsewhere.
UNIT = 2**20 if sys.platform == "darwin" else 2**10
OTHERS = 300


def blob(rng: np.random.Generator, width: int, height: int) -> tuple[list, float]:
    """A polygon with 20 to 80 corners around a point, and its area."""
    corners = int(rng.integers(20, 81))
    angle = np.sort(rng.random(corners)) * 2 * np.pi
    # The logarithm of the radius is uniform: most objects are small.
    radius = np.exp(rng.uniform(1, 5)) * rng.uniform(0.8, 1, corners)
    x = (rng.random() * width + radius * np.cos(angle)).clip(0, width - 1)
    y = (rng.random() * height + radius * np.sin(angle)).clip(0, height - 1)
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    return np.stack([x, y], axis=1).ravel().round(2).tolist(), round(float(area), 2)


def write_source(path: Path, source: str, images: int, per_image: float) -> None:
    """An annotation file of LVIS or COCO, made up; its polygons recur."""
    rng = np.random.default_rng(len(source))
    names = [*read_class_table().labels[source], *(f"other {n}" for n in range(OTHERS))]
    # COCO must not contradict LVIS: it only adds what LVIS lacks.
    shown = ["potted plant"] if source == "coco" else names
    categories = {name: number for number, name in enumerate(names, 1)}
    blobs = [blob(rng, 640, 480) for _ in range(2000)]
    shapes = [json.dumps(dict(segmentation=[p], area=area))[1:] for p, area in blobs]
    pictures, annotations = [], []
    for number in range(1, images + 1):
        address = f"http://images.cocodataset.org/val2017/{number:012d}.jpg"
        image = dict(id=number, width=640, height=480, coco_url=address)
        image |= dict(license=1, date_captured="2013-11-14 17:02:52")
        image |= dict(neg_category_ids=[1, 2, 3], not_exhaustive_category_ids=[])
        if source == "lvis" and rng.random() < 0.1:
            image["not_exhaustive_category_ids"] = [1]
        pictures.append(image)
        for _ in range(rng.poisson(per_image)):
            category = categories[shown[rng.integers(len(shown))]]
            annotations.append(
                f'{{"id": {len(annotations) + 1}, "image_id": {number}, '
                f'"category_id": {category}, "bbox": [10.5, 20.25, 30.0, 40.0], '
                f"{shapes[rng.integers(len(shapes))]}"
            )
    listed = [dict(id=number, name=name) for name, number in categories.items()]
    path.write_text(
        f'{{"categories": {json.dumps(listed)}, "images": {json.dumps(pictures)}, '
        f'"annotations": [{", ".join(annotations)}]}}'
    )


def load(paths: dict[str, Path]) -> str:
    content = [json.loads(path.read_text()) for path in paths.values()]
    return f"{sum(len(part['annotations']) for part in content):,} annotations"


def read(paths: dict[str, Path]) -> str:
    labels = read_class_table().labels
    scenes = [read_annotations(path, labels[key]) for key, path in paths.items()]
    kept = sum(len(scene.items) for part in scenes for scene in part.values())
    return f"{kept:,} annotations of classes"


def whole(paths: dict[str, Path], number: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        record = build(
            folder, lvis=[paths["lvis"]], coco=[paths["coco"]], number=number
        )
    cells = [n for row in record["instances"].values() for n in row.values()]
    return (
        f"{len(record['images']):,} of {record['candidates']:,} images; instances in a "
        f"cell: {min(cells)} to {max(cells)}, mean {np.mean(cells):.0f}"
    )


def measure(function: Callable[[], str], pipe) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Time of this process, whatever others do on the machine.
    start = time.process_time()
    result = function()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send((seconds, (peak - before) / UNIT, result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--per-image", type=float, default=12, help="polygons of LVIS")
    parser.add_argument("--number", type=int, default=1137)
    add_json_argument(parser)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        paths = {key: Path(folder, f"{key}.json") for key in ("lvis", "coco")}
        for key, per_image in (("lvis", args.per_image), ("coco", 0.1)):
            # In a process of its own: children inherit their parent's peak.
            writer = context.Process(
                target=write_source, args=(paths[key], key, args.images, per_image)
            )
            writer.start()
            writer.join()
        size = sum(path.stat().st_size for path in paths.values()) / 2**20
        print(f"{args.images:,} images, {size:.0f} MB of JSON")
        steps = {
            "json.load": partial(load, paths),
            "mmwood, reading": partial(read, paths),
            "mmwood, whole build": partial(whole, paths, args.number),
        }
        results = {}
        for name, function in steps.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=measure, args=(function, theirs))
            process.start()
            # What dies sends nothing: then this ends too, instead of waiting.
            theirs.close()
            results[name] = ours.recv()
            process.join()
    base = results["json.load"]
    lines = []
    for name, (seconds, memory, result) in results.items():
        time_ratio, memory_ratio = f"{seconds / base[0]:.2f}", f"{memory / base[1]:.2f}"
        used = f"{memory:,.0f} MB", memory_ratio
        lines.append((name, f"{seconds:.1f} s", time_ratio, *used, result))
    columns = ["", "CPU time", "ratio", "memory", "ratio ", "result"]
    print(number_table(columns, lines))
    rows = [
        compare(
            f"PASCAL-B, {name.removeprefix('mmwood, ')}", "json.load", [own], base[:1]
        )
        for name, (own, *_) in results.items()
        if name != "json.load"
    ]
    write_results(args.json, rows)


if __name__ == "__main__":
    main()
