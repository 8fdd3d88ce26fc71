#!/usr/bin/env python
"""Masks of images by tools/predict.py's parts against MMSegmentation's inferencer.

Both have the same network (random weights) and the same images, and write label PNGs;
they take turns, an image each. Ours also writes the table, counts objects and reads
refuses damaged images. Then the peak memory of one large image, of real content
again and again, in a process of its own.
"""

import argparse
import contextlib
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from common import Result, add_json_argument, compare, write_results
from PIL import Image

CONFIG = "configs/segmentation/deeplabv2_efficientnet-lite0_mini-voc.py"


def drawn_images(folder: Path, count: int) -> Path:
    """Images of the built-in data set."""
    from mmwood.converters.context_shapes.build import generate

    generate(folder, train=count, val=1, ood=1)
    return folder / "JPEGImages"


def write_network(config: str, folder: Path) -> Path:
    """A network of random weights as a folder."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    from mmwood.engine.network import publish_network

    init_default_scope("mmseg")
    torch.manual_seed(0)
    cfg = Config.fromfile(config)
    cfg.model.backbone.pop("init_cfg", None)
    cfg.dump(folder / "config.py")
    weights = folder / "weights.pth"
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), weights)
    publish_network(folder / "config.py", weights, folder / "network")
    return folder / "network"


def large_image(images: list[Path], size: tuple[int, int], path: Path) -> None:
    """A sheet of the images, each three times as large."""
    sheet = Image.new("RGB", size)
    x = y = number = height = 0
    while y < size[1]:
        with Image.open(images[number % len(images)]) as image:
            image = image.resize((3 * image.width, 3 * image.height))
        sheet.paste(image, (x, y))
        x, height, number = x + image.width, max(height, image.height), number + 1
        if x >= size[0]:
            x, y, height = 0, y + height, 0
    sheet.save(path, quality=90)


def predict_one(network: str, image: str, out: str) -> None:
    """Predict one image, and print the peak of memory and the seconds."""
    import torch

    from mmwood.engine.predict import PredictionFiles, list_images
    from mmwood.engine.predictor import load_predictor
    from mmwood.fileio.label_folder import LabelFolder

    predictor = load_predictor(network)
    files = PredictionFiles(
        list_images([image]),
        LabelFolder(out),
        lambda: predictor,
        predictor.classes,
        predictor.network.palette,
        predictor=predictor,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    assert files[0] == ("made", "")
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{before / 2**20} {peak / 2**20} {seconds} {torch.get_num_threads()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--folder", type=Path, help="images (default: built-in ones)")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument(
        "--large", type=int, nargs=2, default=(12000, 9000), metavar=("W", "H")
    )
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    add_json_argument(parser)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if args.one:
        predict_one(*args.one)
        return

    from mmseg.apis import MMSegInferencer

    from mmwood.engine.predict import PredictionFiles, list_images
    from mmwood.engine.predictor import load_predictor
    from mmwood.fileio.label_folder import LabelFolder
    from mmwood.fileio.labels import read_label_png

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = args.folder or drawn_images(root / "drawn", args.images)
        network = write_network(args.config, root)
        images = list_images([folder])[: args.images]
        predictor = load_predictor(network)
        files = PredictionFiles(
            images,
            LabelFolder(root / "masks"),
            lambda: predictor,
            predictor.classes,
            predictor.network.palette,
            predictor=predictor,
        )
        with contextlib.redirect_stdout(sys.stderr):
            stock = MMSegInferencer(
                str(network / "config.py"),
                str(network / "weights.pth"),
                device="cpu",
                show_progress=False,
            )
        ours, theirs, differ = [], [], []
        for number, image in enumerate(images):
            start = time.process_time()
            files[number]
            middle = time.process_time()
            found = stock(image.path)
            # As it does itself, where it is also told to draw.
            output = Image.fromarray(found["predictions"].astype(np.uint8))
            output.save(root / f"{number}.png")
            end = time.process_time()
            label = read_label_png(files.folder.label(image.image_id))
            # Where scores are equal but for rounding, either may win.
            differ.append(np.mean(label != found["predictions"]))
            assert differ[-1] < 1e-4, f"{image.path}: {differ[-1]:.6f} differ"
            # The first image makes buffers.
            if number:
                ours.append(middle - start)
                theirs.append(end - middle)
        result = compare("masks, an image", "MMSegInferencer", ours, theirs)
        print(
            f"{args.config}, {len(ours)} images of {folder.name}: "
            f"{np.mean(differ):.1e} of the labels differ; {result.ours_median:.3f} s "
            f"of the processor an image against {result.reference_median:.3f} s, "
            f"ratio {result.ratio:.3f}"
        )
        path = root / "large.jpg"
        large_image([Path(image.path) for image in images], tuple(args.large), path)
        line = subprocess.run(
            [sys.executable, __file__, "--one", network, path, root / "large"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ, PYTHONWARNINGS="ignore"),
        ).stdout.splitlines()[-1]
        before, peak, seconds, threads = map(float, line.split())
        # What the scores of all classes and pixels alone would take.
        classes, pixels = len(predictor.classes), args.large[0] * args.large[1]
        scores = 4 * classes * pixels / 2**30
        print(
            f"{args.large[0]} x {args.large[1]} pixels, {classes} classes: peak "
            f"{peak:.2f} GiB, {before:.2f} of them before the image; scores of all "
            f"pixels alone would take {scores:.2f}; {seconds:.0f} s, "
            f"{threads:.0f} threads"
        )
    what = f"peak memory, {args.large[0]} x {args.large[1]} pixels"
    memory = Result(
        what, "scores of all pixels", peak, scores, peak / scores, 1, unit="GiB"
    )
    write_results(args.json, [result, memory])


if __name__ == "__main__":
    main()
