import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

pytest.importorskip("mmseg")

from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmwood.models import DeepLabV2Head

RATES = (6, 12, 18, 24)
OPTIM_WRAPPER = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=2.5e-4, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(
        custom_keys={
            "decode_head.aspp": dict(lr_mult=10),
            "decode_head.aspp.0.bias": dict(lr_mult=20, decay_mult=0),
            "decode_head.aspp.1.bias": dict(lr_mult=20, decay_mult=0),
            "decode_head.aspp.2.bias": dict(lr_mult=20, decay_mult=0),
            "decode_head.aspp.3.bias": dict(lr_mult=20, decay_mult=0),
        }
    ),
)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmseg")


def segmentor(mode="whole", backbone="ResNetV1c"):
    cfg = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(type="SegDataPreProcessor"),
        backbone=dict(
            type=backbone,
            depth=18,
            stem_channels=8,
            base_channels=8,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
        ),
        decode_head=dict(
            type="mmwood.DeepLabV2Head",
            in_channels=64,
            in_index=3,
            num_classes=4,
            loss_decode=dict(type="mmwood.SizeBalancedCELoss"),
        ),
        test_cfg=dict(mode=mode),
    )
    if mode == "slide":
        cfg["test_cfg"].update(crop_size=(32, 32), stride=(20, 20))
    return MODELS.build(ConfigDict(cfg))


@pytest.mark.parametrize("dilations", [RATES, (1,), (2, 3)])
def test_is_the_sum_of_dilated_convolutions(dilations):
    head = DeepLabV2Head(5, num_classes=3, dilations=dilations).double()
    # Larger than the largest field of view, and smaller.
    for size in ((53, 61), (4, 7)):
        features = torch.randn(2, 5, *size, dtype=torch.float64)
        expected = sum(
            F.conv2d(features, conv.weight, conv.bias, padding=rate, dilation=rate)
            for conv, rate in zip(head.aspp, dilations)
        )
        torch.testing.assert_close(head((features,)), expected)
        torch.testing.assert_close(head.cls_seg(features), expected)


def test_has_only_the_convolutions():
    head = DeepLabV2Head(5, 512, num_classes=3, norm_cfg=dict(type="SyncBN"))
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert shapes == {
        f"aspp.{number}.{name}": shape
        for number in range(4)
        for name, shape in (("weight", (3, 5, 3, 3)), ("bias", (3,)))
    }
    assert head.dropout is None


def test_initial_values():
    torch.manual_seed(0)
    head = DeepLabV2Head(64, num_classes=21)
    head.init_weights()
    for conv in head.aspp:
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(conv.weight.mean().item()) < 3e-4
        assert (conv.bias == 0).all()


def test_binary_channel_dropout_and_joined_maps():
    head = DeepLabV2Head(
        (2, 3),
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        dropout_ratio=0.5,
        in_index=(0, 1),
        input_transform="resize_concat",
    ).eval()
    maps = torch.randn(1, 2, 8, 8), torch.randn(1, 3, 4, 4)
    wide = F.interpolate(maps[1], size=(8, 8), mode="bilinear", align_corners=False)
    joined = torch.cat((maps[0], wide), dim=1)
    assert head(maps).shape == (1, 1, 8, 8)
    torch.testing.assert_close(head(maps), head.cls_seg(joined))
    head.train()
    torch.manual_seed(0)
    dropped = head(maps)
    torch.manual_seed(0)
    expected = head.dropout(joined)
    head.eval()
    torch.testing.assert_close(dropped, head.cls_seg(expected))


@pytest.mark.parametrize("backbone", ["ResNetV1c", "ResNet"])
def test_trains_in_a_stock_segmentor(backbone):
    torch.manual_seed(0)
    model = segmentor(backbone=backbone)
    model.init_weights()
    inputs = torch.rand(2, 3, 33, 41)
    labels = torch.randint(0, 4, (2, 1, 33, 41))
    labels[:, :, :3] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    wrapper = build_optim_wrapper(model, copy.deepcopy(OPTIM_WRAPPER))
    before = {name: value.clone() for name, value in model.named_parameters()}
    losses = model(inputs, samples, mode="loss")
    assert set(losses) == {"decode.loss_sbce", "decode.acc_seg"}
    features = model.backbone(inputs)
    assert features[-1].shape[2:] == (5, 6)
    logits = F.interpolate(
        model.decode_head(features), (33, 41), mode="bilinear", align_corners=False
    )
    expected = model.decode_head.loss_decode(logits, labels[:, 0], ignore_index=255)
    torch.testing.assert_close(losses["decode.loss_sbce"], expected)
    loss, _ = model.parse_losses(losses)
    wrapper.update_params(loss)
    for name, value in model.decode_head.named_parameters():
        assert not torch.equal(value, before[f"decode_head.{name}"]), name


def shrunk(label: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pillow's nearest neighbour, as the released programs. Shape: (H, W) to (h, w)."""
    image = Image.fromarray(label.numpy().astype(np.uint8))
    return torch.tensor(np.array(image.resize(size[::-1], Image.NEAREST))).long()


@pytest.mark.parametrize("size", [(41, 41), (31, 30), (21, 20), (321, 321)])
@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "mmwood.SizeBalancedCELoss"])
def test_loss_on_the_grid_of_the_logits(loss, size):
    fields = dict(num_classes=4, loss_decode=dict(type=loss))
    head = DeepLabV2Head(5, loss_on="logits", **fields)
    labels = torch.randint(0, 4, (2, 13, 13)).repeat_interleave(25, 1)[:, :321]
    labels = labels.repeat_interleave(25, 2)[:, :, :321].contiguous()
    labels[:, :50, :70] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=y[None])) for y in labels]
    logits = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    found = head.loss_by_feat(logits, samples)
    small = torch.stack([shrunk(label, size) for label in labels])
    expected = head.loss_decode(logits, small, ignore_index=255)
    torch.testing.assert_close(found[head.loss_decode.loss_name], expected)
    correct = (logits.argmax(1) == small)[small != 255].double().mean() * 100
    assert found["acc_seg"].item() == pytest.approx(correct.item())
    (gradient,) = torch.autograd.grad(expected, logits, retain_graph=True)
    (own,) = torch.autograd.grad(found[head.loss_decode.loss_name], logits)
    torch.testing.assert_close(own, gradient)
    # The samples of the batch are what they were.
    assert all(sample.gt_sem_seg.shape == (321, 321) for sample in samples)
    if size != (321, 321):
        other = DeepLabV2Head(5, **fields).loss_by_feat(logits, samples)
        assert other[head.loss_decode.loss_name].item() != pytest.approx(
            expected.item(), rel=1e-4
        )


def test_whole_and_slide_inference():
    whole, slide = segmentor(), segmentor("slide")
    whole.init_weights()
    slide.load_state_dict(whole.state_dict())
    # The padding of a 32 pixel crop differs from the image's, so nothing can be equal
    # but the image that is one crop.
    for height, width in ((32, 32), (45, 57)):
        images = torch.rand(1, 3, height, width)
        sample = SegDataSample(
            metainfo=dict(ori_shape=(height, width), img_shape=(height, width))
        )
        results = []
        for model in (whole, slide):
            model.eval()
            with torch.no_grad():
                (result,) = model(images, [sample.clone()], mode="predict")
            assert result.seg_logits.data.shape == (4, height, width)
            assert result.pred_sem_seg.data.shape == (1, height, width)
            results.append(result.seg_logits.data)
        if height == 32:
            torch.testing.assert_close(*results)


def test_recommended_learning_rates():
    model = segmentor()
    wrapper = build_optim_wrapper(model, copy.deepcopy(OPTIM_WRAPPER))
    groups = {
        parameter: group
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        group = groups[parameter]
        found = group["lr"], group["weight_decay"]
        if not name.startswith("decode_head."):
            expected = 2.5e-4, 5e-4
        elif name.endswith(".weight"):
            expected = 2.5e-3, 5e-4
        else:
            expected = 5e-3, 0
        assert found == pytest.approx(expected), name
    # The text of the documentation is what was tested.
    text = " ".join(DeepLabV2Head.__doc__.split())
    for key, value in OPTIM_WRAPPER["paramwise_cfg"]["custom_keys"].items():
        fields = ", ".join(f"{name}={number}" for name, number in value.items())
        assert f"'{key}': dict({fields})" in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dilations=()), "decode_head.dilations"),
        (dict(dilations=(6, 0)), "decode_head.dilations"),
        (dict(loss_on="labels"), "decode_head.loss_on must be 'image' or 'logits'"),
        (
            dict(
                in_channels=(5, 5), in_index=(0, 1), input_transform="multiple_select"
            ),
            "decode_head.input_transform",
        ),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        DeepLabV2Head(**{"in_channels": 5, "num_classes": 3, **fields})
