"""AdvCAM around classifiers, against the published loop on the same network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("mmpretrain")

from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, TRANSFORMS
from mmpretrain.structures import DataSample

from mmwood.functional.cam import merge_scales, strided_size

SCALES = (0.5, 1.0, 1.5, 2.0)
BACKBONES = {
    "resnet": (
        dict(
            type="ResNet",
            depth=18,
            stem_channels=8,
            base_channels=8,
            strides=(1, 2, 1, 1),
        ),
        64,
    ),
    "swin": (
        dict(
            type="SwinTransformer",
            arch=dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            window_size=4,
            pad_small_map=True,
        ),
        96,
    ),
}


def build(name="resnet", test_cfg=None, **fields):
    """An AdvCAM whose classifier's normalisations are not trivial."""
    torch.manual_seed(0)
    backbone, channels = BACKBONES[name]
    model = MODELS.build(
        dict(
            type="mmwood.AdvCAM",
            module=dict(
                type="mmwood.CAMClassifier",
                data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True),
                backbone=dict(backbone),
                head=dict(type="mmwood.CAMHead", num_classes=3, in_channels=channels),
                test_cfg=dict(dict(cam_dtype="float32"), **(test_cfg or {})),
            ),
            **fields,
        )
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    # Most classes are seen somewhere.
    nn.init.normal_(model.module.head.classifier.weight, mean=0.3)
    return model.eval()


def batch(*images: tuple[tuple[int, int], list[int]], flips=True) -> dict:
    """What TestTimeAug and pseudo_collate make of noise of (size, labels)."""
    rng = np.random.default_rng(0)
    pack = dict(
        type="PackInputs",
        meta_keys=["ori_shape", "img_shape", "flip", "flip_direction", "scale_factor"],
    )
    pipeline = TRANSFORMS.build(
        dict(
            type="TestTimeAug",
            transforms=[
                [dict(type="Resize", scale_factor=s, keep_ratio=True) for s in SCALES],
                [
                    dict(type="RandomFlip", prob=p)
                    for p in ((0.0, 1.0) if flips else (0.0,))
                ],
                [pack],
            ],
        )
    )
    results = []
    for (height, width), labels in images:
        picture = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        picture = np.kron(picture, np.ones((8, 8, 1), np.uint8))
        fields = dict(img=picture, ori_shape=(height, width), img_shape=(height, width))
        results.append(pipeline(dict(**fields, gt_label=np.array(labels))))
    return pseudo_collate(results)


def published_loop(model, data: dict, steps: int, double_all: bool) -> torch.Tensor:
    """One image, one class and one scale after the other, two passes back a step."""
    classifier = model.module
    weight = classifier.head.weight.detach()
    outcome = []
    samples = [view[0] for view in data["data_samples"]]
    pictures = [view[0] for view in data["inputs"]]
    size = samples[0].ori_shape[:2]
    for start in range(0, len(pictures), 2):
        pair = dict(inputs=pictures[start : start + 2])
        pair = classifier.data_preprocessor(pair, False)["inputs"]
        short = samples[start].img_shape[0] < 0.75 * size[0]
        maps = []
        for class_id in samples[start].gt_label.tolist():
            views, total, first = pair.clone(), 0, None
            for _ in range(steps // 2 if short else steps):
                views = views.detach().requires_grad_()
                features = classifier.extract_feat(views)[-1]
                features.retain_grad()
                scores = F.relu(F.conv2d(features, weight[:, :, None, None]))
                classifier.zero_grad()
                scores[:, class_id].sum().backward(retain_graph=True)
                gradient = features.grad.clone()
                positive = (gradient > 0).sum() + 1e-12
                mean = gradient.sum(dim=(2, 3), keepdim=True) / positive
                regions = F.relu((features * mean).sum(dim=1))
                regions = regions[0] + regions[1].flip(-1)
                first = regions.detach() if first is None else first
                total = total + regions.detach() * (2 if short or double_all else 1)
                pooled = scores.mean(dim=(2, 3)).sum(dim=0)
                salient = regions / regions.max() > 0.5
                change = ((regions - first).abs() * salient).sum()
                goal = 2 * pooled[class_id] - pooled.sum() - 7 * change
                classifier.zero_grad()
                views.grad = None
                goal.backward()
                step = 0.08 * views.grad / (views.grad.abs().max() + 1e-12)
                low, high = views.min().item(), views.max().item()
                views = (views.detach() + step).clamp(low, high)
            maps.append(total)
        outcome.append(torch.stack(maps))
    classifier.zero_grad()
    return merge_scales(outcome, size), merge_scales(outcome, strided_size(size))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "double_all"),
    [("resnet", 9, False), ("resnet", 8, True), ("swin", 9, False)],
)
def test_equals_the_published_loop(name, steps, double_all):
    model = build(name, steps=steps, double_all=double_all)
    data = batch(((64, 48), [0, 2]))
    full, strided = published_loop(model, data, steps, double_all)
    with torch.no_grad():
        (sample,) = model.test_step(data)
    assert sample.cam_classes.tolist() == [0, 2]
    # One pass back instead of two rounds differently, and the steps pass it on.
    torch.testing.assert_close(sample.cam, full, atol=5e-3, rtol=0)
    torch.testing.assert_close(sample.cam_strided, strided, atol=5e-3, rtol=0)
    other = build(name, steps=steps, double_all=not double_all)
    with torch.no_grad():
        (sample,) = other.test_step(data)
    assert (sample.cam - full).abs().max() > 0.02
    # As published.
    assert build(name).steps == 27


@pytest.mark.slow
@torch.no_grad()
def test_images_and_classes_that_climb_together_do_not_see_each_other():
    model = build(steps=4)
    images = [((64, 48), [0, 2]), ((48, 64), [1]), ((64, 48), [1, 2]), ((64, 48), [])]
    data = batch(*images)
    seen = []
    handle = model.module.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(len(args[0]))
    )
    together = model.test_step(data)
    handle.remove()
    # Four classes of three images at one size, with their flips.
    assert max(seen) == 8
    assert len(together[3].cam) == 0
    for number, found in enumerate(together):
        single = {key: [[view[number]] for view in data[key]] for key in data}
        (alone,) = model.test_step(single)
        torch.testing.assert_close(found.pred_score, alone.pred_score)
        torch.testing.assert_close(found.cam, alone.cam, atol=1e-3, rtol=0)
    one_by_one = build(steps=4, max_pixels=1).test_step(data)
    for one, other in zip(one_by_one, together):
        torch.testing.assert_close(one.cam, other.cam, atol=1e-3, rtol=0)


@torch.no_grad()
def test_without_flips_and_for_predicted_classes():
    model = build(steps=3, test_cfg=dict(cam_labels="predicted"))
    model.module.head.thr = 0.0
    (sample,) = model.test_step(batch(((64, 48), []), flips=False))
    assert sample.cam_classes.tolist() == [0, 1, 2]
    assert sample.cam.amax(dim=(1, 2)).min() > 0.9


@torch.no_grad()
def test_leaves_no_trace():
    model = build(steps=3)
    model.module.backbone.conv1.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    model.test_step(batch(((64, 48), [0])))
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(steps=1), "tta_model.steps cannot be 1"),
        (dict(step_size=0), "tta_model.step_size cannot be 0"),
        (dict(drift_weight=-1), "tta_model.drift_weight cannot be -1"),
        (dict(threshold=1), "tta_model.threshold cannot be 1"),
        (dict(rivals="none"), "tta_model.rivals cannot be 'none'"),
        (dict(max_pixels=0), "tta_model.max_pixels cannot be 0"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)


@torch.no_grad()
def test_scores_are_those_of_the_images_as_they_are():
    model = build(steps=3)
    data = batch(((64, 48), [0]))
    (climbed,) = model.test_step(data)
    (plain,) = super(type(model), model).test_step(data)
    torch.testing.assert_close(climbed.pred_score, plain.pred_score)
    assert isinstance(climbed, DataSample)
    assert (climbed.cam - plain.cam).abs().max() > 0.01
