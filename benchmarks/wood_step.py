#!/usr/bin/env python
"""What W-OoD's loss costs: training steps with it against steps without.

Both networks are the same and see the same images, half of them out of distribution;
one has W-OoD's loss, the other the plain classification loss on all of them. Steps of
both alternate in one process, so that a noisy machine is noisy for both.
"""

import argparse
import statistics
import time

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from prettytable import PrettyTable


def make_step(cfg: Config, head: dict, images: torch.Tensor, clusters: int):
    """A function that trains one step and says how long it took, in seconds."""
    model_cfg = cfg.model.copy()
    model_cfg.head = head
    torch.manual_seed(0)
    model = MODELS.build(model_cfg).to(images.device).train()
    if clusters:
        centers = torch.rand(model.head.num_classes + clusters, model.head.in_channels)
        model.head.set_centers(*centers.split([model.head.num_classes, clusters]))
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    samples = []
    for number in range(len(images)):
        ood = number >= len(images) // 2
        label = [] if ood else [number % model.head.num_classes]
        sample = DataSample().set_gt_label(torch.tensor(label, dtype=torch.long))
        sample.set_field(ood, "is_ood")
        samples.append(sample.to(images.device))

    def step() -> float:
        start = time.perf_counter()
        loss, _ = model.parse_losses(model.loss(images, samples))
        optimizer.update_params(loss)
        if images.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/wood/resnet50_wood_voc12aug.py")
    parser.add_argument("--images", type=int, default=16, help="images of a batch")
    parser.add_argument("--crop", type=int, default=128, help="their side in pixels")
    parser.add_argument("--clusters", type=int, default=50)
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.pop("init_cfg", None)
    cfg.model.backbone.pop("checkpoint_path", None)
    torch.manual_seed(0)
    images = torch.randn(args.images, 3, args.crop, args.crop, device=args.device)
    plain_head = dict(
        type="mmwood.CAMHead",
        num_classes=cfg.model.head.num_classes,
        in_channels=cfg.model.head.in_channels,
    )
    steps = {
        "plain": make_step(cfg, plain_head, images, 0),
        "W-OoD": make_step(cfg, cfg.model.head, images, args.clusters),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(2 + args.steps):
        # Neither is always the one that comes first.
        for name in sorted(steps, reverse=bool(number % 2)):
            seconds = steps[name]()
            if number >= 2:
                times[name].append(seconds)
    table = PrettyTable(["loss", "median step", "fastest step", "ratio of medians"])
    table.align = "r"
    base = statistics.median(times["plain"])
    for name, values in times.items():
        median = statistics.median(values)
        table.add_row(
            [name, f"{median:.3f} s", f"{min(values):.3f} s", f"{median / base:.3f}"]
        )
    print(
        f"{args.images} images of {args.crop} pixels, {args.steps} steps each, "
        f"{torch.get_num_threads()} threads, {args.device}"
    )
    print(table)


if __name__ == "__main__":
    main()
