"""Whole trainings and tests leave on a GPU what they leave on the CPU.

The GPU is that of ``second_device.py``: a tensor that a model, a loss or a hook makes
on the wrong device ends the run.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from second_device import second_device

pytest.importorskip("mmseg")

from mmengine.config import Config
from mmengine.device import get_device

from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import PSEUDO_LABELS
from mmwood.fileio.labels import read_label_png, save_label_png

pytestmark = pytest.mark.slow

VIT = dict(
    type="VisionTransformer",
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=32,
    patch_size=8,
    out_type="featmap",
    out_indices=[0, 1],
)
FBR = dict(type="mmwood.FineGrainedBackgroundLoss", in_channels=64)
PTC = dict(
    type="mmwood.PatchTokenContrastLoss", num_classes=3, in_channels=16, stride=8
)
SBCE = dict(type="mmwood.SizeBalancedCELoss")
PCM = dict(type="mmwood.SEAM", levels=["layer2", "layer3"], pcm_in_channels=[16, 32])
#: Fixture, and what is other in its model.
MODELS = {
    "CAMClassifier": ("small_config", {}),
    "W-OoD and FBR": (
        "wood_config",
        dict(
            head=dict(
                distance_scale="start",
                ood_labels="background",
                adversarial_step=0.01,
                feature_losses=[FBR],
            )
        ),
    ),
    "W-OoD and PTC": (
        "wood_config",
        dict(
            backbone=dict(VIT, _delete_=True),
            head=dict(in_channels=16, pooling="max", per="batch", feature_losses=[PTC]),
            test_cfg=dict(refine="sinkhorn"),
        ),
    ),
    "SEAM": ("small_config", PCM),
    "IRN": ("irn_config", {}),
    "SB-CE": ("segmentor_config", dict(decode_head=dict(loss_decode=SBCE))),
    "DeepLab-v2": (
        "segmentor_config",
        dict(
            type="mmwood.MultiScaleEncoderDecoder",
            decode_head=dict(
                _delete_=True,
                type="mmwood.DeepLabV2Head",
                in_channels=64,
                in_index=0,
                num_classes=4,
                loss_decode=SBCE,
            ),
        ),
    ),
}
#: How a CAMClassifier's maps are made of several scales.
MAPS = [dict(type="mmwood.MultiScaleCAM"), dict(type="mmwood.AdvCAM", steps=2)]
EWC = dict(type="mmwood.EWCHook", mode="switch", switch_at=1, weight=5.0)
#: Beside a segmentor that learns from filtered labels.
HOOKS = {
    "EWC": [dict(EWC, num_workers=0), dict(type="mmwood.IgnoreBiasedHook")],
    "EWC, running": [dict(EWC, fisher="running"), dict(type="mmwood.IgnoreBiasedHook")],
    "teacher": [
        dict(type="mmwood.TeacherLabelHook", refine=dict(method="pamr")),
        dict(type="mmwood.ChannelsLastHook"),
    ],
}


@pytest.fixture
def both(build_runner, tmp_path, hashes) -> Callable[..., None]:
    """Run on the CPU and on the second device, and compare what they leave."""

    def run(config: Config, *modes: str, **changes) -> None:
        for name in ("cpu", "cuda"):
            with second_device() if name == "cuda" else nullcontext():
                runner = build_runner(config, name, **changes)
                assert get_device() == name
                for mode in modes:
                    getattr(runner, mode)()
                assert next(runner.model.parameters()).device.type == name
        folders = tmp_path / "cpu", tmp_path / "cuda"
        checkpoints = sorted(path.name for path in folders[0].glob("*.pth"))
        assert bool(checkpoints) == ("train" in modes)
        for checkpoint in checkpoints:
            same(*(read(folder / checkpoint) for folder in folders))
        files, others = (hashes(folder / "pseudo_labels") for folder in folders)
        # It says which weights made them.
        assert files.pop("manifest.json", None) is None or others.pop("manifest.json")
        assert files == others

    return run


def read(checkpoint: Path) -> dict:
    return torch.load(checkpoint, map_location="cpu", weights_only=False)


def same(one: dict, other: dict) -> None:
    """Compare the tensors of checkpoints, those of hooks and optimizers too."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            same(value, other[name])
        elif isinstance(value, torch.Tensor):
            # Optimizers of GPUs take another order.
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_models(name, request, both):
    fixture, changes = MODELS[name]
    config = Config.fromfile(request.getfixturevalue(fixture), format_python_code=False)
    config.merge_from_dict(dict(model=changes))
    both(config, "train", "test")


@pytest.mark.parametrize("tta", MAPS, ids=lambda tta: tta["type"])
def test_maps_of_several_scales(tta, small_config, both, tmp_path):
    config = Config.fromfile(small_config, format_python_code=False)
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.model = dict(tta, module=config.model)
    config.default_hooks.visualization.update(enable=True, out_dir=str(tmp_path))
    both(config, "test")


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_of_segmentors(name, stock_segmentor, voc_folder, both):
    path = voc_folder / "SegmentationClass/image_0.png"
    mask = read_label_png(path)
    mask[10:26, 4:30] = 254
    save_label_png(mask, path)
    write_json(
        voc_folder / "manifest.json",
        dict(format=PSEUDO_LABELS, biased={}, complete=True),
    )
    config = Config.fromfile(stock_segmentor, format_python_code=False)
    both(config, "train", custom_hooks=HOOKS[name])
