"""What tools/test.py changes in a config, of names and of classes as types."""

import pickle
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop
from yapf.yapflib import yapf_api

pytest.importorskip("mmpretrain")
pytest.importorskip("mmseg")

from mmpretrain.datasets import ImageNet
from mmseg.engine import SegVisualizationHook

from mmwood.engine import CAMVisualizationHook, EpochTrainLoop
from mmwood.engine.runner import build_runner, save_results, show_results, use_tta
from mmwood.evaluation import IAIoUMetric, SeedMetric
from mmwood.models import MultiScaleCAM
from mmwood.utils.config import metric_configs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", [SegVisualizationHook, "mmseg.SegVisualizationHook"])
def test_pictures_of_segmentors(kind):
    hooks = dict(visualization=dict(type=kind))
    cfg = Config(dict(default_hooks=hooks, visualizer=dict(type="Any")))
    show_results(cfg, "pictures", 3)
    assert cfg.default_hooks.visualization == dict(type=kind, interval=3, draw=True)
    assert cfg.visualizer.save_dir == "pictures"


@pytest.mark.parametrize("kind", [CAMVisualizationHook, "mmwood.CAMVisualizationHook"])
def test_pictures_of_classifiers(kind):
    cfg = Config(dict(default_hooks=dict(visualization=dict(type=kind))))
    show_results(cfg, "pictures", 3)
    assert cfg.default_hooks.visualization == dict(
        type=kind, interval=3, enable=True, out_dir="pictures"
    )


@pytest.mark.parametrize(
    "kinds", [(SeedMetric, IAIoUMetric), ("mmwood.SeedMetric", "mmwood.IAIoUMetric")]
)
@pytest.mark.parametrize("named", [False, True])
def test_metrics_write_to_the_work_dir(kinds, named):
    metrics = [dict(type=kind) for kind in kinds]
    names = dict(zip(("seeds", "instances"), metrics), left_out=None)
    evaluator = dict(type="mmwood.NamedEvaluator", metrics=names) if named else metrics
    cfg = Config(dict(work_dir="work", test_evaluator=evaluator))
    save_results(cfg)
    seeds, instances = metric_configs(cfg.test_evaluator)
    assert seeds.out_dir == "work"
    assert instances.out == "work/ia_iou.json"


@pytest.mark.parametrize("kind", [ImageNet, "ImageNet"])
@pytest.mark.parametrize("wrapper", ["none", "repeat", "concat"])
def test_test_time_augmentation_of_wrapped_data_sets(kind, wrapper):
    data = dict(type=kind, pipeline=["plain"])
    dataset = dict(
        none=data,
        repeat=dict(type="RepeatDataset", times=2, dataset=data),
        concat=dict(type="ConcatDataset", datasets=[data, dict(data)]),
    )[wrapper]
    cfg = Config(
        dict(
            model=dict(type="Any"),
            tta_model=dict(type=MultiScaleCAM),
            tta_pipeline=["views"],
            test_dataloader=dict(dataset=dataset),
        )
    )
    use_tta(cfg)
    assert cfg.model == dict(type=MultiScaleCAM, module=dict(type="Any"))
    found = cfg.test_dataloader.dataset
    leaves = found.get("datasets") or [found.get("dataset", found)]
    assert all(leaf.pipeline == ["views"] for leaf in leaves)


@pytest.mark.parametrize(
    "loop",
    [
        dict(by_epoch=True),
        dict(type="EpochBasedTrainLoop"),
        dict(type=EpochBasedTrainLoop),
    ],
    ids=str,
)
def test_loops_of_epochs_have_a_step(small_config, load, loop):
    runner = build_runner(load(small_config, train_cfg=dict(loop, max_epochs=1)))
    assert type(runner.build_train_loop(runner.train_loop)) is EpochTrainLoop


def test_loops_of_two_kinds_are_left_to_mmengine(small_config, load):
    loop = dict(type="IterBasedTrainLoop", by_epoch=True, max_epochs=1)
    cfg = load(small_config, train_cfg=loop)
    with pytest.raises(RuntimeError, match="Only one of `type` or `by_epoch`"):
        build_runner(cfg).train()


def test_a_config_is_formatted_once_and_again_when_it_changes(
    small_config, tmp_path, monkeypatch
):
    format_code, formatted = yapf_api.FormatCode, []

    def counted(text, **options):
        formatted.append(text)
        return format_code(text, **options)

    # Either mmengine imports it in its own way.
    for module in (yapf_api, sys.modules["mmengine.config.config"]):
        monkeypatch.setattr(module, "FormatCode", counted, raising=False)
    cfg = Config.fromfile(small_config)
    cfg.work_dir, cfg.launcher = str(tmp_path / "work"), "none"
    runner = build_runner(cfg)
    runner.train()
    assert len(formatted) == 1
    expected = Config(runner.cfg.to_dict()).pretty_text
    for path in (
        tmp_path / "work/small_config.py",
        *tmp_path.glob("work/*/vis_data/*.py"),
    ):
        assert path.read_text() == expected
    checkpoint = torch.load(tmp_path / "work/epoch_1.pth", weights_only=False)
    assert checkpoint["meta"]["cfg"] == expected
    runner.cfg.train_cfg.max_epochs = 2
    assert "max_epochs=2" in runner.cfg.pretty_text
    assert pickle.loads(pickle.dumps(runner.cfg)).pretty_text == runner.cfg.pretty_text
