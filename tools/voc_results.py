#!/usr/bin/env python
"""Pack predictions for PASCAL VOC's test server.

The archive holds results/VOC2012/Segmentation/COMPETITION_SPLIT_cls/ID.png, as the
development kit's documentation wants them: one palette PNG of class numbers, 0 to 20,
for each image of the list, in the image's size. Whatever the server would refuse is
refused here. The server alone has the masks of the split test.

Example:
    python tools/voc_results.py predictions data/VOCdevkit/VOC2012 \
        --competition comp6 --out results.tgz
"""

import argparse
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from mmwood.fileio.files import atomic_write
from mmwood.fileio.images import check_readable, check_there
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.fileio.lists import check_id, read_id_list
from mmwood.utils.command import run, script_parser

#: Of VOC, without background.
CLASSES = 20


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument(
        "predictions",
        type=Path,
        help="folder of label PNGs named after the images, such as that of "
        "test_evaluator.metrics.iou.output_dir",
    )
    parser.add_argument(
        "data", type=Path, help="folder with ImageSets/Segmentation and JPEGImages"
    )
    parser.add_argument(
        "--competition",
        choices=("comp5", "comp6"),
        required=True,
        help="comp5: trained on VOC's own data alone; comp6: on other data, too, which "
        "ImageNet's weights and OoD images are",
    )
    parser.add_argument(
        "--split", default="test", help="list of the images (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, help=".tgz file to write")
    return parser.parse_args()


def read_prediction(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A label map that the server takes for an image of this size (W, H)."""
    label = read_label_png(path, "prediction")
    if label.shape[::-1] != size:
        raise ValueError(
            f"the prediction {path} is of (W, H) = {label.shape[::-1]}, its image of "
            f"{size}"
        )
    if label.max() > CLASSES:
        raise ValueError(
            f"the prediction {path} holds {label.max()}: expected 0 to {CLASSES} in "
            "every pixel, void is no answer"
        )
    return label


def main() -> None:
    args = parse_args()
    if args.out.suffix != ".tgz":
        raise ValueError(f"--out must be a .tgz file, got {args.out}")
    if args.out.exists():
        raise FileExistsError(f"--out: {args.out} is there: name another file")
    listed = args.data / f"ImageSets/Segmentation/{args.split}.txt"
    items = read_id_list(listed)
    if not items:
        raise ValueError(f"--split: {listed} lists no image")
    names = [check_id(item.image, item.source) for item in items]
    images = [args.data / f"JPEGImages/{name}.jpg" for name in names]
    check_there(items, images, "data")
    sizes = check_readable(items, images, decode=False)
    folder = Path(
        "results/VOC2012/Segmentation", f"{args.competition}_{args.split}_cls"
    )
    with TemporaryDirectory() as root:
        for name, size in zip(tqdm(names, desc="pack", disable=None), sizes):
            label = read_prediction(args.predictions / f"{name}.png", size)
            save_label_png(label, Path(root, folder, f"{name}.png"))
        with (
            atomic_write(args.out) as temporary,
            tarfile.open(temporary, "w:gz") as archive,
        ):
            archive.add(Path(root, "results"), "results")
    print(f"{len(names)} predictions in {folder} of {args.out}")


if __name__ == "__main__":
    run(main)
