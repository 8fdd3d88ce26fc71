"""Configs of patch token contrast, in real trainings and tests on small data."""

import re
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from undrawn_weights import UndrawnWeights

pytest.importorskip("mmpretrain")

from mmengine.registry import MODELS, init_default_scope

REPOSITORY = Path(__file__).parents[1]
SHORT = """
_base_ = ["{base}"]
model = {model!r}
# Images of several sizes in a batch: the rest is padding.
train_dataloader = dict(collate_fn=dict(type="pseudo_collate"), dataset={dataset!r})
optim_wrapper = {optim_wrapper!r}
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("classification/deit-small_ptc_voc12aug", 384),
        ("classification/vit-base_ptc_voc12aug", 768),
        ("wood/deit-small_ptc_wood_voc12aug", 384),
        ("demo/vit_ptc", 64),
        ("demo/vit_ptc_wood", 64),
    ],
)
def test_configs_build(name, channels):
    cfg = Config.fromfile(REPOSITORY / f"configs/{name}.py")
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.pop("init_cfg", None)
    with UndrawnWeights():
        model = MODELS.build(cfg.model)
    (loss,) = model.head.feature_losses
    assert loss.classifier.weight.shape == model.head.classifier.weight.shape
    assert model.head.in_channels == model.backbone.embed_dims == channels
    (stride,) = {*model.backbone.patch_embed.projection.stride}
    assert stride == loss.stride == model.test_cfg["round_up_to"]
    assert ("OoDMix" in cfg.train_dataloader.dataset.type) == ("wood" in name)
    names = [name for name, _ in model.named_parameters()]
    for key in cfg.optim_wrapper.get("paramwise_cfg", {}).get("custom_keys", {}):
        assert any(key in name for name in names), key
    kinds = [scheduler.type for scheduler in cfg.param_scheduler]
    assert kinds == (["PolyLR"] if "demo" in name else ["LinearLR", "PolyLR"])


@pytest.mark.slow
@pytest.mark.parametrize("wood", [False, True])
@pytest.mark.parametrize("kind", ["PatchTokenContrastLoss", "TokenContrastLoss"])
def test_two_iterations_and_maps(
    kind, wood, small_config, wood_config, call_main, tmp_path, monkeypatch
):
    """The demo's model, in a real Runner, on images of odd sides."""
    cfg = Config.fromfile(REPOSITORY / "configs/demo/vit_ptc.py")
    model = cfg.model.to_dict()
    model["backbone"]["_delete_"] = True
    model["head"].update(num_classes=3, type=f"mmwood.{'WOoD' if wood else 'CAM'}Head")
    ptc = model["head"]["feature_losses"]["ptc"]
    ptc.update(num_classes=3, type=f"mmwood.{kind}")
    if kind == "TokenContrastLoss":
        ptc.update(local_size=16, local_crops=3, hidden_channels=16)
    pipeline = [
        dict(type="mmwood.LoadImage"),
        dict(type="RandomCrop", crop_size=44),
        dict(type="PackInputs"),
    ]
    dataset = dict(pipeline=pipeline)
    if wood:
        dataset["in_distribution"] = dict(indices=4)
    else:
        dataset["indices"] = 4
    path = tmp_path / "ptc.py"
    path.write_text(
        SHORT.format(
            base=wood_config if wood else small_config,
            model=model,
            dataset=dataset,
            optim_wrapper=dict(cfg.optim_wrapper.to_dict(), _delete_=True),
        )
    )
    given = []
    loss = MODELS.get(f"mmwood.{kind}")
    forward = loss.forward

    @wraps(forward)
    def recorded(self, features, *args, sizes, **kwargs):
        given.append((tuple(features.shape[2:]), sizes.tolist()))
        return forward(self, features, *args, sizes=sizes, **kwargs)

    monkeypatch.setattr(loss, "forward", recorded)
    text = call_main("train.py", path, "--no-validate", "--work-dir", "work")
    terms = {"loss_cls", "loss_ptc_aux", "loss_ptc", "ptc_cos_same"}
    if kind == "TokenContrastLoss":
        terms |= {"loss_ctc", "ctc_positive"}
    if wood:
        terms |= {"loss_cls_ood", "loss_in_distance", "loss_ood_distance"}
    for term in terms:
        values = re.findall(rf" {term}: (\S+)", text)
        assert len(values) == 2, term
        assert all(np.isfinite(float(value)) for value in values)
    assert len(given) == 2
    for grid, sizes in given:
        largest = np.max(sizes, axis=0)
        assert grid == tuple(-(-largest // 8))
        assert largest.max() <= 44
    assert any(len({*map(tuple, sizes)}) > 1 for _, sizes in given)
    checkpoint = torch.load(
        tmp_path / "work/epoch_1.pth", map_location="cpu", weights_only=False
    )["state_dict"]
    name = "head.feature_losses.0.classifier.weight"
    assert checkpoint[name].shape == (3, 64, 1, 1)
    call_main("test.py", path, "work/epoch_1.pth", "--tta", "--work-dir", "maps")
    labels = sorted((tmp_path / "maps").rglob("labels/*.png"))
    assert len(labels) == 6
    scores = sorted((tmp_path / "maps").rglob("scores/*"))
    assert len(scores) == 6
