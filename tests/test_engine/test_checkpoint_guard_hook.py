"""Weights that leave a part of a model random are refused, wherever they come from."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip("mmpretrain")
pytest.importorskip("mmseg")

from mmwood.engine import CheckpointGuardHook
from mmwood.engine.runner import build_runner

KINDS = ("classifier", "irn", "segmentor")
#: Backbones of other weights than the ResNet-18 of the configs.
OTHERS = dict(
    kind=dict(_delete_=True, type="mmpretrain.MobileNetV2", widen_factor=0.1),
    width=dict(base_channels=4),
    depth=dict(depth=34),
    bottlenecks=dict(depth=50),
)
HEADS = dict(classifier="head.classifier", irn="displacement_head", segmentor="decode_")


@pytest.fixture
def load(small_config, irn_config, segmentor_config, tmp_path):
    """A config of a kind, with some fields changed."""
    configs = dict(zip(KINDS, (small_config, irn_config, segmentor_config)))
    count = iter(range(99))

    def load_kind(kind: str, **options) -> Config:
        cfg = Config.fromfile(configs[kind])
        cfg.merge_from_dict({key.replace("__", "."): v for key, v in options.items()})
        if kind == "segmentor":
            # As the classifier's.
            cfg.model.backbone.strides = (1, 2, 1, 1)
        cfg.work_dir, cfg.launcher = str(tmp_path / "work"), "none"
        cfg.log_level = "ERROR"
        cfg.experiment_name = f"{tmp_path.name}_{next(count)}"
        cfg.visualizer.name = cfg.experiment_name
        # Most of the time would go into formatting the copies in the work dir.
        return Config(cfg.to_dict(), format_python_code=False)

    return load_kind


@pytest.fixture
def weights(load, tmp_path):
    """A checkpoint of a classifier, by default the one that fits the configs."""

    def save(classes=("disc", "square", "stripe"), **backbone) -> str:
        cfg = load("classifier", model__backbone=backbone)
        channels = dict(MobileNetV2=1280).get(cfg.model.backbone.type.split(".")[-1])
        width = cfg.model.backbone.get("base_channels", 8)
        expansion = 32 if cfg.model.backbone.get("depth") == 50 else 8
        cfg.model.head.update(
            in_channels=channels or expansion * width, num_classes=len(classes)
        )
        init_default_scope("mmpretrain")
        model = MODELS.build(cfg.model)
        # As after a training: batch normalisation is no longer 1 and 0.
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        path = tmp_path / "weights.pth"
        meta = dict(dataset_meta=dict(classes=classes))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
        return str(path)

    return save


def pretrained(path: str, **options) -> dict:
    return dict(type="Pretrained", checkpoint=path, prefix="backbone.", **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("source", ["load_from", "init_cfg"])
def test_trainings_from_another_backbone(load, weights, kind, other, source):
    path = weights(**OTHERS[other])
    field = dict(load_from="load_from", init_cfg="model__backbone__init_cfg")[source]
    value = path if source == "load_from" else pretrained(path)
    named = "checkpoint" if source == "load_from" else r"model\.backbone\.init_cfg:"
    fault = "is of a larger network" if other == "depth" else "holds no backbone"
    with pytest.raises(ValueError, match=rf"{named} .*weights\.pth {fault}"):
        build_runner(load(kind, **{field: value})).train()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["load_from", "init_cfg"])
def test_trainings_from_the_right_backbone(load, weights, kind, source):
    field = dict(load_from="load_from", init_cfg="model__backbone__init_cfg")[source]
    path = weights()
    value = path if source == "load_from" else pretrained(path)
    runner = build_runner(load(kind, **{field: value}))
    # Nor is a test of what was trained taken for one of what was loaded.
    runner.train()
    runner.test()


def test_weights_of_a_prefix_and_of_all_of_a_model(load, weights):
    cfg = load("classifier", model__init_cfg=dict(type="Pretrained"))
    cfg.model.init_cfg.checkpoint = weights(**OTHERS["kind"])
    with pytest.raises(ValueError, match=r"model\.init_cfg: .* holds no backbone"):
        build_runner(cfg).train()


def test_load_from_replaces_what_does_not_fit(load, weights, tmp_path):
    bad = weights(**OTHERS["kind"])
    cfg = load("classifier", model__backbone__init_cfg=pretrained(f"{bad}.old"))
    (tmp_path / "weights.pth").rename(f"{bad}.old")
    cfg.load_from = weights()
    build_runner(cfg).train()


@pytest.mark.parametrize("kind", KINDS)
def test_tests_of_a_classifiers_weights(load, weights, kind):
    cfg = load(kind, load_from=weights())
    if kind == "classifier":
        build_runner(cfg).test()
        return
    with pytest.raises(ValueError, match=f"holds no .*{HEADS[kind]}"):
        build_runner(cfg).test()


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("tta", [False, True], ids=["plain", "tta"])
def test_tests_of_another_backbone(load, weights, other, tta):
    cfg = load("classifier", load_from=weights(**OTHERS[other]))
    if tta:
        cfg.model = dict(type="mmwood.MultiScaleCAM", module=cfg.model)
    with pytest.raises(ValueError, match=r"weights\.pth (holds no|is of a larger)"):
        build_runner(cfg).test()


def test_a_field_lets_random_weights_pass(load, weights):
    cfg = load("classifier", load_from=weights(**OTHERS["kind"]))
    cfg.default_hooks.checkpoint_guard.min_share = 0
    build_runner(cfg).test()
    with pytest.raises(ValueError, match=r"min_share must be in \[0, 1\]"):
        CheckpointGuardHook(min_share=2)


@pytest.mark.parametrize("classes", ["abcde", ("square", "disc", "stripe")])
def test_fine_tuning_of_other_classes_needs_a_field(load, weights, classes):
    cfg = load("classifier", load_from=weights(classes=tuple(classes)))
    with pytest.raises(ValueError, match="other_classes=True to begin with it"):
        build_runner(cfg).train()
    cfg = load("classifier", load_from=cfg.load_from)
    cfg.default_hooks.checkpoint_guard.other_classes = True
    build_runner(cfg).train()
    cfg = load("classifier", load_from=cfg.load_from)
    cfg.default_hooks.checkpoint_guard.other_classes = True
    with pytest.raises(ValueError, match="was trained on the classes"):
        build_runner(cfg).test()


def test_averaged_weights_are_the_checkpoints(load, tmp_path):
    averaged = dict(custom_hooks=[dict(type="EMAHook")])
    build_runner(load("classifier", **averaged)).train()
    path = str(tmp_path / "work/epoch_1.pth")
    build_runner(load("classifier", load_from=path, **averaged)).test()
