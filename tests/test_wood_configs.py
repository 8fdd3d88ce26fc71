"""W-OoD in stock MMPretrain configs, and every override that the README names."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, DictAction

pytest.importorskip("mmpretrain")

from mmengine.registry import MODELS, init_default_scope

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "configs/wood/README.md").read_text()
LINES = re.search(r'```python\n(_base_ = "mmpretrain::.*?)```', README, re.DOTALL)[1]

#: Stock config, overrides that make its backbone small, channels of the last map.
STOCK = {
    "resnet/resnet50_8xb32_in1k": ("stem_channels=8, base_channels=8", 256),
    "convnext/convnext-tiny_32xb128_in1k": (
        "gap_before_final_norm=False, arch=dict("
        "_delete_=True, depths=[1, 1, 1, 1], channels=[8, 16, 32, 64])",
        64,
    ),
    "swin_transformer/swin-tiny_16xb64_in1k": (
        "arch=dict("
        "_delete_=True, embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])",
        64,
    ),
    "mobilenet_v2/mobilenet-v2_8xb32_in1k": ("widen_factor=0.25", 1280),
}


def test_under_ten_lines():
    base, *lines = LINES.strip().splitlines()
    assert base.startswith("_base_ = ")
    assert len(lines) < 10


@pytest.mark.slow
@pytest.mark.parametrize("name", STOCK)
def test_stock_config_trains(name, wood_config, voc_folder, run_tool, tmp_path):
    backbone, channels = STOCK[name]
    rows = [f"image_{i}.jpg,{'train;boat' if i % 2 else 'boat'}" for i in range(6)]
    images = voc_folder / "JPEGImages"
    (images / "tags.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    (images / "classes.txt").write_text("train\nboat\n")
    text = (
        LINES.replace("resnet/resnet50_8xb32_in1k", name)
        .replace("in_channels=2048", f"in_channels={channels}")
        .replace('ann_file="tags.csv"', f'data_root="{images}", ann_file="tags.csv"')
        .replace('"ood.csv"', f'"list.txt", data_root="{tmp_path / "ood"}"')
        .replace("neck=None", f"neck=None, backbone=dict({backbone})")
    )
    (tmp_path / "own.py").write_text(text)
    text = run_tool(
        *("train.py", "own.py", "--work-dir", "work", "--no-validate"),
        "--cfg-options",
        *("train_dataloader.batch_size=4", "train_dataloader.sampler.in_per_batch=2"),
        *("train_dataloader.sampler.ood_per_batch=2", "train_cfg.max_epochs=1"),
        *("param_scheduler=None",),
        *("train_dataloader.num_workers=0",),
        *("train_dataloader.persistent_workers=False",),
        *("default_hooks.ood_clusters.clusters=3", "default_hooks.logger.interval=1"),
        "default_hooks.ood_clusters.num_workers=0",
    )
    assert "Epoch(train) [1][3/3]" in text.replace("  ", " ")
    assert " loss_ood_distance: " in text
    checkpoint = torch.load(
        tmp_path / "work/epoch_1.pth", map_location="cpu", weights_only=False
    )
    assert checkpoint["state_dict"]["head.ood_centers"].shape == (3, channels)


OVERRIDES = re.findall(
    r"\| `((?:model|default_hooks|train_dataloader)\.[^`]+)` \|",
    README,
)


@pytest.mark.parametrize("options", OVERRIDES)
def test_overrides_fit_the_published_config(options):
    cfg = Config.fromfile(REPOSITORY / "configs/wood/resnet50_wood_voc12aug.py")
    values = dict(option.split("=") for option in options.split())
    parsed = {key: DictAction._parse_iterable(value) for key, value in values.items()}
    cfg.merge_from_dict(parsed)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.pop("init_cfg")
    cfg.model.backbone.update(stem_channels=8, base_channels=8)
    # A field that the head does not have is an error; what it has arrived there.
    head = MODELS.build(cfg.model).head
    for key, value in parsed.items():
        name = key.rsplit(".", 1)[1]
        if key.startswith("model.head.") and hasattr(head, name):
            found = getattr(head, name)
            assert list(found) == value if isinstance(value, list) else found == value


def test_readme_names_enough_overrides():
    assert len(OVERRIDES) == 21


def test_config_for_own_images(tmp_path):
    text = (REPOSITORY / "docs/step_by_step.md").read_text()
    own, wood = (
        next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if key in b)
        for key in ("resnet50_own-images.py", "my_config.py")
    )
    own = own.replace('"configs/', f'"{REPOSITORY}/configs/')
    (tmp_path / "my_config.py").write_text(own)
    (tmp_path / "my_wood_config.py").write_text(wood)
    cfg = Config.fromfile(tmp_path / "my_wood_config.py")
    dataset = cfg.train_dataloader.dataset
    assert dataset.in_distribution.classes == ["train", "boat"]
    assert dataset.pipeline[0].type == "mmwood.LoadImage"
    sampler = cfg.train_dataloader.sampler
    assert sampler == dict(type="mmwood.OoDRatioSampler")
    cfg.model.backbone.pop("init_cfg")
    init_default_scope(cfg.default_scope)
    assert MODELS.build(cfg.model).head.weight.shape == (2, 2048)
