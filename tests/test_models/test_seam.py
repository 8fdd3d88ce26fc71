"""SEAM as a classifier, its losses against the definition written out in the test."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("mmpretrain")

from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

CLASSES = 3
BACKBONES = {
    "wide_resnet38": (
        dict(type="mmwood.WideResNet38", base_channels=4, out_indices=(2, 3, 5)),
        [32, 64],
        256,
    ),
    "resnet": (
        dict(
            type="ResNet",
            depth=18,
            stem_channels=8,
            base_channels=8,
            strides=(1, 2, 2, 1),
            out_indices=(1, 2, 3),
        ),
        [16, 32],
        64,
    ),
    "by name": (
        dict(
            type="ResNet",
            depth=18,
            stem_channels=8,
            base_channels=8,
            strides=(1, 2, 2, 1),
        ),
        [16, 32],
        64,
    ),
    "swin": (
        dict(
            type="SwinTransformer",
            arch=dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            window_size=4,
            pad_small_map=True,
            out_indices=(1, 2, 3),
        ),
        [24, 48],
        96,
    ),
}


def build(name="resnet", head=None, **fields):
    torch.manual_seed(0)
    backbone, levels, channels = BACKBONES[name]
    head = dict(dict(type="mmwood.CAMHead"), **(head or {}))
    fields = dict(dict(pcm_in_channels=levels, dropout=0.0), **fields)
    if name == "by name":
        fields = dict(dict(levels=["layer2", "layer3"]), **fields)
    return MODELS.build(
        dict(
            type="mmwood.SEAM",
            data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True),
            backbone=dict(backbone),
            head=dict(head, num_classes=CLASSES, in_channels=channels),
            pcm_channels=[6, 8],
            **fields,
        )
    )


def batch(labels=((0,), (1, 2)), size=(80, 64), ood=()):
    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for number, own in enumerate(labels):
        inputs.append(
            torch.from_numpy(rng.integers(0, 256, (3, *size), dtype=np.uint8))
        )
        sample = DataSample(metainfo=dict(ori_shape=size, num_classes=CLASSES))
        sample.set_gt_label(torch.tensor(own, dtype=torch.long))
        sample.set_field(number in ood, "is_ood")
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def resize(maps, size):
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)


def stretch(maps):
    out = torch.zeros_like(maps)
    for image in range(maps.shape[0]):
        for channel in range(maps.shape[1]):
            a = maps[image, channel].clamp(min=0)
            a = (a - a.min() - 1e-5).clamp(min=0) / (a.max() - a.min() + 1e-5)
            out[image, channel] = a
    return out


def definition(model, images, labels):
    """The three losses of SEAM's paper and program, one step after the other."""
    onehot = torch.zeros(len(labels), CLASSES)
    for row, own in zip(onehot, labels):
        row[list(own)] = 1
    views = (
        images,
        F.interpolate(images, scale_factor=0.3, mode="bilinear", align_corners=True),
    )
    cams, refined, low = [], [], 0.0
    for view in views:
        levels, last = model._features(view)
        cam = F.conv2d(last, model.head.classifier.weight)
        grid = cam.shape[2:]
        # PCM: normalised maps, the strongest class of each pixel, correlation.
        a = cam.clamp(min=0)
        a = (a - 1e-5).clamp(min=0) / (a.amax(dim=(2, 3), keepdim=True) + 1e-5)
        ground = 1 - a.max(dim=1, keepdim=True).values
        a = a * (a >= a.max(dim=1, keepdim=True).values)
        a = torch.cat([ground, a], dim=1).flatten(2)
        parts = [resize(view, grid)]
        for conv, level in zip(model.pcm_levels, levels):
            parts.append(resize(conv(level).clamp(min=0), grid))
        f = model.pcm_merge(torch.cat(parts, dim=1)).flatten(2)
        f = f / (f.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-5)
        affinity = torch.einsum("bci,bcj->bij", f, f).clamp(min=0)
        affinity = affinity / (affinity.sum(dim=1, keepdim=True) + 1e-5)
        fine = torch.einsum("bcj,bji->bci", a, affinity).unflatten(2, grid)
        fine = resize(fine, view.shape[2:])
        own = fine[:, 1:] * onehot[:, :, None, None]
        lowest = own.max(dim=1).values.flatten(1).sort(dim=1).values
        lowest = lowest[:, : lowest.shape[1] // 4]
        low = low + lowest.clamp(min=0).mean() / 2
        cams.append(resize(cam, view.shape[2:]))
        refined.append(fine)
    small = views[1].shape[2:]
    with_ground = torch.cat([torch.ones(len(labels), 1), onehot], 1)[:, :, None, None]
    own = [resize(stretch(cams[0]), small), stretch(cams[1])]
    own = [m * onehot[:, :, None, None] for m in own]
    fine = [resize(stretch(refined[0]), small), stretch(refined[1])]
    fine = [m * with_ground for m in fine]
    er = (own[0] - own[1]).abs().mean()
    ecr = 0.0
    for one, other in ((0, 1), (1, 0)):
        ground = 1 - own[other].max(dim=1, keepdim=True).values
        kept = own[other] * (own[other] == own[other].max(dim=1, keepdim=True).values)
        gap = (torch.cat([ground, kept], dim=1) - fine[one]).abs().flatten(1)
        count = int(gap.shape[1] * 0.2)
        ecr = ecr + gap.sort(dim=1, descending=True).values[:, :count].mean()
    return dict(loss_er=er, loss_ecr=ecr, loss_min=low)


@pytest.mark.parametrize("name", BACKBONES)
def test_losses_are_those_of_the_definition(name):
    model = build(name, er_weight=2.0).eval()
    labels = ((0,), (1, 2))
    data = model.data_preprocessor(batch(labels), training=True)
    losses = model(**data, mode="loss")
    assert set(losses) == {"loss", "loss_er", "loss_ecr", "loss_min"}
    with torch.no_grad():
        expected = definition(model, data["inputs"], labels)
    expected["loss_er"] *= 2
    for key, value in expected.items():
        assert value > 0
        torch.testing.assert_close(losses[key].detach(), value, rtol=1e-3, atol=1e-6)
    small = F.interpolate(
        data["inputs"], scale_factor=0.3, mode="bilinear", align_corners=True
    )
    heads = [
        model.head.loss(model.extract_feat(view), data["data_samples"])["loss"]
        for view in (data["inputs"], small)
    ]
    torch.testing.assert_close(losses["loss"], sum(heads) / 2)


def gradients(model, loss) -> set[str]:
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name.split(".")[0]
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }


def test_what_learns_from_which_loss():
    model = build().train()
    losses = model(**model.data_preprocessor(batch(), training=True), mode="loss")
    assert gradients(model, losses["loss"]) == {"backbone", "head"}
    assert gradients(model, losses["loss_er"]) == {"backbone", "head"}
    assert gradients(model, losses["loss_ecr"]) == {"pcm_levels", "pcm_merge"}
    assert gradients(model, losses["loss_min"]) == {"pcm_levels", "pcm_merge"}


@torch.no_grad()
def test_a_test_gives_the_refined_maps():
    model = build(test_cfg=dict(cam_dtype="float32")).eval()
    data = batch()
    for number, sample in enumerate(model.test_step(data)):
        single = {key: values[number : number + 1] for key, values in data.items()}
        images = model.data_preprocessor(single, False)["inputs"]
        levels, last = model._features(images)
        maps = model.head.classifier(last)
        refined = model.refine(images, levels, maps)[:, 1:]
        (view,) = model.activations(single)
        torch.testing.assert_close(view.activation, refined[0], atol=1e-3, rtol=0)
        score = maps.mean(dim=(2, 3))[0].sigmoid()
        torch.testing.assert_close(sample.pred_score, score, atol=1e-5, rtol=1e-3)
        assert sample.cam.shape == (len(view.gt_label), 80, 64)
        assert not torch.allclose(refined, maps.relu(), rtol=0.5)


def test_with_ood_images():
    """They count in the head's losses, and in none of SEAM's."""
    head = dict(type="mmwood.WOoDHead", distance_weight=0.1)
    model = build(head=head).eval()
    model.head.set_centers(torch.rand(CLASSES, 64), torch.rand(5, 64))
    both = batch(((0,), (), (1, 2), ()), ood=(1, 3))
    found = model(**model.data_preprocessor(both, training=True), mode="loss")
    assert set(found) == {
        *("loss_cls", "loss_cls_ood", "loss_in_distance", "loss_ood_distance"),
        *("loss_er", "loss_ecr", "loss_min"),
    }
    kept = {key: [values[0], values[2]] for key, values in both.items()}
    inside = build().eval()
    expected = inside(**inside.data_preprocessor(kept, training=True), mode="loss")
    for key in ("loss_er", "loss_ecr", "loss_min"):
        torch.testing.assert_close(found[key], expected[key])


def test_autocast_is_finite(half_dtype):
    model = build().train()
    data = model.data_preprocessor(batch(), training=True)
    with torch.autocast("cpu", half_dtype):
        losses = model(**data, mode="loss")
        total = sum(losses.values())
    total.backward()
    full = model(**data, mode="loss")
    for key, value in losses.items():
        assert value.isfinite()
        assert abs(value - full[key]) < 0.1 * full[key] + 0.02
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name


def test_weights_of_zero_leave_losses_out():
    model = build(er_weight=0, min_weight=0)
    losses = model(**model.data_preprocessor(batch(), training=True), mode="loss")
    assert set(losses) == {"loss", "loss_ecr"}


def test_wrong_fields():
    with pytest.raises(ValueError, match="one number for each level"):
        build(pcm_in_channels=[16])
    with pytest.raises(ValueError, match=r"model.view_scale must be in \(0, 1\)"):
        build(view_scale=1.0)
    with pytest.raises(ValueError, match=r"model.levels: .*ResNet has no module 'a'"):
        build("by name", levels=["a", "layer3"])
    model = build(pcm_in_channels=[16, 8])
    with pytest.raises(ValueError, match=r"\[16, 8\], but .* \[16, 32\] channels"):
        model(**model.data_preprocessor(batch(), training=True), mode="loss")
