"""mmcv's ``fuse_conv_bn``, as deployment tools call it, over every model of ours."""

import copy

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from torch.nn.modules.batchnorm import _BatchNorm

pytest.importorskip("mmpretrain")

import mmseg.models  # noqa: F401
from mmengine.registry import MODELS, init_default_scope

RESNET = dict(type="ResNet", depth=18, stem_channels=8, base_channels=8)
WIDE = dict(type="mmwood.WideResNet38", base_channels=2)
LEVELS = ["maxpool", "layer1", "layer2", "layer3", "layer4"]


def head(channels, type="mmwood.CAMHead"):
    return dict(type=type, num_classes=3, in_channels=channels)


MODELS_OF_OURS = {
    "WideResNet38": WIDE,
    "WideResNet38, all stages": dict(WIDE, out_indices=range(6)),
    "CAMClassifier": dict(
        type="mmwood.CAMClassifier", backbone=RESNET, head=head(64, "mmwood.WOoDHead")
    ),
    "SEAM": dict(
        type="mmwood.SEAM",
        backbone=dict(WIDE, out_indices=(2, 3, 5)),
        pcm_in_channels=[16, 32],
        head=head(128),
    ),
    "IRN": dict(
        type="mmwood.IRN",
        backbone=RESNET,
        levels=LEVELS,
        in_channels=(8, 8, 16, 32, 64),
    ),
    "DeepLab-v2": dict(
        type="mmseg.EncoderDecoder",
        backbone=dict(RESNET, type="mmseg.ResNetV1c"),
        decode_head=dict(
            type="mmwood.DeepLabV2Head",
            in_channels=64,
            in_index=3,
            num_classes=4,
            loss_decode=dict(type="mmwood.SizeBalancedCELoss"),
        ),
    ),
}


@pytest.mark.parametrize("name", MODELS_OF_OURS)
@torch.no_grad()
def test_same_outputs(name):
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    model = MODELS.build(MODELS_OF_OURS[name]).eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, 64, 64)
    expected = model(images)
    names = list(model.state_dict())
    fused = fuse_conv_bn(copy.deepcopy(model))
    torch.testing.assert_close(fused(images), expected, rtol=1e-4, atol=1e-4)
    assert list(model.state_dict()) == names
