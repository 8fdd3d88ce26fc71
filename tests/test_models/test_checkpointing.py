"""Gradients of images and weights where activations are computed again."""

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.registry import MODELS
from mmengine.runner import turn_on_activation_checkpointing
from mmpretrain.structures import DataSample

from mmwood.functional.ewc import squared_gradient_sums
from mmwood.utils.activations import without_checkpointing

RESNET = dict(type="ResNet", depth=18, stem_channels=8, base_channels=8)
#: A backbone, its channels, and the modules of the Runner's activation_checkpointing.
WAYS = {
    "with_cp, ResNet": (dict(RESNET, with_cp=True), 64, ()),
    "with_cp, Swin": (
        dict(
            type="SwinTransformer",
            arch=dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            window_size=4,
            pad_small_map=True,
            drop_path_rate=0.0,
            with_cp=True,
        ),
        96,
        (),
    ),
    "with_cp, WideResNet38": (
        dict(
            type="mmwood.WideResNet38",
            base_channels=2,
            dropout=(0.0, 0.0),
            with_cp=True,
        ),
        128,
        (),
    ),
    "Runner's field": (RESNET, 64, ("backbone.layer1", "backbone.layer4.0")),
    "both": (dict(RESNET, with_cp=True), 64, ("backbone.layer2",)),
}


def build(way: str, head: dict, checkpointed: bool, type: str = "mmwood.CAMClassifier"):
    torch.manual_seed(0)
    backbone, channels, modules = WAYS[way]
    backbone = dict(backbone)
    if not checkpointed:
        backbone.pop("with_cp", None)
        modules = ()
    fields = {}
    if type == "mmwood.SEAM":
        level = "stages.2" if "Swin" in way else "layer2"
        fields = dict(pcm_in_channels=[16], pcm_channels=[8], levels=[level])
    head = dict(head, num_classes=3, in_channels=channels)
    model = dict(type=type, backbone=backbone, head=head, norm_eval=True, **fields)
    model = MODELS.build(model)
    turn_on_activation_checkpointing(model, list(modules))
    return model.train()


def samples(flips=(False,) * 4, ood=()):
    result = []
    for number, flip in enumerate(flips):
        meta = dict(ori_shape=(64, 64), img_shape=(64, 64), flip=flip)
        sample = DataSample(metainfo=dict(meta, flip_direction="horizontal"))
        labels = [] if number in ood else [number % 3]
        sample.set_gt_label(torch.tensor(labels, dtype=torch.long))
        sample.set_field(number in ood, "is_ood")
        result.append(sample)
    return result


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_adv_cam(way):
    maps = []
    data = dict(
        inputs=[[torch.randint(0, 256, (3, 64, 64)).float()] for _ in range(2)],
        data_samples=[[sample] for sample in samples((False, True))],
    )
    for checkpointed in (False, True):
        module = build(way, dict(type="mmwood.CAMHead"), checkpointed)
        model = MODELS.build(dict(type="mmwood.AdvCAM", module=module, steps=4)).eval()
        maps.append(model.test_step(data)[0].cam)
        assert all(p.grad is None and p.requires_grad for p in module.parameters())
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize("way", WAYS)
def test_adversarial_step(way):
    images = torch.randn(4, 3, 64, 64)
    head = dict(type="mmwood.WOoDHead", adversarial_step=0.07, distance_weight=0)
    moved, gradients = [], []
    for checkpointed in (False, True):
        model = build(way, head, checkpointed)
        data = images.clone(), samples(ood=(2, 3))
        moved.append(model.perturbed(*data))
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        sum(model.loss(*data).values()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    assert (moved[0] - images).abs().amax(dim=(1, 2, 3)).gt(0).tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(*moved)
    torch.testing.assert_close(*gradients)


def test_adversarial_step_in_seam():
    images = torch.randn(4, 3, 64, 64)
    head = dict(type="mmwood.WOoDHead", adversarial_step=0.07, distance_weight=0)
    losses = []
    for checkpointed in (False, True):
        model = build("with_cp, ResNet", head, checkpointed, "mmwood.SEAM").eval()
        losses.append(model.loss(images, samples(ood=(2, 3))))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("way", WAYS)
def test_fisher_information(way):
    image = torch.randn(1, 3, 64, 64)
    found = []
    for checkpointed in (False, True):
        model = build(way, dict(type="mmwood.CAMHead"), checkpointed)
        params = dict(model.named_parameters())
        with without_checkpointing(model):
            loss = model.loss(image, samples((False,)))["loss"]
        found.append(squared_gradient_sums([loss], params)[0])
        assert all(param.grad is None for param in params.values())
    assert all(value.sum() > 0 for value in found[0].values())
    torch.testing.assert_close(*found)
