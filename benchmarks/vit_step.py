#!/usr/bin/env python
"""What losses of vision transformers cost: training steps with and without each.

Classifiers on one vision transformer see the same images: the plain loss, patch token
contrast (PTC), class token contrast beside it (CTC), and consistency with a teacher's
maps. Their steps alternate in one process, so that a noisy machine is noisy for all. A
step is forward and backward pass, the optimizer's, and the teacher's average. None of
them takes part in a test, where all are the plain classifier.
"""

import argparse
import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from common import add_json_argument, compare, read_config, write_results
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from prettytable import PrettyTable
from torch import Tensor

from mmwood.engine import TeacherMapHook

PLAIN = "plain"


def make_losses(cfg: Config, crop: int) -> dict[str, dict]:
    """Feature losses by name; those of the config are its patch token contrast."""
    ptc = dict(cfg.model.head.feature_losses.ptc)
    # As published, 96 pixels of 448.
    local = dict(local_size=max(ptc.get("stride", 16), crop * 96 // 448))
    return {
        PLAIN: {},
        "PTC": dict(ptc=ptc),
        "PTC, CTC": dict(ptc=dict(ptc, type="mmwood.TokenContrastLoss", **local)),
        "consistency": dict(maps=dict(type="mmwood.MapConsistencyLoss")),
    }


def make_step(cfg: Config, losses: dict, images: Tensor) -> Callable[[], None]:
    """A training step of one of the classifiers."""
    model_cfg = cfg.model.copy()
    model_cfg.head = dict(cfg.model.head, feature_losses=losses)
    model_cfg.backbone = dict(cfg.model.backbone, drop_path_rate=0.3)
    torch.manual_seed(0)
    model = MODELS.build(model_cfg).to(images.device).train()
    wrapper = dict(cfg.optim_wrapper)
    if not losses:
        # It would name layers that there are not.
        wrapper.pop("paramwise_cfg", None)
    optimizer = build_optim_wrapper(model, wrapper)
    samples = [
        DataSample(metainfo=dict(img_shape=tuple(images.shape[2:])))
        .set_gt_label([number % model.head.num_classes])
        .to(images.device)
        for number in range(len(images))
    ]
    hook = TeacherMapHook() if "maps" in losses else None
    if hook is not None:
        hook.attach(model)

    def step() -> None:
        found = model(images, samples, mode="loss")
        optimizer.update_params(model.parse_losses(found)[0])
        if hook is not None:
            hook.update(model)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    config = "configs/classification/deit-small_ptc_voc12aug.py"
    parser.add_argument("--config", default=config)
    parser.add_argument("--images", type=int, default=2, help="images of a batch")
    parser.add_argument("--crop", type=int, default=224, help="their side in pixels")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    add_json_argument(parser)
    args = parser.parse_args()
    # mmengine would log every parameter.
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    cfg = read_config(args.config)
    torch.manual_seed(0)
    images = torch.randn(args.images, 3, args.crop, args.crop)
    losses = make_losses(cfg, args.crop)
    steps = {name: make_step(cfg, own, images) for name, own in losses.items()}
    names = [*steps]
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1 + args.steps):
        # None is always the one that comes first.
        for name in np.roll(names, number).tolist():
            start = time.process_time()
            steps[name]()
            if number:
                times[name].append(time.process_time() - start)
    print(f"{args.images} images of {args.crop} pixels, {args.steps} steps, one thread")
    results = [
        compare(f"{name}, a training step", "the plain loss", own, times[PLAIN])
        for name, own in times.items()
        if name != PLAIN
    ]
    table = PrettyTable(["loss", "median step", "ratio"])
    table.align = "r"
    for found in results:
        table.add_row([found.what, f"{found.ours_median:.3f} s", f"{found.ratio:.2f}"])
    print(table)
    write_results(args.json, results)


if __name__ == "__main__":
    main()
