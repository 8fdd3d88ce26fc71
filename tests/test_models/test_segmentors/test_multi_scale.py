"""The multi-scale segmentor against a slow reading of its formula."""

import math

import pytest
import torch
from torch import nn

pytest.importorskip("mmseg")

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmwood.engine.runner import build_runner, use_tta
from mmwood.models import DeepLabV2Head

CLASSES = 3


@MODELS.register_module()
class OneConvolution(nn.Module):
    """A backbone of stride 4 whose output is easily computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, stride=4, padding=1)

    def forward(self, inputs):
        return (self.conv(inputs).tanh(),)


@MODELS.register_module()
class TwoMapsHead(DeepLabV2Head):
    """A head with a second output for training, as some of mmseg's."""

    def forward(self, inputs):
        logits = super().forward(inputs)
        return logits, logits


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmseg")
    torch.manual_seed(0)


def config(**fields) -> ConfigDict:
    head = dict(
        type="mmwood.DeepLabV2Head",
        in_channels=5,
        in_index=0,
        num_classes=CLASSES,
        dilations=(1, 2),
        loss_on="logits",
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    )
    return ConfigDict(
        {
            "type": "mmwood.MultiScaleEncoderDecoder",
            "backbone": dict(type="OneConvolution"),
            "decode_head": head,
            "test_cfg": dict(mode="whole"),
            **fields,
        }
    )


def batch(size) -> tuple[torch.Tensor, list[SegDataSample]]:
    labels = torch.randint(0, CLASSES, (2, 1, *size))
    labels[:, :, :3, :5] = 255
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size)
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=y), metainfo=meta) for y in labels
    ]
    return torch.randn(2, 3, *size, dtype=torch.float64), samples


def bilinear(maps: torch.Tensor, size, ratio) -> torch.Tensor:
    """Pixel by pixel: ``ratio`` old pixels are one new pixel's side."""
    found = maps.new_zeros(*maps.shape[:2], *size)
    height, width = maps.shape[2:]
    for i in range(size[0]):
        for j in range(size[1]):
            y = max((i + 0.5) * ratio[0] - 0.5, 0)
            x = max((j + 0.5) * ratio[1] - 0.5, 0)
            top, left = int(y), int(x)
            down, right = min(top + 1, height - 1), min(left + 1, width - 1)
            a, b = y - top, x - left
            found[:, :, i, j] = (
                (1 - a) * (1 - b) * maps[:, :, top, left]
                + (1 - a) * b * maps[:, :, top, right]
                + a * (1 - b) * maps[:, :, down, left]
                + a * b * maps[:, :, down, right]
            )
    return found


def reference_logits(model, images, scales) -> list[torch.Tensor]:
    """The logits of each scale, then their maximum."""
    logits = []
    for scale in scales:
        size = [math.floor(side * scale) for side in images.shape[2:]]
        image = bilinear(images, size, (1 / scale, 1 / scale))
        logits.append(model.decode_head(model.backbone(image)))
    grid = logits[0].shape[2:]
    largest = logits[0].clone()
    for z in logits[1:]:
        ratio = [small / whole for small, whole in zip(z.shape[2:], grid)]
        largest = torch.maximum(largest, bilinear(z, grid, ratio))
    return [*logits, largest]


def reference_loss(logits, labels) -> torch.Tensor:
    """Mean cross-entropy over the cells whose centre lies on a valid pixel."""
    height, width = labels.shape[1:]
    rows, columns = logits.shape[2:]
    terms = []
    for n in range(len(logits)):
        for i in range(rows):
            for j in range(columns):
                y = int((i + 0.5) * height / rows)
                x = int((j + 0.5) * width / columns)
                label = labels[n, y, x].item()
                if label != 255:
                    terms.append(-logits[n, :, i, j].log_softmax(0)[label])
    return torch.stack(terms).mean()


@pytest.mark.slow
@pytest.mark.parametrize("scales", [(1, 0.75, 0.5), (1.0, 1.5)])
@pytest.mark.parametrize("size", [(25, 33), (32, 48)])
def test_loss_is_the_sum_over_scales_and_maximum(size, scales):
    model = MODELS.build(config(scales=scales)).double()
    images, samples = batch(size)
    losses = model(images, samples, mode="loss")
    names = [*(f"scale_{scale:g}" for scale in scales), "max"]
    assert set(losses) == {
        f"decode.{name}.{kind}" for name in names for kind in ("loss_ce", "acc_seg")
    }
    labels = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    expected = [
        reference_loss(logits, labels)
        for logits in reference_logits(model, images, scales)
    ]
    for name, term in zip(names, expected):
        torch.testing.assert_close(losses[f"decode.{name}.loss_ce"], term)
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(expected))
    gradients = [
        torch.autograd.grad(loss, list(model.parameters()))
        for loss in (total, sum(expected))
    ]
    torch.testing.assert_close(*gradients)


def test_prediction_is_the_maximum_over_scales():
    size = (25, 33)
    model = MODELS.build(config()).double().eval()
    images, samples = batch(size)
    with torch.no_grad():
        largest = reference_logits(model, images, model.scales)[-1]
        ratio = [small / whole for small, whole in zip(largest.shape[2:], size)]
        expected = bilinear(largest, size, ratio)
        for found, own in zip(model(images, samples, mode="predict"), expected):
            torch.testing.assert_close(found.seg_logits.data, own)
            assert torch.equal(found.pred_sem_seg.data[0], own.argmax(0))
        torch.testing.assert_close(model(images), largest)


def test_windows():
    """Each window is seen at all scales; where they overlap, the mean is taken."""
    window = dict(mode="slide", crop_size=(16, 16), stride=(8, 16))
    model = MODELS.build(config(test_cfg=window)).double().eval()
    images, samples = batch((24, 16))
    with torch.no_grad():
        expected = images.new_zeros(2, CLASSES, 24, 16)
        for top in (0, 8):
            crop = images[:, :, top : top + 16]
            largest = reference_logits(model, crop, model.scales)[-1]
            expected[:, :, top : top + 16] += bilinear(largest, (16, 16), (0.25, 0.25))
        expected[:, :, 8:16] /= 2
        found = model(images, samples, mode="predict")
    torch.testing.assert_close(
        torch.stack([sample.seg_logits.data for sample in found]), expected
    )


def test_auxiliary_heads_see_scale_1():
    head = dict(config().decode_head, loss_on="image")
    model = MODELS.build(config(auxiliary_head=[head])).double()
    images, samples = batch((25, 33))
    losses = model(images, samples, mode="loss")
    alone = model.auxiliary_head[0].loss(model.backbone(images), samples, None)
    torch.testing.assert_close(losses["aux_0.loss_ce"], alone["loss_ce"])


@pytest.mark.parametrize(
    "scales", [(), (1,), (0.5, 1), (1, 0.5, 0.5), (1, 0), (1, -1), (1, float("nan"))]
)
def test_refuses_scales(scales):
    with pytest.raises(ValueError, match=r"model\.scales must be 1 and then"):
        MODELS.build(config(scales=scales))


@pytest.mark.parametrize("head", ["DAHead", "TwoMapsHead"])
def test_refuses_heads_of_several_maps(head):
    """When the head's methods say so, else at its first output."""
    fields = dict(in_channels=5, in_index=0, num_classes=CLASSES, channels=4)
    cfg = config(decode_head=dict(type=head, **fields))
    if head == "DAHead":
        cfg.decode_head.pam_channels = 2
    with pytest.raises(ValueError, match=f"needs a decode_head .*{head} is not"):
        MODELS.build(cfg).double()(*batch((25, 33)), mode="loss")


@pytest.mark.slow
def test_trains_and_tests_in_a_runner(segmentor_config, tmp_path):
    """Real files, a stock head, and test-time augmentation around it."""
    cfg = Config.fromfile(segmentor_config)
    cfg.model.type = "mmwood.MultiScaleEncoderDecoder"
    cfg.merge_from_dict(
        {
            "launcher": "none",
            "work_dir": str(tmp_path / "run"),
            "train_cfg.max_iters": 3,
        }
    )
    cfg.default_hooks.progress_bar = None
    cfg.default_hooks.logger.interval = 1
    runner = build_runner(cfg)
    before = runner.model.backbone.conv1.weight.clone()
    runner.train()
    assert not torch.equal(before, runner.model.backbone.conv1.weight)
    logged = runner.message_hub.log_scalars
    for name in ("scale_1", "scale_0.75", "scale_0.5", "max"):
        assert f"train/decode.{name}.loss_ce" in logged
    assert "train/aux_0.loss_ce" in logged
    assert 0 <= runner.test()["mIoU"] <= 100

    use_tta(cfg)
    cfg.work_dir = str(tmp_path / "tta")
    cfg.load_from = str(tmp_path / "run/iter_3.pth")
    augmented = build_runner(cfg)
    assert type(augmented.model.module).__name__ == "MultiScaleEncoderDecoder"
    assert 0 <= augmented.test()["mIoU"] <= 100
