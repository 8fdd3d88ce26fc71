#!/usr/bin/env python
"""What a teacher's labels cost: mmwood.TeacherLabelHook in a training step.

Three DeepLab-v2 networks see the same images: without a teacher, with one, and with one
whose probabilities PAMR refines. A part of each image's pixels is biased, so that the
teacher sees all of them: images without cost nothing. Steps alternate in one process,
so that a noisy machine is noisy for all. A step is forward and backward pass, the
optimizer's, and the teacher's average.
"""

from collections.abc import Callable

import numpy as np
from common import compare, write_results
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from prettytable import PrettyTable
from sbce_step import OPTIMIZER, about, make_batch, make_model, parse_args, seconds
from torch import Tensor

from mmwood.engine import TeacherLabelHook
from mmwood.fileio.labels import BIASED, VOID

PLAIN = "no teacher"
REFINE = {"teacher": None, "teacher, PAMR": dict(method="pamr")}
LOSS = dict(type="CrossEntropyLoss", avg_non_ignore=True)


def make_biased(labels: Tensor) -> Tensor:
    """The left halves of objects, and a corner, so that no image is without."""
    biased = (labels > 0) & (labels != VOID)
    biased[:, :, biased.shape[2] // 2 :] = False
    biased[:, :8, :8] = True
    return labels.masked_fill(biased, BIASED)


def make_step(
    depth: int, name: str, images: Tensor, labels: Tensor
) -> Callable[[], None]:
    """A training step of one of the networks."""
    model = make_model(depth, LOSS).to(images.device)
    optimizer = build_optim_wrapper(model, OPTIMIZER)
    hook = None
    if name != PLAIN:
        hook = TeacherLabelHook(refine=REFINE[name])
        hook.attach(model)
        labels = make_biased(labels)
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels
    ]

    def step() -> None:
        losses = model(images, samples, mode="loss")
        optimizer.update_params(model.parse_losses(losses)[0])
        if hook is not None:
            hook.update(model)

    return step


def main() -> None:
    args = parse_args(__doc__)
    images, labels = make_batch(args)
    names = [PLAIN, *REFINE]
    steps = {name: make_step(args.depth, name, images, labels) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1 + args.steps):
        # None is always the one that comes first.
        for name in np.roll(names, number).tolist():
            found = seconds(steps[name], images)
            if number >= 1:
                times[name].append(found)
    print(about(args))
    results = [
        compare(f"{name}, a training step", PLAIN, times[name], times[PLAIN])
        for name in REFINE
    ]
    table = PrettyTable(["step", "median", f"against {PLAIN}", "teacher's share"])
    table.align = "r"
    for result in results:
        share = f"{100 * (1 - 1 / result.ratio):.0f} %"
        median = f"{result.ours_median:.3f} s"
        table.add_row([result.what, median, f"{result.ratio:.2f}", share])
    print(table)
    write_results(args.json, results)


if __name__ == "__main__":
    main()
