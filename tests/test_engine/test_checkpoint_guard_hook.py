"""Weights that leave a part of a model random are refused, wherever they come from."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip("mmpretrain")
pytest.importorskip("mmseg")

from mmwood.engine import CheckpointGuardHook
from mmwood.engine.runner import build_runner

pytestmark = pytest.mark.slow

#: Backbones of other weights than the ResNet-18 of the configs.
OTHERS = dict(
    kind=dict(type="mmpretrain.MobileNetV2", widen_factor=0.1),
    width=dict(base_channels=4),
    depth=dict(depth=34),
    bottlenecks=dict(depth=50),
)
#: A part of each kind of model that a classifier has not.
PARTS = dict(classifier="", irn="displacement_head", segmentor="decode_")
SOURCES = dict(load_from="load_from", init_cfg="model__backbone__init_cfg")


@pytest.fixture
def configs(small_config, irn_config, segmentor_config, load) -> dict[str, Config]:
    """A config of each kind."""
    segmentor = load(segmentor_config)
    # As the classifier's.
    segmentor.model.backbone.strides = (1, 2, 1, 1)
    found = (load(small_config), load(irn_config), segmentor)
    return dict(zip(PARTS, found))


@pytest.fixture
def weights(configs, load, tmp_path):
    """A checkpoint of a classifier, by default the one that fits the configs."""

    def save(classes=("disc", "square", "stripe"), **backbone) -> str:
        cfg = load(configs["classifier"])
        if "type" in backbone:
            cfg.model.backbone = backbone
            channels = 1280
        else:
            cfg.model.backbone.update(backbone)
            expansion = 32 if cfg.model.backbone.depth == 50 else 8
            channels = expansion * cfg.model.backbone.base_channels
        cfg.model.head.update(in_channels=channels, num_classes=len(classes))
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


def use(source: str, path: str) -> dict:
    """What makes a config begin with the weights of a file."""
    init_cfg = dict(type="Pretrained", checkpoint=path, prefix="backbone.")
    return {SOURCES[source]: path if source == "load_from" else init_cfg}


@pytest.mark.parametrize(
    ("kind", "other"),
    [*((kind, "kind") for kind in PARTS), *(("classifier", o) for o in OTHERS)],
)
@pytest.mark.parametrize("source", SOURCES)
def test_trainings_from_another_backbone(configs, load, weights, kind, other, source):
    cfg = load(configs[kind], **use(source, weights(**OTHERS[other])))
    named = "checkpoint" if source == "load_from" else r"model\.backbone\.init_cfg:"
    fault = "is of a larger network" if other == "depth" else "holds no backbone"
    with pytest.raises(ValueError, match=rf"{named} .*weights\.pth {fault}"):
        build_runner(cfg).train()


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("source", SOURCES)
def test_trainings_from_the_right_backbone(configs, load, weights, kind, source):
    runner = build_runner(load(configs[kind], **use(source, weights())))
    # Nor is a test of what was trained taken for one of what was loaded.
    runner.train()
    runner.test()


def test_weights_of_all_of_a_model(configs, load, weights):
    init_cfg = dict(type="Pretrained", checkpoint=weights(**OTHERS["kind"]))
    cfg = load(configs["classifier"], model__init_cfg=init_cfg)
    with pytest.raises(ValueError, match=r"model\.init_cfg: .* holds no backbone"):
        build_runner(cfg).train()


def test_load_from_replaces_what_does_not_fit(configs, load, weights, tmp_path):
    weights(**OTHERS["kind"])
    old = (tmp_path / "weights.pth").rename(tmp_path / "old.pth")
    changes = use("init_cfg", str(old)) | use("load_from", weights())
    build_runner(load(configs["classifier"], **changes)).train()


@pytest.mark.parametrize("kind", PARTS)
def test_tests_of_a_classifiers_weights(configs, load, weights, kind):
    cfg = load(configs[kind], load_from=weights())
    if kind == "classifier":
        build_runner(cfg).test()
        return
    with pytest.raises(ValueError, match=f"holds no .*{PARTS[kind]}"):
        build_runner(cfg).test()


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("tta", [False, True], ids=["plain", "tta"])
def test_tests_of_another_backbone(configs, load, weights, other, tta):
    cfg = load(configs["classifier"], load_from=weights(**OTHERS[other]))
    if tta:
        cfg.model = dict(type="mmwood.MultiScaleCAM", module=cfg.model)
    with pytest.raises(ValueError, match=r"weights\.pth (holds no|is of a larger)"):
        build_runner(cfg).test()


def test_a_field_lets_random_weights_pass(configs, load, weights):
    changes = dict(default_hooks__checkpoint_guard__min_share=0)
    path = weights(**OTHERS["kind"])
    build_runner(load(configs["classifier"], load_from=path, **changes)).test()
    with pytest.raises(
        ValueError, match=r"^mmwood.CheckpointGuardHook: min_share must be in \[0, 1\]"
    ):
        CheckpointGuardHook(min_share=2)


@pytest.mark.parametrize("classes", ["abcde", ("square", "disc", "stripe")])
def test_fine_tuning_of_other_classes_needs_a_field(configs, load, weights, classes):
    start = dict(load_from=weights(classes=tuple(classes)))
    with pytest.raises(ValueError, match="other_classes=True to begin with it"):
        build_runner(load(configs["classifier"], **start)).train()
    start.update(default_hooks__checkpoint_guard__other_classes=True)
    build_runner(load(configs["classifier"], **start)).train()
    with pytest.raises(ValueError, match="was trained on the classes"):
        build_runner(load(configs["classifier"], **start)).test()


def test_averaged_weights_are_the_checkpoints(configs, load, tmp_path):
    averaged = dict(custom_hooks=[dict(type="EMAHook")])
    build_runner(load(configs["classifier"], **averaged)).train()
    path = str(tmp_path / "work/epoch_1.pth")
    build_runner(load(configs["classifier"], load_from=path, **averaged)).test()
