"""Images one pixel high or wide, through every model that makes maps."""

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from mmwood.functional.cam import strided_size

SIZES = [(50, 1), (1, 50), (1, 1), (2, 3)]
RESNET = dict(
    type="ResNet", depth=18, stem_channels=8, base_channels=8, strides=(1, 2, 2, 1)
)
HEAD = dict(type="mmwood.CAMHead", num_classes=3, in_channels=64)
CLASSIFIERS = {
    "CAMClassifier": dict(type="mmwood.CAMClassifier", backbone=RESNET, head=HEAD),
    "SEAM": dict(
        type="mmwood.SEAM",
        backbone=RESNET,
        levels=["layer2", "layer3"],
        pcm_in_channels=[16, 32],
        head=HEAD,
    ),
    "WideResNet38": dict(
        type="mmwood.CAMClassifier",
        backbone=dict(type="mmwood.WideResNet38", base_channels=2),
        head=dict(HEAD, in_channels=128),
    ),
}


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmpretrain")
    torch.manual_seed(0)


def check(sample, size):
    assert sample.cam.shape == (2, *size)
    assert sample.cam_strided.shape == (2, *strided_size(size))
    assert sample.cam.isfinite().all()
    assert sample.cam_strided.isfinite().all()


@pytest.mark.parametrize("tta", ["mmwood.MultiScaleCAM", "mmwood.AdvCAM"])
@pytest.mark.parametrize("name", CLASSIFIERS)
@torch.no_grad()
def test_scales_and_flips(name, tta):
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
def test_irn(size, pad_to):
    model = MODELS.build(
        dict(
            type="mmwood.IRN",
            backbone=RESNET,
            levels=["maxpool", "layer1", "layer2", "layer3", "layer4"],
            in_channels=(8, 8, 16, 32, 64),
            test_cfg=dict(pad_to=pad_to, instances=dict(background=0.1)),
        )
    ).eval()
    sample = DataSample(metainfo=dict(ori_shape=size))
    maps = torch.rand(2, *strided_size(size))
    sample.set_field(maps, "score_maps", dtype=torch.Tensor)
    sample.set_field(torch.tensor([0, 2]), "score_classes", dtype=torch.Tensor)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    check(found, size)
    assert all(instance.mask.shape == size for instance in found.instances)
