"""mmengine's TensorBoard back-end in real runs, read with TensorBoard's reader."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmwood.engine.ewc_file import ConsolidatedTask, save_task

pytest.importorskip("mmpretrain")
events = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="TensorBoard is not installed: pip install tensorboard",
)

pytestmark = pytest.mark.slow

BACKENDS = """
visualizer = dict(vis_backends=[dict(type="LocalVisBackend"),
                                dict(type="TensorboardVisBackend")])
"""
CLASSIFIER = """
_base_ = ["{base}"]
custom_hooks = [dict(type="mmwood.EWCHook", mode="penalise", weight=2.0,
                     file="{folder}/ewc.safetensors")]
# Lists, one value a class.
nested = dict(type="MultiLabelMetric", average=None, thr=0.5)
test_evaluator = [dict(type="mmwood.SeedMetric"), nested]
val_cfg = dict(_delete_=True, type="ValLoop")
val_dataloader = dict(
    _delete_=True, batch_size=2, num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset={{{{_base_.test_dataloader.dataset}}}},
    collate_fn=dict(type="pseudo_collate"))
val_evaluator = dict(_delete_=True, type="Evaluator", metrics=[
    dict(type="AveragePrecision"), nested])
"""


def recorded(work_dir: Path) -> events.EventAccumulator:
    """What the one run in a work dir wrote."""
    (folder,) = (path.parent for path in work_dir.glob("*/vis_data/events.out.*"))
    reader = events.EventAccumulator(str(folder), {events.SCALARS: 0, events.IMAGES: 0})
    reader.Reload()
    return reader


def values(reader: events.EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in reader.Scalars(tag)}


def save_first_task(config: Path, path: Path) -> None:
    """A first task that knows other weights, so that there is a penalty."""
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(cfg.model)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    fisher = {name: torch.ones_like(weight) for name, weight in weights.items()}
    anchor = {name: weight + 0.1 for name, weight in weights.items()}
    save_task(path, ConsolidatedTask(fisher, anchor, {}))


def test_classifier(wood_config, run_tool, tmp_path):
    save_first_task(wood_config, tmp_path / "ewc.safetensors")
    config = tmp_path / "classifier.py"
    config.write_text(CLASSIFIER.format(base=wood_config, folder=tmp_path) + BACKENDS)
    text = run_tool("train.py", config, "--work-dir", "trained")
    reader = recorded(tmp_path / "trained")
    names = ("cls", "cls_ood", "in_distance", "ood_distance", "ewc")
    parts = {name: values(reader, f"loss_{name}") for name in names}
    assert list(values(reader, "lr")) == list(values(reader, "loss")) == [1, 2, 3]
    for step, total in values(reader, "loss").items():
        sum_of_parts = sum(part[step] for part in parts.values())
        assert total == pytest.approx(sum_of_parts, rel=1e-4)
        assert parts["ewc"][step] > 0
    # Of the validation numbers alone; lists are in the log.
    assert values(
        reader, "multi-label/mAP" if "mAP" in text else "multi-label/f1-score"
    )
    assert not [tag for tag in reader.Tags()["scalars"] if "classwise" in tag]

    run_tool(
        *("test.py", config, "trained/epoch_1.pth", "--work-dir", "tested"),
        *("--out", "metrics.json", "--cfg-options"),
        *("default_hooks.visualization.enable=True", "custom_hooks=[]"),
    )
    reader = recorded(tmp_path / "tested")
    names = [f"image_{number}" for number in range(6)]
    assert sorted(reader.Tags()["images"]) == names
    (picture,) = reader.Images("image_1")
    assert picture.height >= 33
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    lists = {key for key, value in metrics.items() if isinstance(value, list)}
    assert len(lists) == 3
    assert all(len(metrics[key]) == 3 for key in lists)
    for key in set(metrics) - lists:
        assert values(reader, key) == {0: pytest.approx(metrics[key], rel=1e-5)}
    assert "seed/mIoU" in set(metrics) - lists
    assert not lists & set(reader.Tags()["scalars"])


def test_segmentor(segmentor_config, run_tool, tmp_path):
    pytest.importorskip("mmseg")
    config = tmp_path / "drawn.py"
    cfg = Config(Config.fromfile(segmentor_config).to_dict(), format_python_code=False)
    cfg.model.auxiliary_head = None
    cfg.model.decode_head.loss_decode = dict(type="mmwood.SizeBalancedCELoss")
    cfg.val_cfg, cfg.val_dataloader = dict(type="ValLoop"), cfg.test_dataloader
    cfg.val_evaluator = cfg.test_evaluator
    cfg.train_cfg.update(max_iters=3, val_interval=3)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.visualization.update(draw=True, interval=2)
    cfg.visualizer.vis_backends = [dict(type="TensorboardVisBackend")]
    cfg.dump(config)
    run_tool("train.py", config, "--work-dir", "trained")
    reader = recorded(tmp_path / "trained")
    assert values(reader, "decode.loss_sbce") == values(reader, "loss")
    assert list(values(reader, "lr")) == [1, 2, 3]
    for tag in ("mIoU", "IA-mIoU"):
        assert list(values(reader, tag)) == [3], reader.Tags()
    # Every second of the six images.
    assert len(reader.Tags()["images"]) == 3
