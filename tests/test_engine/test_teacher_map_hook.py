"""A teacher's maps in real trainings of classifiers."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from torch import nn

from mmwood.engine import TeacherMapHook
from mmwood.functional.map_consistency import map_divergence

VIT = dict(
    type="VisionTransformer",
    arch=dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32),
    img_size=32,
    patch_size=8,
    out_type="featmap",
    drop_rate=0.06,
    drop_path_rate=0.3,
)
HOOK = dict(type="mmwood.TeacherMapHook", momentum=0.3)
FIELDS = dict(weight=2.0, temperature=0.5)


@pytest.fixture
def config(small_config: Path) -> Config:
    """The small classifier on a vision transformer, with the loss."""
    cfg = Config.fromfile(small_config)
    cfg.model.backbone = VIT
    cfg.model.head.in_channels = 16
    cfg.model.head.feature_losses = [dict(type="mmwood.MapConsistencyLoss", **FIELDS)]
    return cfg


def make_model(config: Config) -> nn.Module:
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    return MODELS.build(config.model).train()


def make_batch() -> dict:
    samples = [DataSample(metainfo=dict(img_shape=(32, 40))) for _ in range(2)]
    samples = [sample.set_gt_label([n]) for n, sample in enumerate(samples)]
    return dict(inputs=torch.rand(2, 3, 32, 40), data_samples=samples, mode="loss")


def drop_paths(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if "Drop" in type(module).__name__]


def rates(model: nn.Module) -> list[float]:
    return [getattr(m, "drop_prob", getattr(m, "p", 0)) for m in drop_paths(model)]


def test_maps_are_those_of_the_average(config):
    config.model.backbone = dict(VIT, drop_rate=0, drop_path_rate=0.3)
    model, batch = make_model(config), make_batch()
    hook = TeacherMapHook(dropping=0, momentum=0.3)
    hook.attach(model)
    (loss,), given = model.head.feature_losses, {}
    loss.register_forward_pre_hook(
        lambda _, args, more: given.update(more, labels=args[2]), with_kwargs=True
    )
    average = {key: value.clone() for key, value in model.state_dict().items()}
    for step in range(4):
        losses = model(**batch)
        other = make_model(config).eval()
        other.load_state_dict(average)
        with torch.no_grad():
            feats = other.extract_feat(batch["inputs"])
            expected = torch.einsum("bdhw,cd->bchw", feats[-1], other.head.weight)
        torch.testing.assert_close(given["teacher_scores"], expected)
        # Those of the network that learns, which drops.
        divergence = map_divergence(given["scores"], expected, given["labels"], 0.5)
        torch.testing.assert_close(losses["loss_consistency"], 2 * divergence)
        assert divergence > 0
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        hook.update(model)
        newest = max(0.3, 1 / (step + 1))
        for key, value in model.state_dict().items():
            average[key] = (1 - newest) * average[key] + newest * value
    assert "teacher_scores" not in batch["data_samples"][0]


def test_the_teacher_drops_less(config):
    model = make_model(config)
    own = rates(model)
    assert max(own) == pytest.approx(0.3)
    hook = TeacherMapHook()
    hook.attach(model)
    teacher = hook._teacher.module
    assert rates(model) == own
    assert rates(teacher) == pytest.approx([rate / 3 for rate in own])
    for module in drop_paths(teacher):
        assert module.training == (rates(module)[0] > 0)
    assert not teacher.training
    batch = make_batch()
    one, other = (
        hook._changed(batch["inputs"], batch["data_samples"])[0].teacher_scores
        for _ in range(2)
    )
    assert not torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("wood", [False, True])
def test_a_training_and_its_resumption(wood, config, wood_config, build_runner):
    if wood:
        model, config = config.model, Config.fromfile(wood_config)
        config.model = model
        config.model.head.type = "mmwood.WOoDHead"
    work = dict(custom_hooks=[HOOK])
    runner = build_runner(config, "first", **work)
    runner.train()
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, TeacherMapHook))
    values = runner.message_hub.get_scalar("train/loss_consistency")
    assert values.mean() > 0
    assert not runner.model._forward_pre_hooks
    expected = hook._teacher.state_dict()
    assert expected["steps"] == runner.iter
    path = str(Path(runner.work_dir) / "epoch_1.pth")
    changes = dict(train_cfg__max_epochs=2, resume=True, load_from=path)
    found = []

    class Look(TeacherMapHook):
        """Sees the teacher that the training goes on with."""

        def before_train(self, runner):
            super().before_train(runner)
            state = self._teacher.state_dict()
            found.append({key: value.clone() for key, value in state.items()})

    runner = build_runner(config, "second", custom_hooks=[], **changes)
    runner.register_hook(Look(momentum=0.3))
    runner.train()
    assert found[0].keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[0][key], value), key


def test_what_does_not_fit(config):
    batch = make_batch()
    with pytest.raises(ValueError, match=r"add default_hooks\.teacher\.type=mmwood"):
        make_model(config)(**batch)
    hook = TeacherMapHook()
    with pytest.raises(ValueError, match=r"head is a mmwood\.CAMHead .* is Linear"):
        hook.attach(nn.Linear(1, 1))
    config.model.backbone = dict(VIT, drop_rate=0, drop_path_rate=0)
    with pytest.raises(ValueError, match="nothing of the network is dropped"):
        hook.attach(make_model(config))
    for fields, message in (
        (dict(dropping=-1), "dropping must be at least 0"),
        (dict(dropping=2), "dropping is a fraction"),
        (dict(momentum=0), "momentum must be between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=rf"mmwood\.TeacherMapHook: {message}"):
            TeacherMapHook(**fields)
    for fields, message in (
        (dict(weight=0), "weight must be positive"),
        (dict(temperature=0), "temperature must not be 0"),
    ):
        with pytest.raises(ValueError, match=f"MapConsistencyLoss: {message}"):
            MODELS.build(dict(type="mmwood.MapConsistencyLoss", **fields))
