#!/usr/bin/env python
"""What size-balanced training costs: its loss, and EWC's penalty, in a training step.

Three DeepLab-v2 networks, the same but for what is trained on, see the same images:
plain cross-entropy, SB-CE, and plain cross-entropy with EWC's penalty. Their steps
alternate in one process, so that a noisy machine is noisy for all. Each part is timed
alone too, with its gradient: what it costs is less than steps vary.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from common import add_json_argument, compare, write_results
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from prettytable import PrettyTable
from torch import Tensor, nn

from mmwood.engine import EWCHook
from mmwood.engine.ewc_file import ConsolidatedTask

CLASSES = 21
LOSSES = {
    "cross-entropy": dict(type="CrossEntropyLoss", avg_non_ignore=True),
    "SB-CE": dict(type="mmwood.SizeBalancedCELoss"),
    "EWC": dict(type="CrossEntropyLoss", avg_non_ignore=True),
}
OPTIMIZER = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=2.5e-4, momentum=0.9, weight_decay=5e-4),
)


def make_label(size: int, rng: np.random.Generator) -> Tensor:
    """A VOC-like label: one to five ellipses with a rim of 255 on background."""
    label = np.zeros((size, size), dtype=np.int64)
    rows, columns = np.mgrid[:size, :size]
    for _ in range(rng.integers(1, 6)):
        row, column = rng.integers(0, size, 2)
        height, width = rng.integers(size // 20 + 1, size // 3 + 2, 2)
        distance = ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2
        label[distance < 1.2] = 255
        label[distance < 1] = rng.integers(1, CLASSES)
    return torch.from_numpy(label)


def make_model(depth: int, loss: dict) -> nn.Module:
    """DeepLab-v2 of stride 8."""
    torch.manual_seed(0)
    model = dict(
        type="EncoderDecoder",
        backbone=dict(
            type="ResNet",
            depth=depth,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            norm_eval=True,
        ),
        decode_head=dict(
            type="mmwood.DeepLabV2Head",
            in_channels=512 if depth < 50 else 2048,
            in_index=3,
            num_classes=CLASSES,
            loss_decode=loss,
        ),
    )
    return MODELS.build(Config(dict(model=model)).model).train()


def hold(model: nn.Module) -> None:
    """Add the penalty of an earlier task that ended elsewhere."""
    params = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    fisher = {name: torch.rand_like(param) for name, param in params.items()}
    anchor = {name: param + 0.001 for name, param in params.items()}
    hook = EWCHook(mode="penalise", weight=0.1, file="not read")
    hook.penalise(model, ConsolidatedTask(fisher, anchor, {}))


def make_steps(
    depth: int, name: str, images: Tensor, labels: Tensor
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step, and the part of it that the networks differ in."""
    model = make_model(depth, LOSSES[name]).to(images.device)
    if name == "EWC":
        hold(model)
    optimizer = build_optim_wrapper(model, OPTIMIZER)
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels
    ]
    with torch.no_grad():
        scores = model(images)
    scores.requires_grad_()

    def step() -> None:
        losses = model(images, samples, mode="loss")
        optimizer.update_params(model.parse_losses(losses)[0])

    def part() -> None:
        if name == "EWC":
            (hook,) = model._forward_hooks.values()
            loss = hook(model, (), dict(mode="loss"), {})["loss_ewc"]
        else:
            losses = model.decode_head.loss_by_feat(scores, samples)
            loss = model.parse_losses(losses)[0]
        loss.backward()

    return step, part


def parse_args(description: str | None) -> argparse.Namespace:
    """The options of a benchmark of training steps."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--depth", type=int, default=50, help="of the ResNet")
    parser.add_argument("--images", type=int, default=2, help="images of a batch")
    parser.add_argument("--crop", type=int, default=321, help="their side in pixels")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each")
    parser.add_argument("--device", default="cpu")
    add_json_argument(parser)
    return parser.parse_args()


def make_batch(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Random images and drawn labels, the same every time."""
    # mmengine would log every parameter.
    logging.disable(logging.WARNING)
    init_default_scope("mmseg")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = torch.randn(args.images, 3, args.crop, args.crop, device=args.device)
    labels = torch.stack([make_label(args.crop, rng) for _ in images]).to(args.device)
    return images, labels


def seconds(function: Callable[[], None], images: Tensor) -> float:
    """How long a function takes on the device of the images."""
    if images.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def about(args: argparse.Namespace) -> str:
    """What was timed."""
    return (
        f"ResNet-{args.depth}, {args.images} images of {args.crop} pixels, "
        f"{args.steps} steps each, {torch.get_num_threads()} threads, {args.device}"
    )


def main() -> None:
    args = parse_args(__doc__)
    images, labels = make_batch(args)
    runs = {name: make_steps(args.depth, name, images, labels) for name in LOSSES}

    times: dict[str, list[list[float]]] = {name: [] for name in LOSSES}
    for number in range(2 + args.steps):
        # None is always the one that comes first.
        for name in np.roll(list(LOSSES), number).tolist():
            found = [seconds(function, images) for function in runs[name]]
            if number >= 2:
                times[name].append(found)
    table = PrettyTable(["trained on", "median step", "ratio", "part alone", "share"])
    table.align = "r"
    medians = {
        name: [statistics.median(column) for column in zip(*values)]
        for name, values in times.items()
    }
    plain_step, plain_part = medians["cross-entropy"]
    for name, (step, part) in medians.items():
        ratio = statistics.median(
            own[0] / other[0] for own, other in zip(times[name], times["cross-entropy"])
        )
        # The penalty comes on top; SB-CE is there instead of cross-entropy.
        extra = part if name == "EWC" else part - plain_part
        columns = f"{step:.3f} s", f"{ratio:.3f}", f"{1000 * part:.1f} ms"
        table.add_row([name, *columns, f"{100 * extra / plain_step:.2f} %"])
    print(about(args))
    print(table)
    print("share: what the part costs more than plain cross-entropy's, of its step.")
    steps = {name: [step for step, _ in values] for name, values in times.items()}
    results = [
        compare(
            f"{name}, a training step", "cross-entropy", own, steps["cross-entropy"]
        )
        for name, own in steps.items()
        if name != "cross-entropy"
    ]
    write_results(args.json, results)


if __name__ == "__main__":
    main()
