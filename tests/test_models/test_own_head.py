"""W-OoD in heads that are not ours, as docs/hosts.md says, in real trainings."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models.heads import MultiLabelLinearClsHead
from mmpretrain.structures import DataSample

from mmwood.functional.ood_distance import ood_distance_loss
from mmwood.models.heads import WOoDMixin

PAGE = Path(__file__).parents[2] / "docs/hosts.md"
BACKBONES = {
    # The class token of a transformer.
    "transformer": (
        dict(
            type="VisionTransformer",
            arch=dict(
                embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
            ),
            img_size=32,
            patch_size=16,
        ),
        None,
        16,
    ),
    "resnet": (
        dict(type="ResNet", depth=18, stem_channels=8, base_channels=8),
        dict(type="GlobalAveragePooling"),
        64,
    ),
}


class Head(WOoDMixin, MultiLabelLinearClsHead):
    pass


def test_the_loss_is_that_of_the_definition():
    torch.manual_seed(0)
    head = Head(3, 5, distance_weight=0.5)
    head.set_centers(torch.rand(3, 5), torch.rand(4, 5))
    z = torch.rand(4, 5)
    samples = []
    for labels, ood in (([0, 2], False), ([], True), ([1], False), ([], True)):
        sample = DataSample().set_gt_label(torch.tensor(labels, dtype=torch.long))
        sample.set_field(ood, "is_ood")
        samples.append(sample)
    losses = head.loss((z,), samples)
    scores = z @ head.fc.weight.T + head.fc.bias
    onehot = torch.tensor([[1.0, 0, 1], [0, 1, 0]])

    def entropy(scores, targets):
        # mmpretrain's sums over the classes.
        return F.binary_cross_entropy_with_logits(scores, targets) * 3

    torch.testing.assert_close(losses["loss_cls"], entropy(scores[::2], onehot))
    torch.testing.assert_close(
        losses["loss_cls_ood"], entropy(scores[1::2], torch.zeros(2, 3))
    )
    distance = ood_distance_loss(z[::2], onehot, head.in_centers, head.ood_centers)
    found = losses["loss_in_distance"] + losses["loss_ood_distance"]
    torch.testing.assert_close(found, 0.5 * distance)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_training_with_the_page_s_head(name, wood_config, run_tool, tmp_path):
    block = re.search(r"`my_head.py`:\n\n```python\n(.*?)```", PAGE.read_text(), re.S)[
        1
    ]
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 10
    (tmp_path / "my_head.py").write_text(block)
    backbone, neck, channels = BACKBONES[name]
    config = tmp_path / "own.py"
    config.write_text(
        f"""
_base_ = ["{wood_config}"]
custom_imports = dict(imports=["my_head"])
model = dict(
    type="ImageClassifier",
    backbone=dict(_delete_=True, **{backbone!r}),
    neck={neck!r},
    head=dict(_delete_=True, type="mmwood.MyHead", num_classes=3,
              in_channels={channels}),
)
pipeline = [dict(type="mmwood.LoadImage"), dict(type="Resize", scale=(32, 32)),
            dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
"""
    )
    text = run_tool("train.py", config, "--work-dir", "own", "--no-validate")
    for loss in ("loss_cls", "loss_cls_ood", "loss_in_distance", "loss_ood_distance"):
        assert f" {loss}: " in text
    state = torch.load(
        tmp_path / "own/epoch_1.pth", map_location="cpu", weights_only=False
    )["state_dict"]
    assert state["head.ood_centers"].shape == (3, channels)
    assert np.isfinite(state["head.in_centers"].numpy()).all()


def test_the_page_s_transformer_can_be_built():
    """Its own maps need no head of one's own."""
    repository = PAGE.parents[1]
    cfg = Config.fromfile(repository / "configs/wood/resnet50_wood_voc12aug.py")
    cfg.model.backbone = dict(
        type="VisionTransformer", arch="deit-t", img_size=64, out_type="featmap"
    )
    cfg.model.head.in_channels = 192
    model = MODELS.build(cfg.model)
    model.head.set_centers(torch.rand(20, 192), torch.rand(50, 192))
    samples = [DataSample().set_gt_label(0), DataSample().set_gt_label([])]
    samples[1].set_field(True, "is_ood")
    losses = model.loss(torch.rand(2, 3, 64, 64), samples)
    assert {"loss_cls", "loss_cls_ood", "loss_in_distance", "loss_ood_distance"} == set(
        losses
    )
