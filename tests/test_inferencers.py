"""Inferencers of MMSegmentation and MMPretrain take every config of ours."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

pytest.importorskip("mmpretrain")
pytest.importorskip("mmseg")

from mmengine.registry import MODELS, init_default_scope
from mmpretrain.apis import FeatureExtractor, ImageClassificationInferencer, get_model
from mmseg.apis import MMSegInferencer

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = [
    path.relative_to(CONFIGS)
    for path in sorted(CONFIGS.rglob("*.py"))
    if not {"_base_", "pipelines"} & set(path.parts)
]
SEGMENTORS = {"deeplabv2", "segmentor"}
#: tests/test_modern_segmentors.py has these.
MODERN = {"segformer", "upernet", "mask2former"}
IMAGE = np.random.default_rng(0).integers(0, 255, (60, 50, 3), dtype=np.uint8)


def kind(name: Path) -> str:
    network = name.stem.split("_")[0]
    if network in SEGMENTORS:
        return "segmentor"
    if network in MODERN:
        return "modern"
    # An IRN tells nothing of an image without a classifier's maps of it.
    return "irn" if "irn" in name.stem else "classifier"


def load(name: Path) -> Config:
    """The config with a small backbone, and all else as it is."""
    cfg = Config.fromfile(CONFIGS / name)
    cfg.model.backbone = dict(
        type="mmpretrain.ResNet",
        depth=18,
        stem_channels=8,
        base_channels=8,
        out_indices=(1, 2, 3),
    )
    if "pcm_in_channels" in cfg.model:
        cfg.model.update(levels=None, pcm_in_channels=[16, 32])
    return cfg


@pytest.mark.parametrize("name", [n for n in NAMES if kind(n) == "segmentor"], ids=str)
def test_segmentors(name, tmp_path):
    cfg = load(name)
    cfg.model.decode_head.update(in_channels=64, in_index=2)
    init_default_scope("mmseg")
    path = tmp_path / "weights.pth"
    torch.save(MODELS.build(cfg.model).state_dict(), path)
    number = cfg.model.decode_head.num_classes
    inferencer = MMSegInferencer(
        cfg,
        str(path),
        device="cpu",
        classes=["c"] * number,
        palette=[[0, 0, 0]] * number,
    )
    assert inferencer(IMAGE)["predictions"].shape == (60, 50)


@pytest.mark.parametrize("name", [n for n in NAMES if kind(n) == "classifier"], ids=str)
def test_classifiers(name):
    cfg = load(name)
    cfg.model.head.in_channels = 64
    # As the documentation says for images without labels.
    cfg.model.test_cfg = dict(cfg.model.get("test_cfg") or {}, cam_labels="none")
    init_default_scope("mmpretrain")
    model = get_model(cfg, device="cpu")
    (result,) = ImageClassificationInferencer(model)(IMAGE)
    assert result["pred_scores"].shape == (cfg.model.head.num_classes,)
    (features,) = FeatureExtractor(model)(IMAGE)
    assert features[-1].shape[0] == 64
