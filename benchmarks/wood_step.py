#!/usr/bin/env python
"""What W-OoD's loss costs, and FBR's beside it: training steps with and without.

All networks are the same and see the same images, half of them out of distribution;
one has W-OoD's loss, one FBR's (mmwood.FineGrainedBackgroundLoss) as well, and one the
plain classification loss on all of them. Their steps alternate in one process, so that
a noisy machine is noisy for all. The head alone (scores, loss, and its gradient on the
features) is timed too: what it costs more is much less than steps vary.
"""

import argparse
import logging
import statistics
import time

import torch
from common import add_json_argument, compare, read_config, write_results
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from prettytable import PrettyTable
from torch import nn


def make_training(
    model_cfg: dict, images: torch.Tensor, known: int, clusters: int
) -> tuple[nn.Module, list[DataSample]]:
    """A model in training, and labels of images: from ``known`` on they are OoD."""
    torch.manual_seed(0)
    model = MODELS.build(model_cfg).to(images.device).train()
    classes = model.head.num_classes
    if clusters:
        centers = torch.rand(classes + clusters, model.head.in_channels)
        model.head.set_centers(*centers.split([classes, clusters]))
    samples = []
    for number in range(len(images)):
        ood = number >= known
        label = [] if ood else [number % classes]
        sample = DataSample().set_gt_label(torch.tensor(label, dtype=torch.long))
        sample.set_field(ood, "is_ood")
        samples.append(sample.to(images.device))
    return model, samples


def make_step(cfg: Config, head: dict, images: torch.Tensor, clusters: int):
    """A function that trains one step; gives the seconds of step and head alone."""
    model_cfg = cfg.model.copy()
    model_cfg.head = head
    model, samples = make_training(model_cfg, images, len(images) // 2, clusters)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)

    def now() -> float:
        if images.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def step() -> tuple[float, float]:
        start = now()
        loss, _ = model.parse_losses(model.loss(images, samples))
        optimizer.update_params(loss)
        end = now()
        with torch.no_grad():
            feats = model.extract_feat(images)
        feats = (*feats[:-1], feats[-1].requires_grad_())
        head_start = now()
        loss, _ = model.parse_losses(model.head.loss(feats, samples))
        loss.backward()
        return end - start, now() - head_start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/wood/resnet50_wood_voc12aug.py")
    parser.add_argument("--images", type=int, default=16, help="images of a batch")
    parser.add_argument("--crop", type=int, default=128, help="their side in pixels")
    parser.add_argument("--clusters", type=int, default=50)
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each")
    parser.add_argument("--device", default="cpu")
    add_json_argument(parser)
    args = parser.parse_args()
    # mmengine would log every parameter.
    logging.disable(logging.WARNING)
    cfg = read_config(args.config)
    torch.manual_seed(0)
    images = torch.randn(args.images, 3, args.crop, args.crop, device=args.device)
    cam_head = dict(
        type="mmwood.CAMHead",
        num_classes=cfg.model.head.num_classes,
        in_channels=cfg.model.head.in_channels,
    )
    fbr = dict(
        type="mmwood.FineGrainedBackgroundLoss", in_channels=cfg.model.head.in_channels
    )
    fbr_head = dict(cfg.model.head, feature_losses=[fbr])
    steps = {
        "plain": make_step(cfg, cam_head, images, 0),
        "W-OoD": make_step(cfg, cfg.model.head, images, args.clusters),
        "W-OoD, FBR": make_step(cfg, fbr_head, images, args.clusters),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(2 + args.steps):
        # Neither is always the one that comes first.
        for name in sorted(steps, reverse=bool(number % 2)):
            seconds = steps[name]()
            if number >= 2:
                times[name].append(seconds)
    table = PrettyTable(["loss", "median step", "ratio", "median of the head alone"])
    table.align = "r"
    medians = {
        name: [statistics.median(column) for column in zip(*values)]
        for name, values in times.items()
    }
    plain_step, plain_head = medians["plain"]
    for name, (step, head) in medians.items():
        ratio = statistics.median(
            own[0] / other[0] for own, other in zip(times[name], times["plain"])
        )
        table.add_row([name, f"{step:.3f} s", f"{ratio:.3f}", f"{1000 * head:.2f} ms"])
    print(
        f"{args.images} images of {args.crop} pixels, {args.steps} steps each, "
        f"{torch.get_num_threads()} threads, {args.device}"
    )
    print(table)
    plain, wood, both = ([step for step, _ in own] for own in times.values())
    results = [
        compare("W-OoD, a training step", "the plain loss", wood, plain),
        compare("W-OoD and FBR, a training step", "W-OoD", both, wood),
    ]
    write_results(args.json, results)
    for name, (_, head) in medians.items():
        if name != "plain":
            extra = 100 * (head - plain_head) / plain_step
            print(f"The head costs {extra:.2f} % of a plain step more with {name}.")


if __name__ == "__main__":
    main()
