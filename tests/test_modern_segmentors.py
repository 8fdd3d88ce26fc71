"""The configs of SegFormer, UPerNet and Mask2Former at small size."""

from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.apis import MMSegInferencer
from mmseg.structures import SegDataSample

from mmwood.engine.fisher import set_size_balanced, size_balanced_losses
from mmwood.engine.runner import use_tta

CONFIGS = Path(__file__).parents[1] / "configs/segmentation"
SEGFORMER = {
    "backbone.embed_dims": 4,
    "backbone.num_layers": [1, 1, 1, 1],
    "decode_head.in_channels": [4, 8, 20, 32],
    "decode_head.channels": 8,
}
CONVNEXT = {
    "backbone.arch": dict(_delete_=True, depths=[1, 1, 2, 1], channels=[4, 8, 16, 32]),
    "decode_head.in_channels": [4, 8, 16, 32],
    "decode_head.channels": 8,
    "auxiliary_head.in_channels": 16,
    "auxiliary_head.channels": 8,
}
DEIT = {
    "backbone.arch": dict(
        _delete_=True,
        embed_dims=8,
        num_layers=12,
        num_heads=2,
        feedforward_channels=8,
    ),
    "backbone.img_size": 64,
    "neck.in_channels": [8] * 4,
    "neck.out_channels": 8,
    "decode_head.in_channels": [8] * 4,
    "decode_head.channels": 8,
    "auxiliary_head.in_channels": 8,
    "auxiliary_head.channels": 8,
}
SMALL = {
    # segformer_mit-b2_voc with another depth.
    "segformer_mit-b1_voc": SEGFORMER,
    "upernet_convnext-tiny_voc": CONVNEXT,
    "upernet_deit-base_voc": DEIT,
}
MASK2FORMER = {
    "backbone.depth": 18,
    "decode_head.in_channels": [64, 128, 256, 512],
    "decode_head.num_queries": 8,
    "decode_head.pixel_decoder.encoder.num_layers": 1,
    "decode_head.transformer_decoder.num_layers": 1,
    "decode_head.train_cfg.num_points": 64,
}


def small_config(name: str, options: dict) -> Config:
    """A shipped config with a small network, on one process and without weights."""
    if name.startswith("upernet"):
        pytest.importorskip("mmpretrain")
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    sizes = {"backbone.init_cfg": None, "data_preprocessor.size": (64, 64)}
    cfg.merge_from_dict({f"model.{k}": v for k, v in (options | sizes).items()})
    init_default_scope(cfg.default_scope)
    return cfg


def batch() -> dict:
    """Two images; in each two objects of one class, of other sizes."""
    size = 64
    label = torch.zeros(1, size, size, dtype=torch.long)
    label[:, 10:40, 10:40] = label[:, 50:55, 50:55] = 3
    label[:, 0] = 255
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
    sizes = dict(img_shape=(size, size), ori_shape=(size, size))
    sample = SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=sizes)
    return dict(inputs=[image, image.flip(2)], data_samples=[sample, deepcopy(sample)])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), SMALL.items(), ids=SMALL)
def test_a_step_with_size_balanced_loss(name, options):
    """Each loss becomes SB-CE by its type alone, and without weights it is the old."""
    torch.manual_seed(0)
    cfg = small_config(name, options)
    stock = revert_sync_batchnorm(MODELS.build(cfg.model))
    heads = [head for head in ("decode_head", "auxiliary_head") if head in cfg.model]
    kind = "mmwood.SizeBalancedCELoss"
    cfg.merge_from_dict({f"model.{head}.loss_decode.type": kind for head in heads})
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.load_state_dict(stock.state_dict())
    data = stock.data_preprocessor(batch(), True)

    losses = []
    for network, balanced in ((stock, False), (model, False), (model, True)):
        set_size_balanced(network, balanced)
        # Equal dropout.
        torch.manual_seed(1)
        losses.append(network(**data, mode="loss"))
    expected = {k.replace("loss_ce", "loss_sbce"): v for k, v in losses[0].items()}
    torch.testing.assert_close(losses[1], expected)
    assert len([*size_balanced_losses(model)]) == len(heads)
    names = [f"{head[:-5].replace('auxiliary', 'aux')}.loss_sbce" for head in heads]
    assert all(losses[2][key] != expected[key] for key in names)

    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    log = model.train_step(batch(), optimizer)
    assert torch.isfinite(log["loss"])
    parameters = dict(model.named_parameters())
    assert not [k for k, v in parameters.items() if torch.equal(v, before[k])]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), SMALL.items(), ids=SMALL)
def test_prediction_of_an_odd_size(name, options):
    cfg = small_config(name, options)
    if cfg.model.test_cfg.mode == "slide":
        cfg.model.test_cfg.update(crop_size=(64, 64), stride=(42, 42))
    use_tta(cfg)
    model = MODELS.build(cfg.model)
    model = revert_sync_batchnorm(getattr(model, "module", model)).eval()
    image = torch.randint(0, 256, (3, 70, 93), dtype=torch.uint8)
    sizes = dict(img_shape=(70, 93), ori_shape=(70, 93), padding_size=[0] * 4)
    data = dict(inputs=[image], data_samples=[SegDataSample(metainfo=sizes)])
    (found,) = model.test_step(data)
    assert found.pred_sem_seg.data.shape == (1, 70, 93)
    assert found.seg_logits.data.shape == (21, 70, 93)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), SMALL.items(), ids=SMALL)
def test_stock_inferencer(name, options, tmp_path):
    cfg = small_config(name, options)
    if cfg.model.test_cfg.mode == "slide":
        cfg.model.test_cfg.update(crop_size=(64, 64), stride=(42, 42))
    weights = tmp_path / "weights.pth"
    torch.save(MODELS.build(cfg.model).state_dict(), weights)
    inferencer = MMSegInferencer(
        cfg,
        str(weights),
        device="cpu",
        classes=["c"] * 21,
        palette=[[0, 0, 0]] * 21,
    )
    image = np.random.default_rng(0).integers(0, 255, (70, 93, 3), dtype=np.uint8)
    assert inferencer(image)["predictions"].shape == (70, 93)


def test_mask2former_without_mmdetection_is_refused_in_a_line(call_main):
    if find_spec("mmdet"):
        pytest.skip("mmdet is installed")
    text = call_main("train.py", CONFIGS / "mask2former_r50_voc.py", fails=True)
    assert "Mask2Former needs MMDetection" in text
    assert "No module named 'mmdet'" in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_mask2former_takes_a_step():
    # It needs mmcv's compiled operations.
    pytest.importorskip("mmdet.models", exc_type=ImportError)
    cfg = small_config("mask2former_r50_voc", MASK2FORMER)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    log = model.train_step(batch(), optimizer)
    assert {"decode.loss_cls", "decode.loss_mask", "decode.loss_dice"} <= set(log)
    assert torch.isfinite(log["loss"])
