#!/usr/bin/env python
"""Choosing OoD candidates from Open Images: against only reading the label file.

A synthetic file in the format of the official ones, with 20,000 labels of which one in
ten rows shows a foreground class of VOC, is read by csv.reader alone and then by
mmwood, which also sorts and writes the list. Times are those of the processor, so that
others on the machine do not count. Official files hold the rows of an image together;
in the worst case no two neighbours belong together. Each runs in a process of its own;
memory is what its peak adds to that of the process with the labels in it.
"""

import argparse
import csv
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from common import add_json_argument, compare, write_results

from mmwood.converters.openimages import TABLES, Foreground, write_candidates
from mmwood.utils.tables import number_table

LABELS = 20_000
ROWS_PER_IMAGE = 12
#: A unit of ru_maxrss in megabytes: bytes on macOS, kibibytes elsewhere.
UNIT = 2**20 if sys.platform == "darwin" else 2**10


def make_foreground() -> Foreground:
    """The labels of VOC's table, and others up to 20,000."""
    with TABLES["voc"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = {row["label"]: [row["class"]] for row in rows}
    names = dict.fromkeys(labels, "") | {f"/m/x{n:05x}": "" for n in range(LABELS)}
    classes = list(dict.fromkeys(row["class"] for row in rows))
    return Foreground(classes=classes, labels=labels, names=names, renamed=[])


def make_labels(path: Path, rows: int, grouped: bool) -> None:
    """A file of so many rows; image ids are sorted, or in a scattered order."""
    rng = random.Random(0)
    foreground = make_foreground()
    shown = list(foreground.labels)
    others = [label for label in foreground.names if label not in foreground.labels]
    ends = []
    for _ in range(100_000):
        label = rng.choice(shown if rng.random() < 0.1 else others)
        machine = rng.random() < 0.7
        said = rng.choice(["0.6", "0.7", "0.8", "0.9"] if machine else ["0", "1"])
        ends.append(f"{'machine' if machine else 'verification'},{label},{said}")
    images = max(rows // ROWS_PER_IMAGE, 1)
    with path.open("w") as file:
        file.write("ImageID,Source,LabelName,Confidence\n")
        for number in range(rows):
            # Large primes: neighbours are far apart.
            image = number // ROWS_PER_IMAGE if grouped else number * 7_368_787 % images
            end = ends[number * 9_576_890_767 % len(ends)]
            file.write(f"{image * 0x1F3D5B79:016x},{end}\n")


def read(path: Path) -> int:
    """What cannot be saved: every row, as four fields."""
    count = 0
    with path.open(newline="", encoding="utf-8") as file:
        for _image, _source, _label, _confidence in csv.reader(file):
            count += 1
    return count


def choose(path: Path) -> int:
    summary = write_candidates(make_foreground(), [path], path.with_suffix(".txt"))
    return summary["candidates"]


def measure(name: str, path: Path) -> tuple[float, float, int]:
    """Seconds, peak memory in MB, and what came out."""
    make_foreground()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    result = dict(read=read, choose=choose)[name](path)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return seconds, peak * UNIT / 1e6, result


def in_process(*arguments: object) -> tuple[float, float, int]:
    """:func:`measure` in a process of its own, so that each has its own peak."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        default=[100_000, 1_000_000],
        help="sizes of the file (default: 100000 1000000; 10000000 takes minutes)",
    )
    parser.add_argument(
        "--order",
        nargs="+",
        default=["grouped", "scattered"],
        choices=["grouped", "scattered"],
    )
    parser.add_argument(
        "--folder", help="where to put the files for a while (default: a temporary one)"
    )
    add_json_argument(parser)
    args = parser.parse_args()
    table, results = [], []
    for rows in args.rows:
        for order in args.order:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                path = Path(folder, "labels.csv")
                make_labels(path, rows, order == "grouped")
                plain, _, _ = in_process("read", path)
                own, peak, kept = in_process("choose", path)
            what = f"candidates of {rows:,} labels, {order}"
            results.append(compare(what, "csv.reader", [own], [plain]))
            times = f"{plain:.2f} s", f"{own:.2f} s", f"{own / plain:.1f}"
            more = f"{rows / own:,.0f}", f"{peak:.0f} MB", f"{kept:,}"
            table.append((order, f"{rows:,}", *times, *more))
    columns = ["order", "rows", "csv.reader", "mmwood", "ratio", "rows/s"]
    print(number_table([*columns, "memory", "kept"], table))
    write_results(args.json, results)


if __name__ == "__main__":
    main()
