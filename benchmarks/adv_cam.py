#!/usr/bin/env python
"""AdvCAM of an image and one of its classes: ours against the published algorithm.

The published loop takes one image and one class at a time and goes back through the
network twice in each step, with gradients of the weights too: once for Grad-CAM, once
to move the image. Both have the same network, images, classes and steps. The largest
difference of the maps is printed, and that in double precision: rounding grows from
step to step, since the brake holds what is salient where its derivative jumps.
"""

import argparse
import logging
import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from common import add_json_argument, compare, read_config, write_results
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmwood.functional.adv_cam import climbed_activation_maps
from mmwood.functional.cam import merge_scales


def make_model(config: str, steps: int) -> nn.Module:
    """AdvCAM of random weights whose scores are neither all negative nor equal."""
    cfg = read_config(config)
    cfg.model.test_cfg = dict(cam_dtype="float32")
    torch.manual_seed(0)
    model = MODELS.build(dict(type="mmwood.AdvCAM", module=cfg.model, steps=steps))
    nn.init.normal_(model.module.head.classifier.weight, mean=0.1)
    return model.eval()


def make_batch(
    images: int, size: tuple[int, int], scales: Sequence[float] = (1.0,)
) -> dict:
    """Soft noise at some scales, with flips, as a loader gives it, but for labels."""
    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for scale in scales:
        height, width = (round(side * scale) for side in size)
        shape = (images, 3, height // 16 + 1, width // 16 + 1)
        coarse = torch.tensor(rng.integers(0, 256, shape)).float()
        pictures = F.interpolate(coarse, (height, width), mode="bilinear")
        for flip in (False, True):
            views = pictures.flip(-1) if flip else pictures
            info = dict(
                ori_shape=size,
                img_shape=(height, width),
                flip=flip,
                flip_direction="horizontal",
            )
            inputs.append(list(views.to(torch.uint8)))
            samples.append([DataSample(metainfo=info) for _ in range(images)])
    return dict(inputs=inputs, data_samples=samples)


@torch.no_grad()
def highest_classes(model: nn.Module, pair: Tensor, count: int) -> list[int]:
    """Classes that an image shows most of: a class without a map has no Grad-CAM."""
    features = model.module.extract_feat(pair)[-1]
    maps = F.conv2d(features, model.module.head.classifier.weight).relu()
    return maps.mean(dim=(0, 2, 3)).topk(count).indices.tolist()


def published_maps(model: nn.Module, pair: Tensor, class_id: int, steps: int) -> Tensor:
    """The sum of the maps of one image and one class; Grad-CAM in every step."""
    classifier = model.module
    weight = classifier.head.classifier.weight
    total, first, views = 0, None, pair
    for _ in range(steps):
        views = views.detach().requires_grad_()
        features = classifier.extract_feat(views)[-1]
        features.retain_grad()
        maps = F.relu(F.conv2d(features, weight))
        classifier.zero_grad()
        maps[:, class_id].sum().backward(retain_graph=True)
        gradient = features.grad.clone()
        factor = gradient.sum(dim=(2, 3), keepdim=True) / (gradient > 0).sum()
        regions = F.relu((features * factor).sum(dim=1))
        regions = regions[0] + regions[1].flip(-1)
        first = regions.detach() if first is None else first
        total = total + regions.detach()
        scores = maps.mean(dim=(2, 3)).sum(dim=0)
        salient = regions / regions.max() > 0.5
        change = ((regions - first).abs() * salient).sum()
        classifier.zero_grad()
        views.grad = None
        (2 * scores[class_id] - scores.sum() - 7 * change).backward()
        step = 0.08 * views.grad / views.grad.abs().max()
        low, high = views.min().item(), views.max().item()
        views = (views.detach() + step).clamp(low, high)
    return total


def double_gap(model: nn.Module, pair: Tensor, class_id: int, steps: int) -> float:
    """The largest difference of one image's and class's maps in double precision."""
    model.double()
    pair = pair.double()
    expected = published_maps(model, pair, class_id, steps)
    (found,) = climbed_activation_maps(
        pair[None],
        torch.tensor([class_id]),
        lambda images: model.module.extract_feat(images)[-1],
        model.module.head.weight.detach(),
        (False, True),
        steps,
    )
    return float((found - expected).abs().max() / expected.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", default="configs/classification/efficientnet-lite0_mini-voc.py"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320))
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--classes", type=int, default=2, help="of each image")
    parser.add_argument("--steps", type=int, default=27)
    parser.add_argument("--repeats", type=int, default=3)
    add_json_argument(parser)
    args = parser.parse_args()
    # mmengine would log every parameter.
    logging.disable(logging.WARNING)
    model = make_model(args.config, args.steps)
    size = tuple(args.size)
    batch = make_batch(args.images, size)
    pairs = [
        model.module.data_preprocessor(dict(inputs=[one, other]), False)["inputs"]
        for one, other in zip(*batch["inputs"])
    ]
    own = [highest_classes(model, pair, args.classes) for pair in pairs]
    for samples in batch["data_samples"]:
        for sample, classes in zip(samples, own):
            sample.set_gt_label(classes)

    def ours() -> list[Tensor]:
        with torch.no_grad():
            return [sample.cam for sample in model.test_step(batch)]

    def published() -> list[Tensor]:
        return [
            merge_scales(
                [torch.stack([published_maps(model, p, c, args.steps) for c in part])],
                size,
            )
            for p, part in zip(pairs, own)
        ]

    times: dict[str, list[float]] = {"ours": [], "published": []}
    found: dict[str, list[Tensor]] = {}
    for number in range(args.repeats + 1):
        for name, function in (("ours", ours), ("published", published)):
            start = time.process_time()
            found[name] = function()
            # The first warms up.
            if number:
                count = args.images * args.classes
                times[name].append((time.process_time() - start) / count)
    gap = max(
        float((a - b).abs().max()) for a, b in zip(found["ours"], found["published"])
    )
    exact = double_gap(model, pairs[0], own[0][0], args.steps)
    network = Config.fromfile(args.config).model.backbone
    network = network.get("model_name", f"{network.type}-{network.get('depth')}")
    result = compare(
        f"AdvCAM of an image and a class, {network} on {size[1]} x {size[0]} pixels",
        "published loop",
        times["ours"],
        times["published"],
    )
    print(
        f"{args.images} images, {args.classes} classes each, {args.steps} steps: "
        f"{result.ours_median:.2f} s against {result.reference_median:.2f} s of the "
        f"processor, ratio {result.ratio:.3f}; maps differ by at most {gap:.1e}, in "
        f"double precision by {exact:.1e}"
    )
    write_results(args.json, [result])


if __name__ == "__main__":
    main()
