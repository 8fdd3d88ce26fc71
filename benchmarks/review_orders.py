#!/usr/bin/env python
"""How many looks a review needs, in each order and by groups of alike images.

Known decisions are replayed: a look gives the decision of a row, and an image is usable
when a row keeps it and none rejects it. The sample of a group is looked at; if all of
it is kept or all of it rejected, so is the group; otherwise all of the group is looked
at. A group can be wrong: the table says about how many images.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import Result, add_json_argument, write_results
from prettytable import PrettyTable

from mmwood.fileio.candidates import STATES, read_manifest, write_manifest
from mmwood.fileio.image_features import features_path
from mmwood.ood.review.alike import Alike
from mmwood.ood.review.counts import KEPT, REJECTED, ReviewRows
from mmwood.ood.review.decisions import Review
from mmwood.ood.review.orders import round_robin

#: Number of looks, rows that are then decided, and what they become.
Step = tuple[int, list[int], list[int]]


def known_rows(manifest: Path, kept: Path | None) -> tuple[list, list[int]]:
    """Rows with a decision, as unseen ones, and their decisions."""
    names = None if kept is None else set(kept.read_text().split("\n"))
    rows, truth = [], []
    for _, row in read_manifest(manifest):
        state = row.state
        if names is not None:
            state = "kept" if Path(row.image).name in names else "rejected"
        if state != "unseen":
            rows.append(replace(row, state="unseen"))
            truth.append(STATES.index(state))
    return rows, truth


def one_by_one(order: np.ndarray, truth: np.ndarray) -> Iterator[Step]:
    for row in order.tolist():
        yield 1, [row], [truth[row]]


def by_groups(alike: Alike, rows: np.ndarray, truth: np.ndarray) -> Iterator[Step]:
    for group in alike.groups(rows):
        seen = {int(truth[row]) for row in group.shown}
        if len(seen) == 1:
            yield len(group.shown), group.rows, [*seen] * len(group.rows)
        else:
            yield len(group.rows), group.rows, truth[group.rows].tolist()


def replay(
    steps: Iterator[Step], table: ReviewRows, truth: np.ndarray, fraction: float
) -> dict:
    """What a review costs and gives."""
    rejected = np.zeros(len(table.images), dtype=bool)
    kept = rejected.copy()
    kept[table.image_of[truth == KEPT]] = True
    rejected[table.image_of[truth == REJECTED]] = True
    usable = kept & ~rejected
    wanted = fraction * usable.sum()
    keeps, rejects = np.zeros_like(kept), np.zeros_like(kept)
    looks, reached = 0, None
    for cost, rows, states in steps:
        looks += cost
        for row, state in zip(rows, states):
            (keeps if state == KEPT else rejects)[table.image_of[row]] = True
        if reached is None and (keeps & ~rejects & usable).sum() >= wanted:
            reached = looks
    given = keeps & ~rejects
    return dict(
        reached=reached,
        looks=looks,
        found=int((given & usable).sum()),
        wrong=int((given & ~usable).sum()),
        usable=int(usable.sum()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, help="with features beside it")
    parser.add_argument(
        "--kept",
        type=Path,
        help="names of the images that show no object, one a line; all others are "
        "rejected (default: the decisions of the manifest)",
    )
    parser.add_argument(
        "--fraction", type=float, default=0.9, help="of the usable images to find"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random order")
    add_json_argument(parser)
    args = parser.parse_args()
    rows, known = known_rows(args.manifest, args.kept)
    truth = np.array(known)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "ood.csv")
        write_manifest(copy, rows)
        shutil.copy(features_path(args.manifest), features_path(copy))
        review = Review(copy)
        table = ReviewRows(review)
        alike = Alike(table)
        hardest = table.choose()
        chance = np.random.default_rng(args.seed).permutation(hardest)
        turns = hardest[round_robin(table.class_of[hardest])]
        ways = {
            "hardest first": one_by_one(hardest, truth),
            "class by turns": one_by_one(turns, truth),
            "diverse first": one_by_one(alike.varied(hardest), truth),
            "random": one_by_one(chance, truth),
            "groups": by_groups(alike, hardest, truth),
        }
        found = {
            name: replay(way, table, truth, args.fraction) for name, way in ways.items()
        }
        groups = len(alike.groups(hardest))
        review.close()
    usable = found["groups"]["usable"]
    print(
        f"{len(rows)} rows of {len(table.images)} images, {usable} of them usable; "
        f"{groups} groups"
    )
    head = f"looks to {args.fraction:.0%}"
    lines = PrettyTable(["", head, "looks at all", "found", "wrongly kept"], align="r")
    lines.align[""] = "l"
    for name, item in found.items():
        reached = item["reached"] if item["reached"] is not None else "never"
        lines.add_row([name, reached, item["looks"], item["found"], item["wrong"]])
    print(lines)
    print(json.dumps(found))
    today = found["hardest first"]["looks"]
    results = []
    for name, item in found.items():
        ratio = item["looks"] / today
        what = f"looks at {len(rows)} rows, {name}"
        results.append(
            Result(what, "one by one", item["looks"], today, ratio, 1, "looks")
        )
    write_results(args.json, results)


if __name__ == "__main__":
    main()
