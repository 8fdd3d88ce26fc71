"""Files of networks against the Predictor, whatever the config does to an image."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

pytest.importorskip("mmseg")
pytest.importorskip("mmpretrain")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from mmengine.registry import MODELS, init_default_scope

from mmwood.engine import export
from mmwood.engine.export import drawn_images, export_network, load_export
from mmwood.engine.network import Network, load_network
from mmwood.engine.predictor import Predictor

SIZES = [(1, 40), (37, 1), (33, 47), (64, 64), (101, 50), (150, 211)]


@pytest.fixture
def make_network(segmentor_config, tmp_path) -> Callable[..., Network]:
    """A network of ``segmentor_config`` with other fields, and random weights."""

    def make(pipeline=(), classes=4, **changes) -> Network:
        cfg = Config.fromfile(segmentor_config)
        load, pack = dict(type="LoadImageFromFile"), dict(type="PackSegInputs")
        names = [f"class {number}" for number in range(classes)]
        cfg.test_dataloader.dataset.pipeline = [load, *pipeline, pack]
        cfg.test_dataloader.dataset.metainfo = dict(classes=names)
        for key, value in changes.items():
            cfg.merge_from_dict({f"model.{key.replace('__', '.')}": value})
        cfg.dump(tmp_path / "changed.py")
        init_default_scope("mmseg")
        torch.manual_seed(0)
        # As in a training; SyncBN could not run here.
        model = MODELS.build(cfg.model)
        torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=2)
        weights = tmp_path / "weights.pth"
        torch.save(dict(state_dict=model.state_dict()), weights)
        return load_network(tmp_path / "changed.py", weights)

    return make


def resize(**fields) -> dict:
    return dict(pipeline=[dict(type="Resize", **fields)])


def binary(threshold: float) -> dict:
    loss = dict(type="CrossEntropyLoss", use_sigmoid=True)
    return dict(
        classes=2,
        decode_head__num_classes=2,
        decode_head__out_channels=1,
        decode_head__threshold=threshold,
        decode_head__loss_decode=loss,
        auxiliary_head=None,
    )


IMAGENET = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])
CASES = {
    "plain": {},
    "RGB, normalised": dict(data_preprocessor=dict(bgr_to_rgb=True, **IMAGENET)),
    "BGR, normalised": dict(data_preprocessor=IMAGENET),
    "padded to 32": dict(
        data_preprocessor=dict(test_cfg=dict(size_divisor=32), pad_val=7)
    ),
    "padded to a size": dict(data_preprocessor=dict(test_cfg=dict(size=(128, 96)))),
    "enlarged": resize(scale=(320, 320), keep_ratio=True),
    "reduced": resize(scale=(64, 48), keep_ratio=True),
    "stretched": resize(scale=(70, 50), keep_ratio=False),
    "by a factor": resize(scale_factor=1.3, keep_ratio=True),
    "by two factors": resize(scale_factor=(0.7, 1.4), keep_ratio=False),
    "binary": binary(0.4),
    "SyncBN, dropout": dict(
        backbone__norm_cfg=dict(type="SyncBN"), decode_head__dropout_ratio=0.5
    ),
    "corners": dict(decode_head__align_corners=True, **resize(scale=(64, 48))),
    "300 classes": dict(
        classes=300, decode_head__num_classes=300, auxiliary_head=None
    ),
}


def smooth(size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(size[0])
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 12, 12)))
    fine = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 255)
    return np.ascontiguousarray(fine[0].permute(1, 2, 0).numpy().astype(np.uint8))


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_labels_of_any_size(make_network, tmp_path, kind, changes):
    network = make_network(**changes)
    path = tmp_path / f"network{export.SUFFIXES[kind]}"
    images = [smooth(size) for size in SIZES]
    found = export_network(network, path, kind, images)
    assert found.images == len(images) + len(export.SIZES)
    run, predictor = load_export(path, kind), Predictor(network)
    seen, differ = set(), 0
    for image in images:
        label, expected = run(image), predictor(image).label
        assert label.dtype == (np.int32 if expected.dtype == np.uint16 else np.uint8)
        assert label.shape == image.shape[:2]
        differ += (label != expected).sum()
        seen |= {*np.unique(expected).tolist()}
    print(kind, found, differ)
    assert differ <= 2
    assert len(seen) > 1
