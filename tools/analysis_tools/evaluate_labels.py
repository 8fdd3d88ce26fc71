#!/usr/bin/env python
"""Quality of folders of label maps against masks: seeds, refined seeds, pseudo masks.

A pixel that a label map leaves open (255) counts as no class: it lowers the recall
and the IoU of its true class. So does one that tools/filter_labels.py removed from an
object (254); the column "removed" says how many of the open ones these are.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmwood.fileio.files import files_by_id, write_json
from mmwood.fileio.label_folder import LabelFolder
from mmwood.fileio.labels import (
    VOID,
    biased_as_void,
    check_labels,
    read_label_png,
)
from mmwood.fileio.lists import read_id_list
from mmwood.fileio.scores import refuse_other_content
from mmwood.functional.confusion import confusion
from mmwood.utils.command import named_path, run
from mmwood.utils.tables import number_table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folders",
        nargs="+",
        type=named_path,
        metavar="NAME=FOLDER",
        help="what to call it, and a folder of label PNGs (or one with labels/ in it)",
    )
    parser.add_argument("--masks", type=Path, required=True, help="folder of the masks")
    parser.add_argument(
        "--list", type=Path, help="list of image ids (default: those of each folder)"
    )
    parser.add_argument(
        "--classes",
        type=int,
        help="number of classes without background (default: what the first folder's "
        "manifest.json says, or 20)",
    )
    parser.add_argument("--out", type=Path, help="JSON to write the numbers to")
    return parser.parse_args()


def number_of_classes(folder: Path) -> int:
    """Of a folder of label PNGs, without background."""
    made = LabelFolder(folder.parent)
    return len(made.manifest()["classes"]) if made.manifest_path.is_file() else 20


def count(
    folder: Path, masks: Path, ids: Sequence[str], classes: int
) -> tuple[np.ndarray, int]:
    """The confusion of all images, (C + 1, C + 2), and how many pixels were removed."""
    counts = np.zeros((classes + 1, classes + 2), dtype=np.int64)
    removed = 0
    for image_id in tqdm(ids, desc=folder.name, disable=None):
        path = folder / f"{image_id}.png"
        found = read_label_png(path)
        mask = masks / f"{image_id}.png"
        truth = read_label_png(mask)
        check_labels(truth, mask, classes)
        label, _ = biased_as_void(found, classes)
        try:
            counts += confusion(label, truth, classes)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        # Of the pixels that count.
        removed += int(((label != found) & (truth != VOID)).sum())
    return counts, removed


def score(counts: np.ndarray, removed: int) -> dict[str, float]:
    """Scores as mmwood.SeedMetric has them, and the fractions of open pixels."""
    from mmwood.evaluation.seed_metric import SeedScores

    classes = len(counts)
    # An open pixel is a label of its own that no pixel truly has.
    square = np.zeros((classes + 1, classes + 1))
    square[:classes] = counts
    scores = SeedScores(square, labels=classes)
    mean = dict(
        mIoU=scores.miou, precision=scores.precision, recall=scores.recall, F1=scores.f1
    )
    mean["open"] = counts[:, -1].sum() / counts.sum()
    mean["removed"] = removed / counts.sum()
    return {name: round(100 * float(value), 3) for name, value in mean.items()}


def main() -> None:
    args = parse_args()
    results, classes = {}, args.classes
    if args.out is not None:
        refuse_other_content(args.out)
    for name, folder in args.folders:
        folder = Path(folder)
        if (folder / "labels").is_dir():
            folder = folder / "labels"
        if args.list is not None:
            ids = [item.image for item in read_id_list(args.list)]
        else:
            ids = list(files_by_id(folder))
        if not ids:
            raise ValueError(f"{args.list or folder} names no label map")
        classes = classes or number_of_classes(folder)
        results[name] = score(*count(folder, args.masks, ids, classes))
        results[name]["images"] = len(ids)
    columns = ("mIoU", "precision", "recall", "F1", "open", "removed", "images")
    rows = []
    for name, result in results.items():
        values = [f"{result[column]:.1f}" for column in columns[:-1]]
        rows.append([name, *values, result["images"]])
    print(number_table(["labels", *columns], rows))
    if args.out is not None:
        write_json(args.out, results)


if __name__ == "__main__":
    run(main)
