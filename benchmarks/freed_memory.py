#!/usr/bin/env python
"""Training steps of a process that keeps the memory that it frees, as ours do.

Against one that returns it to the system, as glibc does by default. Time of the
processor and peak memory; the processes alternate.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import time

import torch
from channels_last import make_model
from common import add_json_argument, compare, read_config, write_results
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample

from mmwood.utils.memory import keep_freed_memory

KINDS = ("kept", "returned")


def measure(args: argparse.Namespace) -> tuple[list[float], float]:
    """Seconds of the processor for each step, and GiB of this process."""
    logging.disable(logging.WARNING)
    cfg = read_config(args.config)
    model = make_model(cfg, "cpu", channels_last=True)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    images = torch.randn(args.images, 3, args.crop, args.crop)
    samples = [DataSample().set_gt_label(0) for _ in images]
    times = []
    for _ in range(2 + args.steps):
        start = time.process_time()
        loss, _ = model.parse_losses(model.loss(images, samples))
        optimizer.update_params(loss)
        times.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    # The first steps make buffers.
    return times[2:], peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", default="configs/classification/efficientnet-lite0_mini-voc.py"
    )
    parser.add_argument("--images", type=int, default=16, help="images of a batch")
    parser.add_argument("--crop", type=int, default=320, help="their side in pixels")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each")
    parser.add_argument("--processes", type=int, default=3, help="of each kind")
    parser.add_argument("--measure", choices=KINDS, help="used by itself")
    add_json_argument(parser)
    args = parser.parse_args()
    if args.measure:
        if args.measure == "kept":
            keep_freed_memory()
        print(json.dumps(measure(args)))
        return
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    peaks: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(args.processes):
        for kind in KINDS:
            command = [sys.executable, "-W", "ignore", *sys.argv, "--measure", kind]
            found = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            seconds, peak = json.loads(found.splitlines()[-1])
            times[kind] += seconds
            peaks[kind].append(peak)
    size = f"{args.images} images, {args.crop} pixels"
    what = f"freed memory kept, a training step, {size}"
    results = [compare(what, "returned", times["kept"], times["returned"])]
    results.append(compare(f"{what}: peak", "returned", *peaks.values()))
    results[1].unit = "GiB"
    for result in results:
        print(
            f"{result.what}: {result.ours_median:.3g} {result.unit} against "
            f"{result.reference_median:.3g}, ratio {result.ratio:.3f}"
        )
    write_results(args.json, results)


if __name__ == "__main__":
    main()
