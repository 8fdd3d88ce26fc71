"""What holds for every model: a new one is a new line of one of the tables."""

import copy

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from torch.nn.modules.batchnorm import _BatchNorm

pytest.importorskip("mmpretrain")

import mmseg.models  # noqa: F401
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmwood.functional.cam import strided_size

RESNET = dict(
    type="ResNet", depth=18, stem_channels=8, base_channels=8, strides=(1, 2, 2, 1)
)
WIDE = dict(type="mmwood.WideResNet38", base_channels=2)
HEAD = dict(type="mmwood.CAMHead", num_classes=3, in_channels=64)


def transformer(**loss) -> dict:
    """A classifier on a vision transformer whose tokens are contrasted."""
    return dict(
        type="mmwood.CAMClassifier",
        backbone=dict(
            type="VisionTransformer",
            arch=dict(
                embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
            ),
            img_size=64,
            out_type="featmap",
            out_indices=[0, 1],
        ),
        head=dict(
            HEAD,
            in_channels=16,
            pooling="max",
            feature_losses=[dict(loss, num_classes=3, in_channels=16)],
        ),
    )


CLASSIFIERS = {
    "CAMClassifier": dict(type="mmwood.CAMClassifier", backbone=RESNET, head=HEAD),
    "W-OoD": dict(
        type="mmwood.CAMClassifier",
        backbone=RESNET,
        head=dict(HEAD, type="mmwood.WOoDHead"),
    ),
    "FBR": dict(
        type="mmwood.CAMClassifier",
        backbone=RESNET,
        head=dict(
            HEAD,
            feature_losses=[
                dict(type="mmwood.FineGrainedBackgroundLoss", in_channels=64)
            ],
        ),
    ),
    "PTC": transformer(type="mmwood.PatchTokenContrastLoss"),
    "PTC, CTC": transformer(
        type="mmwood.TokenContrastLoss", local_size=16, local_crops=2, hidden_channels=8
    ),
    "SEAM": dict(
        type="mmwood.SEAM",
        backbone=dict(WIDE, out_indices=(2, 3, 5)),
        pcm_in_channels=[16, 32],
        head=dict(HEAD, in_channels=128),
    ),
    "SEAM, by name": dict(
        type="mmwood.SEAM",
        backbone=RESNET,
        levels=["layer2", "layer3"],
        pcm_in_channels=[16, 32],
        head=HEAD,
    ),
}
IRN = dict(
    type="mmwood.IRN",
    backbone=RESNET,
    levels=["maxpool", "layer1", "layer2", "layer3", "layer4"],
    in_channels=(8, 8, 16, 32, 64),
)
DEEPLAB = dict(
    type="mmseg.EncoderDecoder",
    backbone=dict(RESNET, type="mmseg.ResNetV1c"),
    decode_head=dict(
        type="mmwood.DeepLabV2Head",
        in_channels=64,
        in_index=3,
        num_classes=4,
        loss_decode=dict(type="mmwood.SizeBalancedCELoss"),
    ),
)
EVERY_MODEL = {
    **CLASSIFIERS,
    "WideResNet38": WIDE,
    "WideResNet38, all stages": dict(WIDE, out_indices=range(6)),
    "IRN": IRN,
    "DeepLab-v2": DEEPLAB,
    "DeepLab-v2, multi-scale": dict(DEEPLAB, type="mmwood.MultiScaleEncoderDecoder"),
}
HEADS = [dict(HEAD), dict(HEAD, type="mmwood.WOoDHead")]
DECODE_HEAD = DEEPLAB["decode_head"]
LOSS = dict(type="mmwood.SizeBalancedCELoss", avg_non_ignore=True)
#: A type, the config's field that holds it, and what other types have in base configs.
LEFT_BEHIND = [
    *((head, "model.head", dict(topk=(1, 5))) for head in HEADS),
    *((head, "model.head", dict(cal_acc=True)) for head in HEADS),
    (DECODE_HEAD, "decode_head", dict(num_convs=2, concat_input=True)),  # FCNHead
    (DECODE_HEAD, "decode_head", dict(pool_scales=(1, 2, 3, 6))),  # PSPHead
    (DECODE_HEAD, "decode_head", dict(c1_in_channels=256, c1_channels=48)),
    (LOSS, "loss_decode", dict(use_sigmoid=False)),  # CrossEntropyLoss
    (LOSS, "loss_decode", dict(use_mask=True)),
    (LOSS, "loss_decode", dict(eps=1e-3)),  # DiceLoss
    (LOSS, "loss_decode", dict(gamma=2.0, alpha=0.5)),  # FocalLoss
    (LOSS, "loss_decode", dict(loss_type="multi_class", per_image=True)),  # LovaszLoss
    (LOSS, "loss_decode", dict(thres=0.9, min_kept=131072)),  # OhemCrossEntropy
]
#: One pixel high or wide.
SIZES = [(50, 1), (1, 50), (1, 1), (2, 3)]


@pytest.mark.parametrize("name", EVERY_MODEL)
@torch.no_grad()
def test_fuse_conv_bn_of_mmcv(name):
    """As deployment tools call it: same outputs, and a copy stands alone."""
    model = MODELS.build(EVERY_MODEL[name]).eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
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


@pytest.mark.parametrize(("config", "place", "fields"), LEFT_BEHIND, ids=str)
def test_fields_that_another_type_leaves_behind(config, place, fields):
    names, kind = ", ".join(map(repr, sorted(fields))), config["type"]
    message = rf"no field \[{names}\].*{place}=dict\(_delete_=True, type='{kind}'"
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(config, **fields))


def check(sample, size):
    for maps, expected in (
        (sample.cam, size),
        (sample.cam_strided, strided_size(size)),
    ):
        assert maps.shape == (2, *expected)
        assert maps.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["mmwood.MultiScaleCAM", "mmwood.AdvCAM"])
@pytest.mark.parametrize("name", CLASSIFIERS)
@torch.no_grad()
def test_maps_of_images_of_one_pixel(name, tta):
    fields = dict(steps=3) if tta == "mmwood.AdvCAM" else {}
    module = dict(CLASSIFIERS[name], test_cfg=dict(round_up_to=16))
    model = MODELS.build(dict(type=tta, module=module, **fields)).eval()
    for size in SIZES:
        inputs, samples = [], []
        for scale in (0.5, 1.0, 2.0):
            shape = tuple(int(side * scale + 0.5) for side in size)
            for flip in (False, True):
                meta = dict(ori_shape=size, img_shape=shape, flip=flip)
                sample = DataSample(metainfo=dict(meta, flip_direction="horizontal"))
                inputs.append([torch.randint(0, 256, (3, *shape), dtype=torch.uint8)])
                samples.append([sample.set_gt_label([0, 2])])
        (found,) = model.test_step(dict(inputs=inputs, data_samples=samples))
        check(found, size)


@pytest.mark.parametrize("pad_to", [None, 32])
@pytest.mark.parametrize("size", SIZES)
def test_irn_of_images_of_one_pixel(size, pad_to):
    options = dict(pad_to=pad_to, instances=dict(background=0.1))
    model = MODELS.build(dict(IRN, test_cfg=options)).eval()
    sample = DataSample(metainfo=dict(ori_shape=size))
    maps = torch.rand(2, *strided_size(size))
    sample.set_field(maps, "score_maps", dtype=torch.Tensor)
    sample.set_field(torch.tensor([0, 2]), "score_classes", dtype=torch.Tensor)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    check(found, size)
    assert all(instance.mask.shape == size for instance in found.instances)
