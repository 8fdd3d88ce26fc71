#!/usr/bin/env python
"""Show the clusters of out-of-distribution images (W-OoD's figure A2).

FOLDER is what mmwood.OoDClusterHook writes. DIR gets one contact sheet per cluster, the
images nearest to its centre first, overview.png with the first images of the largest
clusters, and index.csv.

Example:
    python tools/analysis_tools/ood_clusters.py work_dirs/wood/ood_clusters \
        --out work_dirs/wood/ood_clusters/sheets
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mmwood.fileio.decoding import Decoding, check_decoding
from mmwood.fileio.images import (
    UNREADABLE,
    open_upright,
    refuse_foreign_drawing,
    save_picture,
    why_unreadable,
)
from mmwood.fileio.scores import parse_json
from mmwood.fileio.tables import csv_reader, write_table
from mmwood.utils.command import refuse_below, run, script_parser
from mmwood.visualization.contact_sheet import contact_sheet
from mmwood.visualization.figures import numbers_path

COLUMNS = ["image", "cluster", "distance", "class", "probability"]
#: Side of an image's place in pixels.
CELL = 160
#: Rows and images a row of the overview.
OVERVIEW_ROWS, OVERVIEW_IMAGES = 25, 6


@dataclass(slots=True)
class Member:
    """One row of members.csv; ``line`` is its place in the file."""

    image: str
    distance: float
    class_name: str
    probability: float
    line: int


@dataclass(slots=True)
class Cluster:
    """One cluster; members come by their distance to its centre."""

    number: int
    name: str | None
    members: list[Member]
    decoding: Decoding

    @property
    def majority(self) -> tuple[str, int]:
        """The class that most members are taken for, and how many are."""
        return Counter(m.class_name for m in self.members).most_common(1)[0]

    @property
    def sheet(self) -> str:
        """The name of its contact sheet."""
        return f"cluster_{self.number:03d}.png"


def read_clusters(folder: Path) -> list[Cluster]:
    """The clusters that have members, the largest first."""
    paths = folder / "clusters.json", folder / "members.csv"
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no file {path}: expected the folder that "
                "mmwood.OoDClusterHook writes (ood_clusters in the work dir)"
            )

    def parse(content: Any) -> tuple[list[int], list[Cluster]]:
        sizes = list(content["sizes"])
        names = content.get("names") or [None] * len(sizes)
        found = content.get("decoding") or {}
        decoding = check_decoding(found.get("levels"), found.get("bands"))
        clusters = [Cluster(k, n, [], decoding) for k, n in enumerate(names)]
        return sizes, clusters[: len(sizes)]

    expected = "clusters.json of mmwood.OoDClusterHook"
    sizes, clusters = parse_json(paths[0], expected, parse)
    _read_members(paths[1], clusters)
    found = [len(cluster.members) for cluster in clusters]
    if found != sizes:
        raise ValueError(
            f"{paths[1]} has clusters of the sizes {found}, {paths[0]} says {sizes}: "
            "expected two files of one run"
        )
    for cluster in clusters:
        cluster.members.sort(key=lambda member: member.distance)
    return sorted(filter(lambda c: c.members, clusters), key=lambda c: -len(c.members))


def _read_members(path: Path, clusters: list[Cluster]) -> None:
    with csv_reader(path, "members") as reader:
        header = next(reader, [])
        if header != COLUMNS:
            raise ValueError(
                f"{path}:1: expected the header {','.join(COLUMNS)!r}, got "
                f"{','.join(header)!r}"
            )
        for row in reader:
            try:
                image, cluster, distance, class_name, probability = row
                member = Member(
                    image,
                    float(distance),
                    class_name,
                    float(probability),
                    reader.line_num,
                )
                if int(cluster) not in range(len(clusters)):
                    raise ValueError(f"there are {len(clusters)} clusters")
            except ValueError as error:
                raise ValueError(
                    f"{path}:{reader.line_num}: expected {','.join(COLUMNS)} with a "
                    f"cluster from 0 and two numbers, got {','.join(row)!r} ({error})"
                ) from error
            clusters[int(cluster)].members.append(member)


def thumbnail(member: Member, cluster: Cluster, members_csv: Path) -> np.ndarray:
    """The image, no larger than a cell. Shape: (H, W, 3) uint8 RGB."""
    try:
        small = open_upright(
            member.image, (2 * CELL, 2 * CELL), decoding=cluster.decoding
        )
    except UNREADABLE as error:
        raise ValueError(
            f"{members_csv}:{member.line}: the image {member.image} cannot be read: "
            f"{why_unreadable(error)}"
        ) from error
    small.thumbnail((CELL, CELL))
    return np.asarray(small)


def caption(member: Member) -> str:
    """What the classifier sees."""
    return f"{member.class_name} {member.probability:.2f}"


def text_image(lines: Sequence[str], width: int, height: int) -> np.ndarray:
    """Lines of text on white. Shape: (height, width, 3) uint8 RGB."""
    image = np.full((height, width, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        cv2.putText(
            image,
            line,
            org=(6, 20 + 24 * number),
            fontFace=cv2.FONT_HERSHEY_SIMPLEX,
            fontScale=0.5,
            color=(24, 24, 24),
            lineType=cv2.LINE_AA,
        )
    return image


def cluster_sheet(
    cluster: Cluster, members_csv: Path, images: int, columns: int
) -> np.ndarray:
    """The images nearest to the cluster's centre below a line about the cluster."""
    shown = cluster.members[:images]
    sheet = contact_sheet(
        [thumbnail(member, cluster, members_csv) for member in shown],
        [caption(member) for member in shown],
        columns=columns,
        cell=(CELL, CELL),
    )
    name, count = cluster.majority
    text = (
        f"cluster {cluster.number}{f' ({cluster.name})' if cluster.name else ''}: "
        f"{len(cluster.members)} images, {count / len(cluster.members):.0%} {name}"
    )
    # A cluster of few images may be narrower than its text.
    head = text_image([text], max(sheet.shape[1], 12 + 10 * len(text)), 30)
    wider = ((0, 0), (0, head.shape[1] - sheet.shape[1]), (0, 0))
    return np.vstack([head, np.pad(sheet, wider, constant_values=255)])


def overview(clusters: Sequence[Cluster], members_csv: Path) -> np.ndarray:
    """A row for each cluster: what it is, and the images nearest to its centre."""
    blank = np.full((CELL, CELL, 3), 255, np.uint8)
    images, captions = [], []
    for cluster in clusters[:OVERVIEW_ROWS]:
        name, count = cluster.majority
        lines = [
            f"cluster {cluster.number}",
            f"{len(cluster.members)} images",
            f"{count / len(cluster.members):.0%} {name}",
        ]
        shown = cluster.members[:OVERVIEW_IMAGES]
        missing = OVERVIEW_IMAGES - len(shown)
        images += [text_image(lines, CELL, CELL)]
        images += [thumbnail(member, cluster, members_csv) for member in shown]
        images += [blank] * missing
        captions += ["", *map(caption, shown), *[""] * missing]
    return contact_sheet(
        images, captions, columns=OVERVIEW_IMAGES + 1, cell=(CELL, CELL)
    )


def save_index(clusters: Sequence[Cluster], drawn: int, path: Path) -> None:
    """One row a cluster; the first ``drawn`` ones have a sheet."""
    rows = []
    for place, cluster in enumerate(clusters):
        size = len(cluster.members)
        name, count = cluster.majority
        sheet = cluster.sheet if place < drawn else ""
        rows.append((cluster.number, size, name, f"{count / size:.3f}", sheet))
    write_table(
        path, ("cluster", "size", "majority_class", "majority_share", "sheet"), rows
    )


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="clusters to show")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to"
    )
    parser.add_argument(
        "--per-cluster", type=int, default=24, metavar="N", help="images of a sheet"
    )
    parser.add_argument("--columns", type=int, default=8, help="images a row")
    parser.add_argument(
        "--largest", type=int, metavar="N", help="draw the N largest clusters only"
    )
    args = parser.parse_args()
    refuse_below(parser, args, ["per_cluster", "columns", "largest"])
    return args


def main() -> None:
    args = parse_args()
    members_csv = args.folder / "members.csv"
    index = numbers_path(args.out / "overview.png", name="index.csv")
    clusters = read_clusters(args.folder)
    if not clusters:
        raise ValueError(f"{members_csv} lists no image")
    drawn = clusters[: args.largest]
    if index.is_file():
        # Sheets of an earlier run may be of clusters that are no more.
        for path in args.out.glob("cluster_*.png"):
            refuse_foreign_drawing(path)
            path.unlink()
    for cluster in tqdm(drawn, desc="sheets", disable=None):
        sheet = cluster_sheet(cluster, members_csv, args.per_cluster, args.columns)
        save_picture(sheet, args.out / cluster.sheet)
    save_picture(overview(drawn, members_csv), args.out / "overview.png")
    save_index(clusters, len(drawn), index)
    print(f"sheets of {len(drawn)} of {len(clusters)} clusters: {args.out}")
    print(f"overview: {args.out / 'overview.png'}\nindex: {index}")


if __name__ == "__main__":
    run(main)
