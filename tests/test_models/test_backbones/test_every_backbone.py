"""The rows of docs/backbones.md: what serves, what does not and what it says."""

import ast
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpretrain")

import mmseg.models  # noqa: F401
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

PAGE = (Path(__file__).parents[3] / "docs/backbones.md").read_text()
SERVE = re.findall(
    r"^\| (.+?) \| `dict\((.+?)\)`(.*?) \| (\d+) \| (\d+) \|$", PAGE, re.M
)
FAIL = re.findall(r"^\| (.+?) \| `dict\((.+?)\)` \| `(.+?)` \|$", PAGE, re.M)
SIZE = (64, 96)

pytestmark = pytest.mark.slow


def build(text: str, channels: int = 8, padded: int = 1, stride: int | None = None):
    call = ast.parse(f"dict({text})", mode="eval").body
    if "TIMMBackbone" in text:
        pytest.importorskip("timm")
    backbone = eval(compile(ast.Expression(call), "page", "eval"), dict(dict=dict))
    return MODELS.build(
        dict(
            type="mmwood.CAMClassifier",
            data_preprocessor=dict(
                mean=[120.0] * 3, std=[60.0] * 3, pad_size_divisor=padded
            ),
            backbone=backbone,
            test_cfg=dict(round_up_to=stride),
            head=dict(type="mmwood.WOoDHead", num_classes=3, in_channels=channels),
        )
    )


def training_loss(model) -> torch.Tensor:
    channels = model.head.in_channels
    model.head.set_centers(torch.randn(3, channels), torch.randn(5, channels))
    samples = []
    for is_ood in (False, False, True):
        meta = dict(is_ood=is_ood, ori_shape=SIZE, img_shape=SIZE)
        samples.append(DataSample(metainfo=meta).set_gt_label([] if is_ood else [0, 2]))
    total, logged = model.parse_losses(model.loss(torch.randn(3, 3, *SIZE), samples))
    assert logged["loss_ood_distance"].isfinite()
    assert logged["loss_ood_distance"] != 0
    return total


def test_the_page_has_enough_rows():
    assert len(SERVE) >= 30
    assert len(FAIL) >= 10
    # Every row of the tables is read.
    assert len(re.findall(r"^\| [^|]+ \| `dict\(", PAGE, re.M)) == len(SERVE) + len(
        FAIL
    )


@pytest.mark.parametrize(
    ("text", "note", "channels", "stride"),
    [pytest.param(*row, id=name) for name, *row in SERVE],
)
def test_what_serves(text, note, channels, stride):
    channels, stride = int(channels), int(stride)
    model = build(text, channels, stride if "padded" in note else 1, stride)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    total = training_loss(model)
    assert total.isfinite()
    total.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.backbone.parameters())
    optimizer.step()
    model.eval()
    size = (50, 75)
    sample = DataSample(metainfo=dict(ori_shape=size)).set_gt_label([0, 2])
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    grids = []
    model.backbone.register_forward_hook(lambda *a: grids.append(a[2][-1].shape[2:]))
    with torch.no_grad():
        (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    assert found.cam.shape == (2, *size)
    assert found.cam.isfinite().all()
    # As the stride says, whole cells.
    assert grids == [(-(-size[0] // stride), -(-size[1] // stride))]


@pytest.mark.parametrize(
    ("text", "message"), [pytest.param(*row, id=name) for name, *row in FAIL]
)
def test_what_does_not_serve(text, message):
    with pytest.raises(Exception, match=re.escape(message)):
        training_loss(build(text))
