"""Every config parses and builds; the published one trains on real images."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

pytest.importorskip("mmpretrain")

from mmengine.registry import MODELS, init_default_scope

REPOSITORY = Path(__file__).parents[1]
CONFIGS = [
    path.relative_to(REPOSITORY / "configs")
    for path in sorted((REPOSITORY / "configs").rglob("*.py"))
    if "_base_" not in path.parts
]


@pytest.mark.parametrize("name", CONFIGS, ids=str)
def test_config_builds(name):
    if "efficientnet" in str(name):
        pytest.importorskip("timm")
    cfg = Config.fromfile(REPOSITORY / "configs" / name)
    for key in ("default_scope", "train_dataloader", "optim_wrapper", "tta_pipeline"):
        assert key in cfg
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        # Stock train.py scripts fill these in differently.
        assert "collate_fn" in cfg[loader]
    # Weights come from files that a test does not have.
    cfg.model.backbone.pop("init_cfg", None)
    cfg.model.backbone.pop("checkpoint_path", None)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    assert model.head.classifier.weight.shape[0] == len(cfg.classes)


def test_published_resnet50_takes_two_steps_on_mini_voc(mini_voc, tmp_path):
    """Two images a step; size, crop, schedule and optimiser are the published ones."""
    (tmp_path / "list.txt").write_text(
        "\n".join(
            (mini_voc / "ImageSets/Segmentation/train.txt").read_text().split()[:4]
        )
    )
    data = "train_dataloader.dataset"
    result = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", str(REPOSITORY / "tools/train.py")),
            str(REPOSITORY / "configs/classification/resnet50_voc12aug.py"),
            *("--work-dir", str(tmp_path / "work"), "--no-validate", "--cfg-options"),
            "model.backbone.init_cfg=None",
            f"{data}.data_root={mini_voc}",
            f"{data}.ann_file={tmp_path / 'list.txt'}",
            f"{data}.label_source=mask",
            f"{data}.data_prefix.seg_map_path=SegmentationClass",
            f"{data}.data_prefix.xml_path=JPEGImages",
            "train_dataloader.batch_size=2",
            "train_dataloader.num_workers=0",
            "train_dataloader.persistent_workers=False",
            "train_cfg.max_epochs=1",
            "default_hooks.logger.interval=1",
        ],
        env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
        check=False,
    )
    text = result.stdout + result.stderr
    assert result.returncode == 0, text[-3000:]
    assert "Epoch(train) [1][2/2]" in text
    assert (tmp_path / "work/epoch_1.pth").is_file()
