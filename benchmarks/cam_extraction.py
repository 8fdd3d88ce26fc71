#!/usr/bin/env python
"""Maps and seeds of a data set: tools/test.py --tta against the plain loop.

The plain loop passes over images, scales and flips, one forward pass at a time, as the
programs of the literature do. tools/test.py is here the Runner that it builds, with
MultiScaleCAM and PseudoLabelHook. Both decode the same JPEGs, use the same random
weights and write a label map and score maps of every image; what they wrote is
compared. They alternate in one process without workers. Times are those of the
processor, so that others on the machine do not count; what the Runner does once before
its first image is named apart.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import (
    Result,
    add_json_argument,
    compare,
    drop_weights,
    write_results,
)
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from prettytable import PrettyTable
from torch import nn

from mmwood.engine.runner import build_runner, use_tta
from mmwood.fileio.label_folder import load_score_maps
from mmwood.utils.command import add_common_arguments, load_config

SCALES = (0.5, 1.0, 1.5, 2.0)
#: Largest difference of float16 maps in [0, 1]: two units in the last place.
TOLERANCE = 1e-3
#: Largest part of the pixels that may lie so close to a threshold that their label
#: differs.
LABELS = 1e-3


class Clock(Hook):
    """When the first image was asked for."""

    started = 0.0

    def before_test_epoch(self, runner: Runner) -> None:
        self.started = time.process_time()


def make_data(folder: Path, images: int, size: tuple[int, int], classes: int) -> None:
    """JPEGs of coloured blobs, and tags: two classes each."""
    rng = np.random.default_rng(0)
    lines = ["image,labels"]
    for number in range(images):
        coarse = rng.integers(0, 256, (size[0] // 16, size[1] // 16, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.jpg")
        labels = {f"c{number % classes}", f"c{(number + 1) % classes}"}
        lines.append(f"{number}.jpg,{';'.join(sorted(labels))}")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")


def make_runner(args: argparse.Namespace, folder: Path, out: Path) -> Runner:
    """The Runner of ``tools/test.py CONFIG CHECKPOINT --tta``."""
    options = argparse.ArgumentParser()
    options.add_argument("config")
    add_common_arguments(options)
    cfg = load_config(options.parse_args([args.config, "--work-dir", str(out)]))
    drop_weights(cfg.model.backbone)
    classes = [f"c{number}" for number in range(cfg.model.head.num_classes)]
    if not (folder / "tags.csv").is_file():
        make_data(folder, args.images, args.size, len(classes))
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.param_scheduler = None
    cfg.test_dataloader = dict(
        batch_size=1,
        num_workers=0,
        sampler=cfg.test_dataloader.sampler,
        collate_fn=cfg.test_dataloader.collate_fn,
        dataset=dict(
            type="mmwood.ImageLevelDataset",
            label_source="csv",
            data_root=str(folder),
            ann_file="tags.csv",
            classes=classes,
            pipeline=cfg.test_dataloader.dataset.pipeline,
        ),
    )
    # Seeds need no evaluation here: the data has no masks.
    cfg.test_evaluator = []
    cfg.default_hooks = {
        key: cfg.default_hooks[key] for key in ("timer", "logger", "pseudo_label")
    }
    cfg.log_level = "ERROR"
    # The plain loop upsamples without IRN's rounding up.
    cfg.model.test_cfg = dict(round_up_to=None)
    # The published scales, whatever the config's.
    resizes = cfg.tta_pipeline[-1].transforms[0]
    resizes[:] = [dict(resizes[0], scale_factor=scale) for scale in SCALES]
    use_tta(cfg)
    return build_runner(cfg)


@torch.no_grad()
def plain_loop(model: nn.Module, folder: Path, out: Path, threshold: float) -> None:
    """The maps and labels of every image, one forward pass at a time."""
    for part in ("labels", "scores"):
        (out / part).mkdir(parents=True)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    for line in (folder / "tags.csv").read_text().split()[1:]:
        name, tags = line.split(",")
        classes = sorted(int(tag[1:]) for tag in tags.split(";"))
        picture = Image.open(folder / name).convert("RGB")
        width, height = picture.size
        full = torch.zeros(len(classes), height, width)
        strided = torch.zeros(len(classes), (height - 1) // 4 + 1, (width - 1) // 4 + 1)
        scores = []
        for scale in SCALES:
            size = (int(width * scale + 0.5), int(height * scale + 0.5))
            pixels = np.array(picture.resize(size, Image.Resampling.BICUBIC))
            for flip in (False, True):
                view = np.ascontiguousarray(pixels[:, ::-1] if flip else pixels)
                x = torch.from_numpy(view).permute(2, 0, 1).float()
                features = model.backbone(((x - mean) / std)[None])[-1]
                scores.append(model.head.classifier(features.mean((2, 3), True)))
                cam = model.head.classifier(features).relu()[:, classes]
                cam = cam.flip(-1) if flip else cam
                for total in (full, strided):
                    total += F.interpolate(
                        cam, total.shape[1:], mode="bilinear", align_corners=False
                    )[0]
        full, strided = (
            (total / (total.amax(dim=(1, 2), keepdim=True) + 1e-5)).half()
            for total in (full, strided)
        )
        background = torch.full((1, height, width), threshold)
        best = torch.cat([background, full.float()]).argmax(dim=0)
        label = torch.tensor([0, *(c + 1 for c in classes)])[best]
        stem = Path(name).stem
        Image.fromarray(label.byte().numpy()).save(out / f"labels/{stem}.png")
        np.savez(
            out / f"scores/{stem}.npz",
            classes=np.array(classes),
            scores=torch.cat(scores).sigmoid().mean(dim=0).flatten().numpy(),
            strided=strided.numpy(),
        )


def differences(ours: Path, theirs: Path) -> tuple[float, float, float]:
    """The largest of maps and of scores, and the share of pixels of other labels."""
    maps, scores, labels = [], [], []
    for path in sorted((theirs / "scores").glob("*.npz")):
        one = load_score_maps(ours / "scores" / path.name, needs=["strided"])
        other = load_score_maps(path)
        if one.classes.tolist() != other.classes.tolist():
            raise SystemExit(f"{path.name}: the two made maps of other classes")
        maps.append(np.abs(one.strided.astype(float) - other.strided).max())
        scores.append(np.abs(one.scores - other.scores).max())
        name = f"labels/{path.stem}.png"
        with Image.open(ours / name) as first, Image.open(theirs / name) as second:
            labels.append(np.mean(np.array(first) != np.array(second)))
    return max(maps), max(scores), float(np.mean(labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", default="configs/classification/efficientnet-lite0_mini-voc.py"
    )
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(240, 320),
        metavar=("H", "W"),
        help="of the images (default: 240 320)",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    add_json_argument(parser)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    times: dict[str, list[float]] = {"mmwood": [], "plain loop": []}
    once: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "data")
        folder.mkdir()
        # The first round is not counted.
        for number in range(1 + args.repeats):
            out = {name: Path(temporary, f"{name} {number}") for name in times}
            torch.manual_seed(0)
            runner = make_runner(args, folder, out["mmwood"])
            model = runner.model.module.eval()
            clock = Clock()
            runner.register_hook(clock)
            threshold = runner.cfg.default_hooks.pseudo_label.threshold
            loop_arguments = model, folder, out["plain loop"], threshold
            work = {
                "mmwood": runner.test,
                "plain loop": partial(plain_loop, *loop_arguments),
            }
            # Neither is always the one that comes first.
            for name in sorted(times, reverse=bool(number % 2)):
                start = time.process_time()
                work[name]()
                end = time.process_time()
                if number and name == "mmwood":
                    once.append(clock.started - start)
                    start = clock.started
                if number:
                    times[name].append((end - start) / args.images)
        found = differences(out["mmwood"] / "pseudo_labels", out["plain loop"])
    result: Result = compare(
        f"maps and seeds of an image, {model.backbone.__class__.__name__} on "
        f"{args.size[1]} x {args.size[0]} pixels",
        "loop over images, scales and flips",
        times["mmwood"],
        times["plain loop"],
    )
    table = PrettyTable(["", "median of an image", "images a second", "ratio"])
    table.align = "r"
    table.align[""] = "l"
    for name, median, ratio in (
        ("mmwood", result.ours_median, result.ratio),
        ("plain loop", result.reference_median, 1),
    ):
        table.add_row([name, f"{median:.3f} s", f"{1 / median:.2f}", f"{ratio:.3f}"])
    print(
        f"{args.config}, {args.images} images of {args.size[1]} x {args.size[0]} "
        f"pixels, {args.repeats} repeats, {args.threads} threads"
    )
    print(table)
    print(f"Before its first image mmwood takes {statistics.median(once):.2f} s.")
    print(
        f"Largest difference: {found[0]:.1e} of maps, {found[1]:.1e} of scores; labels "
        f"differ in {100 * found[2]:.4f} % of the pixels"
    )
    if found[0] > TOLERANCE or found[1] > TOLERANCE or found[2] > LABELS:
        raise SystemExit("the two do not give the same results")
    write_results(args.json, [result])


if __name__ == "__main__":
    main()
