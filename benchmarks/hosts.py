#!/usr/bin/env python
"""What the hosts of W-OoD cost: images in training, and maps of an image in a test.

Every host is trained and tested as its config says, with and without OoD images, on
noise and with random weights: no cost depends on what is seen. With OoD images a step
has as many of them as of the others, and counts for the others. Maps are those of four
scales with flips and of one class, which AdvCAM alone counts. Hosts take turns in one
process; times are those of the processor.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from adv_cam import make_batch
from common import add_json_argument, compare, read_config, write_results
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from prettytable import PrettyTable
from wood_step import make_training

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = {
    "CAM": "wood/efficientnet-lite0_plain_mini-voc.py",
    "CAM, W-OoD": "wood/efficientnet-lite0_wood_mini-voc.py",
    "AdvCAM": "advcam/efficientnet-lite0_advcam_mini-voc.py",
    "SEAM": "seam/efficientnet-lite0_seam_mini-voc.py",
    "SEAM, W-OoD": "seam/efficientnet-lite0_seam_wood_mini-voc.py",
}
DEMO_CONFIGS = {
    "CAM": "demo/plain.py",
    "CAM, W-OoD": "demo/wood.py",
    "AdvCAM": "demo/advcam.py",
    "SEAM": "demo/seam.py",
    "SEAM, W-OoD": "demo/seam_wood.py",
}
SCALES = (0.5, 1.0, 1.5, 2.0)


def make_step(cfg: Config, images: int, crop: int) -> Callable[[], None]:
    """A training step on so many images, and as many OoD images where it needs them."""
    ood = cfg.model.head.type == "mmwood.WOoDHead"
    torch.manual_seed(0)
    inputs = torch.randn(images * (1 + ood), 3, crop, crop)
    model, samples = make_training(cfg.model, inputs, images, 50 if ood else 0)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)

    def step() -> None:
        loss, _ = model.parse_losses(model.loss(inputs, samples))
        optimizer.update_params(loss)

    return step


def make_test(cfg: Config, size: tuple[int, int]) -> Callable[[], None]:
    """The maps of one image and one class."""
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg.tta_model, module=cfg.model)).eval()
    batch = make_batch(1, size, SCALES)
    for (sample,) in batch["data_samples"]:
        sample.set_gt_label([0])

    def test() -> None:
        with torch.no_grad():
            model.test_step(batch)

    return test


def take_turns(work: dict[str, Callable[[], None]], repeats: int) -> dict[str, list]:
    """Seconds of the processor of each; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(1 + repeats):
        for name, function in work.items():
            start = time.process_time()
            function()
            if number:
                times[name].append(time.process_time() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true", help="the demo's small network")
    parser.add_argument("--images", type=int, default=8, help="of a training step")
    parser.add_argument("--crop", type=int, default=256, help="their side in pixels")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(240, 320), help="of the tested image"
    )
    parser.add_argument("--repeats", type=int, default=3)
    add_json_argument(parser)
    args = parser.parse_args()
    # mmengine would log every parameter.
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    cfgs = {
        name: read_config(FOLDER / path)
        for name, path in (DEMO_CONFIGS if args.demo else CONFIGS).items()
    }
    # AdvCAM trains nothing; W-OoD adds nothing to a test.
    steps = {
        name: make_step(cfg, args.images, args.crop)
        for name, cfg in cfgs.items()
        if name != "AdvCAM"
    }
    tests = {
        name: make_test(cfg, tuple(args.size))
        for name, cfg in cfgs.items()
        if "W-OoD" not in name
    }
    results = []
    table = PrettyTable(["host", "what", "median", "ratio"])
    table.align = "l"
    for what, work, part in (
        ("an image in training", steps, args.images),
        ("maps of an image", tests, 1),
    ):
        times = take_turns(work, args.repeats)
        for name, own in times.items():
            found = compare(f"{name}, {what}", f"CAM, {what}", own, times["CAM"])
            found.ours_median /= part
            found.reference_median /= part
            seconds = f"{statistics.median(own) / part:.3f} s"
            table.add_row([name, what, seconds, f"{found.ratio:.2f}"])
            if name != "CAM":
                results.append(found)
    print(
        f"{args.images} images of {args.crop} pixels a step; maps of {args.size[1]} x "
        f"{args.size[0]} pixels and one class; {args.repeats} repeats, one thread"
    )
    print(table)
    write_results(args.json, results)


if __name__ == "__main__":
    main()
