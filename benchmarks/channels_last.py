#!/usr/bin/env python
"""Training steps of a classifier in channels-last order against the usual order.

Both networks are the same and see the same images; their steps alternate in one
process. On a CPU the time is that of the processor, which others do not lengthen much.
"""

import argparse
import logging
import time
from types import SimpleNamespace

import torch
from common import add_json_argument, compare, read_config, write_results
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmwood.engine import ChannelsLastHook


def make_model(cfg: Config, device: str, channels_last: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).to(device).train()
    if channels_last:
        ChannelsLastHook().before_train(SimpleNamespace(model=model))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", default="configs/classification/efficientnet-lite0_mini-voc.py"
    )
    parser.add_argument("--images", type=int, default=16, help="images of a batch")
    parser.add_argument("--crop", type=int, default=256, help="their side in pixels")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    parser.add_argument("--device", default="cpu")
    add_json_argument(parser)
    args = parser.parse_args()
    # mmengine would log every parameter.
    logging.disable(logging.WARNING)
    cfg = read_config(args.config)
    models = {last: make_model(cfg, args.device, last) for last in (True, False)}
    optimizers = {
        last: build_optim_wrapper(model, cfg.optim_wrapper)
        for last, model in models.items()
    }
    images = torch.randn(args.images, 3, args.crop, args.crop, device=args.device)
    samples = [DataSample().set_gt_label(0).to(args.device) for _ in images]

    def now() -> float:
        if images.is_cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(1 + args.steps):
        for last, model in models.items():
            start = now()
            loss, _ = model.parse_losses(model.loss(images, samples))
            optimizers[last].update_params(loss)
            # The first step of each makes its buffers.
            if number:
                times[last].append(now() - start)
    backbone = cfg.model.backbone.get("model_name", cfg.model.backbone.type)
    what = f"channels-last, a training step, {backbone}, {args.crop} pixels"
    result = compare(what, "the usual order", times[True], times[False])
    print(
        f"{args.config}, {args.images} images of {args.crop} pixels, {args.steps} "
        f"steps each, {torch.get_num_threads()} threads, {args.device}: "
        f"{result.ours_median:.3f} s against {result.reference_median:.3f} s, ratio "
        f"{result.ratio:.3f}"
    )
    write_results(args.json, [result])


if __name__ == "__main__":
    main()
