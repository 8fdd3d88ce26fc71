#!/usr/bin/env python
"""The main job on the built-in data: tags -> classifier -> CAM -> seeds, measured.

Run it from the root of the repository, as `make demo` does.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from prettytable import PrettyTable

from mmwood.stack import StackError, check_stack

TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / "configs/demo/classifier.py"
DATA = "data/context_shapes"


def stage(title: str, log: Path, tool: str, *arguments: object) -> None:
    """Run one of the tools; its progress bar shows, its output goes to a file."""
    print(f"\n{title}", flush=True)
    start = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        # Errors share standard error with the bar, so they are seen.
        result = subprocess.run(
            [sys.executable, "-W", "ignore", TOOLS / tool, *map(str, arguments)],
            stdout=file,
            check=False,
        )
    if result.returncode:
        sys.exit(f"This step failed; its output is in {log}")
    print(f"done in {time.monotonic() - start:.0f} s (log: {log})", flush=True)


def seed_table(curve: dict) -> PrettyTable:
    """Seed quality at the configured and at the best threshold."""
    table = PrettyTable(["background threshold", "mIoU", "precision", "recall", "F1"])
    table.align = "r"
    for point, note in (
        (curve["configured"], "configured"),
        (curve["best"], "best, chosen with masks"),
    ):
        values = [f"{point[key]:.1f}" for key in ("mIoU", "precision", "recall", "F1")]
        table.add_row([f"{point['threshold']:.2f} ({note})", *values])
    return table


def main() -> None:
    try:
        check_stack(needs=("mmengine", "mmcv", "mmpretrain"))
    except StackError as error:
        sys.exit(str(error))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/demo"))
    work = parser.parse_args().work_dir
    for folder in ("classifier", "seeds", "pictures", "logs"):
        shutil.rmtree(work / folder, ignore_errors=True)
    start = time.monotonic()
    stage(
        "1/3 Draw the built-in images: objects, seven in ten on their own context",
        work / "logs/data.log",
        "dataset_converters/context_shapes.py",
        DATA,
        "--correlation",
        0.7,
    )
    stage(
        "2/3 Train a classifier on the image tags alone",
        work / "logs/classifier.log",
        "train.py",
        CONFIG,
        "--work-dir",
        work / "classifier",
    )
    checkpoint = (work / "classifier/last_checkpoint").read_text().strip()
    stage(
        "3/3 Make class activation maps and seeds, and compare them with the masks",
        work / "logs/seeds.log",
        "test.py",
        CONFIG,
        checkpoint,
        "--tta",
        "--work-dir",
        work / "seeds",
        "--show-dir",
        work / "pictures",
        "--interval",
        10,
        "--out",
        work / "metrics.json",
    )
    metrics = json.loads((work / "metrics.json").read_text())
    curve = json.loads((work / "seeds/seed_curve.json").read_text())
    print(
        f"\nSeeds of the training images, in percent of the masks\n{seed_table(curve)}"
    )
    print(
        f"The classifier itself: mean average precision "
        f"{metrics['multi-label/mAP']:.1f} on the same images."
    )
    print(f"Took {(time.monotonic() - start) / 60:.1f} minutes.")
    print(f"Pictures: {work / 'pictures'} (image | maps | seed | ground truth)")
    print(f"Label files: {work / 'seeds/pseudo_labels'}")


if __name__ == "__main__":
    main()
