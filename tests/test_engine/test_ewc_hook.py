"""EWC in real trainings of stock MMSegmentation models, against slow references."""

import copy
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmseg")

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from mmwood.engine import EWCHook
from mmwood.engine.ewc_file import ConsolidatedTask, load_task, save_task
from mmwood.engine.fisher import measure_fisher

CONFIG = """
default_scope = "mmseg"
randomness = dict(seed=3)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3,
                           std=[127.5] * 3, bgr_to_rgb=True, size=(32, 32),
                           pad_val=0, seg_pad_val=255),
    backbone=dict(type="ResNetV1c", depth=18, stem_channels=4, base_channels=4),
    decode_head=dict(type="FCNHead", in_channels=32, in_index=3, channels=4,
                     num_convs=1, num_classes=4, dropout_ratio=0.1,
                     loss_decode=[dict(type="mmwood.SizeBalancedCELoss")]),
    auxiliary_head=[
        dict(type="FCNHead", in_channels=16, in_index=2, channels=16, num_convs=0,
             concat_input=False, num_classes=4, dropout_ratio=0,
             loss_decode=dict(type="mmwood.SizeBalancedCELoss", loss_weight=0.4))])
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="InfiniteSampler", shuffle=False),
    dataset=dict(
        type="BaseSegDataset", data_root="{root}",
        metainfo=dict(classes=["background", "disc", "square", "stripe"],
                      palette=[[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        pipeline=[
            dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"),
            dict(type="RandomCrop", crop_size=(32, 32)),
            dict(type="RandomFlip", prob=0.5), dict(type="PackSegInputs")]))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1))
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1),
    logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False))
log_processor = dict(by_epoch=False, window_size=1)
custom_hooks = [dict(type="mmwood.EWCHook", mode="consolidate", num_workers=0)]
"""
PLAIN_PIPELINE = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
STOCK = dict(type="CrossEntropyLoss", avg_non_ignore=True)
FIXED_BATCH = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="Resize", scale=(32, 32)),
    dict(type="PackSegInputs"),
]


@pytest.fixture
def config(voc_folder: Path, tmp_path: Path) -> Config:
    path = tmp_path / "fcn.py"
    path.write_text(CONFIG.format(root=voc_folder))
    # Most of the time would go into formatting the copies in the work dir.
    return Config.fromfile(path, format_python_code=False)


@pytest.fixture
def fixed(config: Config) -> Config:
    """The same two images in each step, and nothing random."""
    config.train_dataloader.dataset.update(pipeline=FIXED_BATCH, indices=2)
    config.model.decode_head.dropout_ratio = 0
    return config


def hook(**fields) -> list[dict]:
    return [dict(type="mmwood.EWCHook", num_workers=0, **fields)]


def train(config: Config, work_dir: Path, **changes) -> Runner:
    """A whole training; ``a__b`` stands for ``a.b``."""
    config = copy.deepcopy(config)
    config.merge_from_dict(
        {key.replace("__", "."): value for key, value in changes.items()}
    )
    config.work_dir = str(work_dir)
    # mmengine keeps the scope of a second Runner of the same name.
    config.experiment_name = "".join(c if c.isalnum() else "_" for c in str(work_dir))
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)
    return state["state_dict"]


def logged(work_dir: Path, key: str) -> dict[int, float]:
    """The values of all runs of a work dir by iteration."""
    found = {}
    for path in sorted(work_dir.glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if key in row:
                found[row["step"]] = row[key]
    return found


def build(config: Config, checkpoint: Path) -> torch.nn.Module:
    init_default_scope("mmseg")
    model = MODELS.build(config.model).eval()
    model.load_state_dict(weights(checkpoint))
    return model


def slow_fisher(
    model: torch.nn.Module, root: Path, numbers: range
) -> dict[str, torch.Tensor]:
    """One image and one backward pass at a time, without data set, loader or losses."""
    total = dict.fromkeys((name for name, _ in model.named_parameters()), 0)
    for number in numbers:
        picture = cv2.imread(str(root / f"JPEGImages/image_{number}.jpg"))[..., ::-1]
        image = torch.from_numpy((picture.astype(np.float32) - 127.5) / 127.5)
        with Image.open(root / f"SegmentationClass/image_{number}.png") as mask:
            label = torch.from_numpy(np.array(mask)).long()
        features = model.backbone(image.permute(2, 0, 1)[None])
        loss = 0
        for head, factor in ((model.decode_head, 1), (model.auxiliary_head[0], 0.4)):
            scores = head.forward(features)
            scores = F.interpolate(scores, label.shape, mode="bilinear")
            entropy = -scores.log_softmax(dim=1)[0]
            valid = (label != 255).nonzero().tolist()
            pixels = [entropy[label[y, x], y, x] for y, x in valid]
            loss = loss + factor * torch.stack(pixels).sum() / len(valid)
        model.zero_grad()
        loss.backward()
        for name, param in model.named_parameters():
            total[name] = total[name] + param.grad.double() ** 2 / len(numbers)
    model.zero_grad()
    return {name: values.float() for name, values in total.items()}


def test_consolidated_task_is_that_of_loops(config, voc_folder, tmp_path):
    """The Fisher information is that of the plain loss, also if A is size-balanced."""
    exclude = [r"auxiliary_head.*bias$"]
    custom_hooks = hook(
        mode="consolidate", pipeline=PLAIN_PIPELINE, exclude=exclude, include=["head"]
    )
    runner = train(config, tmp_path / "a", custom_hooks=custom_hooks)
    task = load_task(tmp_path / "a/ewc.safetensors")
    assert task.about == dict(
        iteration=2,
        images=6,
        include=["head"],
        exclude=exclude,
        classes=["background", "disc", "square", "stripe"],
    )
    model = build(config, tmp_path / "a/iter_2.pth")
    expected = slow_fisher(model, voc_folder, range(6))
    heads = [n for n in expected if "head" in n]
    heads.remove("auxiliary_head.0.conv_seg.bias")
    assert set(task.fisher) == set(heads)
    params = {name: param.detach() for name, param in model.named_parameters()}
    for name in heads:
        close(task.fisher[name], expected[name])
        assert torch.equal(task.anchor[name], params[name])
    assert all(values.max() > 0 for values in task.fisher.values())
    # All is as it was.
    assert runner.model.training
    assert runner.model.decode_head.loss_decode[0].size_balanced
    # Three of the images, and stock losses.
    runner = train(
        config,
        tmp_path / "b",
        load_from=str(tmp_path / "a/iter_2.pth"),
        optim_wrapper__optimizer__lr=0.0,
        model__decode_head__loss_decode=[STOCK],
        model__auxiliary_head=[
            dict(
                config.model.auxiliary_head[0], loss_decode=dict(STOCK, loss_weight=0.4)
            )
        ],
        custom_hooks=hook(mode="consolidate", pipeline=PLAIN_PIPELINE, images=3),
    )
    task = load_task(tmp_path / "b/ewc.safetensors")
    # Batch norm's statistics went on; its weights are there now.
    model = build(config, tmp_path / "b/iter_2.pth")
    expected = slow_fisher(model, voc_folder, range(0, 6, 2))
    assert set(task.fisher) == set(expected)
    for name, values in expected.items():
        close(task.fisher[name], values)


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=atol)


def test_channels_last_is_the_same_training(fixed, tmp_path):
    """The hook's order is kept by steps and resumption, and stays out of files."""
    folders = tmp_path / "plain", tmp_path / "last"
    channels_last = dict(type="mmwood.ChannelsLastHook")
    changes = {}, dict(default_hooks__channels_last=channels_last)
    for folder, change in zip(folders, changes):
        tasks = hook(mode="consolidate")
        train(fixed, folder, train_cfg__max_iters=3, custom_hooks=tasks, **change)
    plain, last = (weights(folder / "iter_3.pth") for folder in folders)
    start = build(fixed, folders[0] / "iter_1.pth").state_dict()
    for name, expected in plain.items():
        moved = (expected - start[name]).abs().max()
        close(last[name], expected, atol=1e-3 * float(moved) + 1e-6)
    plain, last = (load_task(folder / "ewc.safetensors") for folder in folders)
    for name, expected in plain.fisher.items():
        close(last.fisher[name], expected, atol=1e-2 * float(expected.max()))
    # A network in the usual order takes the checkpoint; one in this order goes on.
    build(fixed, folders[1] / "iter_3.pth")
    more = dict(train_cfg__max_iters=4, resume=True, **changes[1])
    model = train(fixed, folders[1], custom_hooks=[], **more).model
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert not all(c.weight.is_contiguous() for c in convolutions)
    for convolution in convolutions:
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


def test_random_pipelines_workers_and_checkpointing(config, tmp_path):
    runner = train(config, tmp_path / "a", custom_hooks=[])
    model, dataset = runner.model, runner.train_dataloader.dataset
    collate = runner.train_dataloader.collate_fn
    params = dict(model.named_parameters())
    model.train()
    for param in params.values():
        param.grad = torch.ones_like(param)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    def measure(**options):
        fisher, images = measure_fisher(
            model, dataset, params, collate_fn=collate, **options
        )
        assert images == 6
        return fisher

    first = measure(seed=5, num_workers=0)
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == np.random.get_state()[1].tolist()
    assert state[2] == random.getstate()
    assert model.training
    assert all(bool((param.grad == 1).all()) for param in params.values())
    torch.rand(3), np.random.rand(3)
    again = measure(seed=5, num_workers=2)
    other = measure(seed=6, num_workers=0)
    for block in model.backbone.layer1:
        block.with_cp = True
    checkpointed = measure(seed=5, num_workers=0)
    assert all(block.with_cp for block in model.backbone.layer1)
    # The Runner's field.
    turn_on_activation_checkpointing(model, ["backbone", "decode_head"])
    by_runner = measure(seed=5, num_workers=0)
    for name, values in first.items():
        close(again[name], values)
        close(checkpointed[name], values)
        close(by_runner[name], values)
    assert not torch.allclose(
        first["decode_head.conv_seg.bias"],
        other["decode_head.conv_seg.bias"],
        rtol=0.01,
    )
    with torch.no_grad():
        params["decode_head.conv_seg.bias"].fill_(float("nan"))
    with pytest.raises(ValueError, match=r"backbone\.stem\.0\.weight is not"):
        measure(num_workers=0)


EMA = {
    "averaged": dict(),
    "with buffers": dict(update_buffers=True),
    "from the second iteration": dict(begin_iter=2, update_buffers=True),
    "annealed": dict(ema_type="MomentumAnnealingEMA", update_buffers=True),
    "at a priority": dict(priority=49),
}


def ema(**fields) -> dict:
    averaging = dict(type="mmengine.EMAHook", strict_load=True, **fields)
    if "ema_type" not in fields:
        averaging.update(momentum=0.3)
    return averaging


@pytest.mark.parametrize("stop", [False, True], ids=["whole", "stopped early"])
@pytest.mark.parametrize("fields", EMA.values(), ids=EMA)
def test_task_a_with_ema_is_that_of_its_checkpoint(fixed, tmp_path, fields, stop):
    # Before and after the hook: its place in the list must not matter.
    hooks = [*hook(mode="consolidate"), ema(**fields)]
    if stop:
        hooks = [*hooks[::-1], dict(type=StopAt, at=3)]
    runner = train(
        fixed, tmp_path, custom_hooks=hooks, train_cfg__max_iters=4 if stop else 3
    )
    state, trained = weights(tmp_path / "iter_3.pth"), runner.model.state_dict()
    task = load_task(tmp_path / "ewc.safetensors")
    assert task.about["iteration"] == 3
    assert not all(torch.equal(state[name], trained[name]) for name in task.anchor)
    for name, values in task.anchor.items():
        assert torch.equal(values, state[name]), name
    # The Fisher information too, with the checkpoint's statistics of batch norm.
    model, loader = build(fixed, tmp_path / "iter_3.pth"), runner.train_dataloader
    params, collate = dict(model.named_parameters()), loader.collate_fn
    options = dict(seed=3, num_workers=0, collate_fn=collate)
    expected, _ = measure_fisher(model, loader.dataset, params, **options)
    for name, values in task.fisher.items():
        close(values, expected[name], atol=1e-6 * float(expected[name].max()))


@pytest.mark.parametrize("later", [[], ["EMAHook"], ["mmpretrain.EMAHook"]], ids=str)
def test_task_b_takes_the_checkpoint_of_task_a_with_ema(fixed, tmp_path, later):
    a, b = tmp_path / "a", tmp_path / "b"
    train(fixed, a, custom_hooks=[*hook(mode="consolidate"), ema()])
    penalty = hook(mode="penalise", weight=1e-6, file=str(a / "ewc.safetensors"))
    hooks = [*penalty, *(dict(type=name, momentum=0.3) for name in later)]
    train(fixed, b, load_from=str(a / "iter_2.pth"), custom_hooks=hooks)
    assert "weights are not those" not in next(b.glob("*/*.log")).read_text()
    assert logged(b, "loss_ewc")[1] == 0


@pytest.mark.parametrize("buffers", [False, True])
def test_a_switch_with_ema_goes_on_from_its_anchor(fixed, tmp_path, buffers):
    """The anchor is where the optimizer is, so that the penalty starts at 0."""
    hooks = [
        ema(update_buffers=buffers),
        *hook(mode="switch", weight=1e-6, switch_at=2),
    ]
    train(fixed, tmp_path, custom_hooks=hooks, train_cfg__max_iters=4)
    anchor = load_task(tmp_path / "ewc.safetensors").anchor
    path = tmp_path / "iter_2.pth"
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    # mmengine keeps what is trained there, and the average in its place.
    for name, values in anchor.items():
        assert torch.equal(values, checkpoint["ema_state_dict"][f"module.{name}"])
    penalties = logged(tmp_path, "loss_ewc")
    assert penalties[3] == 0
    assert penalties[4] > 0
    expected = weights(tmp_path / "iter_4.pth")
    # Resumed after the switch, it is the same training.
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_3.pth"))
    train(fixed, tmp_path, custom_hooks=hooks, train_cfg__max_iters=4, resume=True)
    for name, values in weights(tmp_path / "iter_4.pth").items():
        torch.testing.assert_close(values, expected[name], rtol=1e-4, atol=1e-6)


class StopAt(Hook):
    """Ends a training as EarlyStoppingHook does."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(self, runner, *args, **kwargs):
        runner.train_loop.stop_training |= runner.iter + 1 == self.at


def test_a_switch_that_never_comes_is_said(fixed, tmp_path):
    hooks = [
        *hook(mode="switch", weight=0.1, switch_at=2),
        dict(type=StopAt, at=1),
    ]
    train(fixed, tmp_path, custom_hooks=hooks, train_cfg__max_iters=4)
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert "stopped after 1 iterations, before switch_at=2" in log


def test_a_second_training_of_a_process_has_one_penalty(fixed, tmp_path):
    train(fixed, tmp_path / "a")
    file = str(tmp_path / "a/ewc.safetensors")
    hooks = hook(mode="penalise", weight=0.1, file=file)
    fixed.load_from = str(tmp_path / "a/iter_2.pth")
    fixed.custom_hooks = [*hooks, dict(type=FailAt, at=1)]
    fixed.work_dir = str(tmp_path / "b")
    fixed.experiment_name = "a_second_training"
    runner = Runner.from_cfg(fixed)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    runner.train()
    assert not runner.model._forward_hooks


class FailAt(Hook):
    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.at:
            self.at = -1
            raise KeyboardInterrupt


class NormAct(nn.BatchNorm1d):
    """Batch norm with its activation inside, as in timm's networks."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.Identity()

    def forward(self, x):
        return self.act(super().forward(x))


class CountingHead(nn.Module):
    """Counts its images, and gives what its loss needs in training mode only."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.norm = NormAct(3)
        self.fc = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.seen = self.seen + len(x)
        scores = self.fc(self.norm(self.drop(x)))
        return [scores, 2 * scores] if self.training else scores


class Counting(BaseModel):
    def __init__(self):
        super().__init__()
        self.head = CountingHead()
        self.head.norm.running_mean += 0.1

    def forward(self, x, label, mode="loss"):
        once, twice = self.head(x)
        parts = [F.cross_entropy(once, label), F.cross_entropy(twice, label)]
        return dict(loss_once=parts[0], loss_twice=parts[1])


def test_a_loss_of_training_mode_leaves_buffers_and_flags():
    images = torch.rand(4, 3, generator=torch.manual_seed(0))
    dataset = [dict(x=image, label=number % 2) for number, image in enumerate(images)]
    model = Counting().train()
    fc = model.head.fc
    expected = torch.zeros(2, 3)
    mean, variance = model.head.norm.running_mean, model.head.norm.running_var
    for number, image in enumerate(images):
        features = (image - mean) / (variance + model.head.norm.eps).sqrt()
        scores = fc.weight @ features + fc.bias
        loss = -scores.log_softmax(0)[number % 2]
        loss = loss - (2 * scores).log_softmax(0)[number % 2]
        (gradient,) = torch.autograd.grad(loss, fc.weight)
        expected += gradient**2 / 4

    before = copy.deepcopy(model.state_dict())
    params = {"fc": fc.weight}
    for training in (True, False):
        model.train(training)
        # A layer that a hook has fixed.
        model.head.norm.eval()
        flags = [module.training for module in model.modules()]
        fisher, _ = measure_fisher(model, dataset, params, num_workers=0)
        torch.testing.assert_close(fisher["fc"], expected)
        assert flags == [module.training for module in model.modules()]
        for name, values in model.state_dict().items():
            assert torch.equal(values, before[name]), name


@pytest.fixture
def task_a(fixed, tmp_path) -> Path:
    """The folder of a consolidated training of two steps."""
    train(fixed, tmp_path / "a")
    return tmp_path / "a"


def penalise(task_a: Path, **fields) -> dict:
    """What changes a config into task B's."""
    fields = dict(file=str(task_a / "ewc.safetensors"), weight=50.0) | fields
    return dict(
        load_from=str(task_a / "iter_2.pth"),
        custom_hooks=hook(mode="penalise", **fields),
    )


def slow_penalty(task: ConsolidatedTask, state: dict, weight: float) -> float:
    total = 0.0
    for name, importance in task.fisher.items():
        tensors = importance, state[name], task.anchor[name]
        values = (tensor.double().flatten().tolist() for tensor in tensors)
        for f, theta, star in zip(*values):
            total += weight / 2 * f * (theta - star) ** 2
    return total


def test_penalty_in_log_and_gradient(fixed, task_a, tmp_path):
    train(fixed, tmp_path / "b", **penalise(task_a), train_cfg__max_iters=3)
    task = load_task(task_a / "ewc.safetensors")
    losses = logged(tmp_path / "b", "loss_ewc")
    states = {n: weights(tmp_path / f"b/iter_{n}.pth") for n in (1, 2, 3)}
    assert losses[1] == 0
    for n in (1, 2):
        expected = slow_penalty(task, states[n], 50.0)
        assert expected > 1e-6
        assert losses[n + 1] == pytest.approx(expected, rel=1e-4)
    total = logged(tmp_path / "b", "loss")
    parts = [
        logged(tmp_path / "b", key)
        for key in ("decode.loss_sbce", "aux_0.loss_sbce", "loss_ewc")
    ]
    for n in (1, 2, 3):
        assert total[n] == pytest.approx(sum(part[n] for part in parts), rel=1e-6)
    # A step from the same weights without the penalty differs by its gradient.
    train(
        fixed,
        tmp_path / "free",
        load_from=str(tmp_path / "b/iter_1.pth"),
        custom_hooks=[],
        train_cfg__max_iters=1,
    )
    free = weights(tmp_path / "free/iter_1.pth")
    for name, importance in task.fisher.items():
        gradient = 50.0 * importance * (states[1][name] - task.anchor[name])
        torch.testing.assert_close(
            states[2][name], free[name] - 0.1 * gradient, rtol=1e-5, atol=1e-6
        )


def test_penalty_under_autocast_modes_and_several_tasks(fixed, task_a, tmp_path):
    task = load_task(task_a / "ewc.safetensors")
    changes = penalise(task_a)
    changes["custom_hooks"] *= 2
    runner = train(fixed, tmp_path / "two", **changes)
    # Both have left the model.
    assert not runner.model._forward_hooks
    model = runner.model
    expected = slow_penalty(task, model.state_dict(), 50.0)
    first, second = (h for h in runner.hooks if isinstance(h, EWCHook))
    first.penalise(model, task)
    batch = next(iter(runner.train_dataloader))
    data = model.data_preprocessor(batch, True)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(**data, mode="loss")
        assert model(**data, mode="tensor").dtype == torch.bfloat16
    assert losses["loss_ewc"].dtype == torch.float32
    assert losses["loss_ewc"].item() == pytest.approx(expected, rel=1e-4)
    second.penalise(model, task)
    losses = model(data["inputs"], data["data_samples"], "loss")
    assert losses["loss_ewc"].item() == pytest.approx(2 * expected, rel=1e-4)
    # Measured anew, the likelihood is without penalties.
    params = {"bias": model.decode_head.conv_seg.bias}
    options = dict(num_workers=0, collate_fn=runner.train_dataloader.collate_fn)
    dataset = runner.train_dataloader.dataset
    fisher, _ = measure_fisher(model, dataset, params, **options)
    first.after_train(runner)
    second.after_train(runner)
    again, _ = measure_fisher(model, dataset, params, **options)
    assert torch.equal(fisher["bias"], again["bias"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="AmpOptimWrapper needs CUDA")
def test_mixed_precision(fixed, task_a, tmp_path):
    train(
        fixed, tmp_path / "b", **penalise(task_a), optim_wrapper__type="AmpOptimWrapper"
    )
    task = load_task(task_a / "ewc.safetensors")
    expected = slow_penalty(task, weights(tmp_path / "b/iter_1.pth"), 50.0)
    assert logged(tmp_path / "b", "loss_ewc")[2] == pytest.approx(expected, rel=1e-4)


def test_accumulated_gradients_are_those_of_a_large_batch(fixed, task_a, tmp_path):
    fixed.model.backbone.norm_eval = True
    # A mean over all pixels, as the two images do not ignore equally many.
    loss = dict(type="mmwood.SizeBalancedCELoss", avg_non_ignore=False)
    fixed.model.decode_head.loss_decode = loss
    fixed.model.auxiliary_head[0].loss_decode = loss
    fixed.merge_from_dict(penalise(task_a))
    train(fixed, tmp_path / "large", train_cfg__max_iters=3)
    train(
        fixed,
        tmp_path / "small",
        train_cfg__max_iters=6,
        train_dataloader__batch_size=1,
        optim_wrapper__accumulative_counts=2,
    )
    large = weights(tmp_path / "large/iter_3.pth")
    small = weights(tmp_path / "small/iter_6.pth")
    for name in load_task(task_a / "ewc.safetensors").fisher:
        torch.testing.assert_close(small[name], large[name], rtol=1e-4, atol=1e-6)
    found = logged(tmp_path / "small", "loss_ewc")
    for n, value in logged(tmp_path / "large", "loss_ewc").items():
        assert found[2 * n] == pytest.approx(value, rel=1e-3, abs=1e-9)


def test_two_processes_do_what_one_does(fixed, task_a, run_tool, tmp_path):
    fixed.model.backbone.norm_eval = True
    loss = dict(type="mmwood.SizeBalancedCELoss", avg_non_ignore=False)
    fixed.model.decode_head.loss_decode = loss
    fixed.model.auxiliary_head[0].loss_decode = loss
    fixed.merge_from_dict(penalise(task_a))
    fixed.train_dataloader.dataset.pop("indices")
    fixed.custom_hooks.append(
        dict(type="mmwood.EWCHook", mode="consolidate", num_workers=1)
    )
    fixed.train_cfg.max_iters = 3
    train(fixed, tmp_path / "one")
    fixed.train_dataloader.batch_size = 1
    fixed.dump(tmp_path / "two.py")
    run_tool("dist_train.sh", "two.py", 2, "--work-dir", "two")
    one, two = (weights(tmp_path / f"{n}/iter_3.pth") for n in ("one", "two"))
    task = load_task(tmp_path / "one/ewc.safetensors")
    found = load_task(tmp_path / "two/ewc.safetensors")
    assert found.about == task.about
    for name in task.fisher:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            found.fisher[name], task.fisher[name], rtol=1e-2, atol=1e-8
        )
    found = logged(tmp_path / "two", "loss_ewc")
    for n, value in logged(tmp_path / "one", "loss_ewc").items():
        assert found[n] == pytest.approx(value, rel=1e-3, abs=1e-9)


def test_two_processes_measure_the_network_of_the_checkpoint(
    config, voc_folder, run_tool, tmp_path
):
    """Each has its own statistics of batch norm; five images are no even share."""
    config.train_dataloader.dataset.indices = 5
    config.custom_hooks[0].pipeline = PLAIN_PIPELINE
    config.dump(tmp_path / "two.py")
    run_tool("dist_train.sh", "two.py", 2, "--work-dir", "two")
    task = load_task(tmp_path / "two/ewc.safetensors")
    assert task.about["images"] == 5
    model = build(config, tmp_path / "two/iter_2.pth")
    for name, values in slow_fisher(model, voc_folder, range(5)).items():
        close(task.fisher[name], values)


def test_switch_is_two_trainings_in_one(fixed, tmp_path):
    switch = hook(mode="switch", weight=50.0, switch_at=2)
    runner = train(
        fixed, tmp_path / "switch", custom_hooks=switch, train_cfg__max_iters=4
    )
    assert runner.model.decode_head.loss_decode[0].size_balanced
    stock = dict(STOCK, loss_name="loss_sbce")
    auxiliary = dict(
        fixed.model.auxiliary_head[0], loss_decode=dict(stock, loss_weight=0.4)
    )
    train(
        fixed,
        tmp_path / "a",
        model__decode_head__loss_decode=[stock],
        model__auxiliary_head=[auxiliary],
    )
    train(fixed, tmp_path / "b", **penalise(tmp_path / "a"))
    whole = load_task(tmp_path / "switch/ewc.safetensors")
    parts = load_task(tmp_path / "a/ewc.safetensors")
    assert whole.about == parts.about
    for name, values in parts.fisher.items():
        close(whole.fisher[name], values)
        torch.testing.assert_close(whole.anchor[name], parts.anchor[name])
    expected = weights(tmp_path / "b/iter_2.pth")
    found = weights(tmp_path / "switch/iter_4.pth")
    for name in parts.fisher:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)
    assert list(logged(tmp_path / "switch", "loss_ewc")) == [3, 4]
    for key in ("decode.loss_sbce", "aux_0.loss_sbce"):
        found = logged(tmp_path / "switch", key)
        for folder, start in (("a", 0), ("b", 2)):
            for n, value in logged(tmp_path / folder, key).items():
                assert found[start + n] == pytest.approx(value, rel=1e-4)


def test_switch_is_resumed_anywhere(fixed, tmp_path):
    # The random crops are drawn anew after a resume, so nothing is random here; what
    # the hook draws for itself is.
    fixed.merge_from_dict(
        dict(
            custom_hooks=hook(
                mode="switch",
                weight=50.0,
                switch_at=2,
                pipeline=[
                    *PLAIN_PIPELINE[:2],
                    dict(type="RandomCrop", crop_size=(24, 24)),
                    PLAIN_PIPELINE[2],
                ],
            ),
        )
    )
    fixed.train_cfg.max_iters = 4
    fixed.randomness = dict(seed=None)
    train(fixed, tmp_path / "whole")
    expected = weights(tmp_path / "whole/iter_4.pth")
    written = (tmp_path / "whole/ewc.safetensors").read_bytes()

    def resume(start: int, folder: str, **changes) -> Path:
        work = tmp_path / folder
        work.mkdir()
        checkpoint = shutil.copy(tmp_path / f"whole/iter_{start}.pth", work)
        changes.setdefault("file", tmp_path / "whole/ewc.safetensors")
        if changes["file"]:
            shutil.copy(changes["file"], work / "ewc.safetensors")
        del changes["file"]
        train(fixed, work, resume=True, load_from=str(checkpoint), **changes)
        return work

    # Killed before the switch, with the file of another run in the way; killed between
    # the consolidation and the checkpoint; at the switch; after it.
    other = tmp_path / "other.safetensors"
    fisher, anchor = {"a": torch.ones(1)}, {"a": torch.zeros(1)}
    save_task(other, ConsolidatedTask(fisher, anchor, dict(iteration=7)))
    for folder, start, file in (
        ("before", 1, other),
        ("between", 1, tmp_path / "whole/ewc.safetensors"),
        ("at", 2, tmp_path / "whole/ewc.safetensors"),
        ("after", 3, tmp_path / "whole/ewc.safetensors"),
    ):
        work = resume(start, folder, file=file)
        assert (work / "ewc.safetensors").read_bytes() == written
        found = weights(work / "iter_4.pth")
        for name, values in expected.items():
            assert torch.equal(found[name], values), (folder, name)

    with pytest.raises(FileNotFoundError, match=r"EWCHook\.file: there is no file"):
        resume(3, "lost", file=None)
    with pytest.raises(ValueError, match="after 7 iterations, but switch_at is 2"):
        resume(3, "strange", file=other)


@HOOKS.register_module()
class StopAfterOne(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        runner.train_loop.stop_training = True


def test_a_run_that_is_stopped_early_is_consolidated(fixed, tmp_path):
    custom_hooks = [*hook(mode="consolidate"), dict(type="StopAfterOne")]
    train(fixed, tmp_path / "a", custom_hooks=custom_hooks)
    task = load_task(tmp_path / "a/ewc.safetensors")
    assert task.about["iteration"] == 1
    state = weights(tmp_path / "a/iter_1.pth")
    for name, values in task.anchor.items():
        assert torch.equal(values, state[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(model__decode_head__channels=6),
            r"decode_head\.convs\.0\.conv\.weight is of shape \(4, 32, 3, 3\) in the "
            r"file, of shape \(6, 32, 3, 3\) among .* and \d more",
        ),
        (
            dict(model__decode_head__num_convs=2),
            r"decode_head\.convs\.1\.conv\.weight is absent in the file, of shape",
        ),
        (
            dict(model__auxiliary_head=None),
            r"auxiliary_head\.0\.conv_seg\.weight is of shape .* absent among",
        ),
    ],
)
def test_a_task_that_does_not_fit(fixed, task_a, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(fixed, tmp_path / "b", **penalise(task_a), **changes)


def test_another_head_and_frozen_layers(fixed, task_a, tmp_path):
    changes = penalise(task_a, exclude=["^decode_head"])
    train(
        fixed,
        tmp_path / "b",
        **changes,
        model__decode_head__channels=6,
        model__backbone__frozen_stages=1,
    )
    task = load_task(task_a / "ewc.safetensors")
    state = weights(tmp_path / "b/iter_1.pth")
    held = [n for n in task.fisher if not n.startswith("decode_head")]
    task = ConsolidatedTask(*({n: d[n] for n in held} for d in task[:2]), task.about)
    assert logged(tmp_path / "b", "loss_ewc")[2] == pytest.approx(
        slow_penalty(task, state, 50.0), rel=1e-4
    )


def test_another_start_is_told(fixed, task_a, tmp_path):
    changes = penalise(task_a)
    changes["load_from"] = str(task_a / "iter_1.pth")
    train(fixed, tmp_path / "b", **changes)
    (log,) = (tmp_path / "b").glob("*/*.log")
    assert "are not those that task A ended with: set load_from" in log.read_text()
    train(fixed, tmp_path / "c", **penalise(task_a))
    (log,) = (tmp_path / "c").glob("*/*.log")
    assert "are not those that task A ended with" not in log.read_text()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_weight_that_makes_sgd_diverge(fixed, task_a, tmp_path, momentum):
    fixed.optim_wrapper.optimizer.momentum = momentum
    task = load_task(task_a / "ewc.safetensors")
    largest = max(fisher.max().item() for fisher in task.fisher.values())
    bound = 2 * (1 + momentum) / 0.1 / largest

    # What the bound means, by torch's own SGD on the parabola of that parameter.
    for share, grows in ((0.99, False), (1.01, True)):
        theta = torch.ones((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([theta], lr=0.1, momentum=momentum)
        for _ in range(3000):
            optimizer.zero_grad()
            (share * bound / 2 * largest * theta**2).backward()
            optimizer.step()
        assert (abs(theta.item()) > 1) == grows

    train(fixed, tmp_path / "b", **penalise(task_a, weight=0.99 * bound))
    message = rf"SGD diverges at \S+, .*; expected less than {bound:.3g}"
    with pytest.raises(ValueError, match=message.replace("+0", r"\+0")):
        train(fixed, tmp_path / "c", **penalise(task_a, weight=1.01 * bound))
    # Adam scales its steps by the gradients' size.
    fixed.optim_wrapper.optimizer = dict(type="AdamW", lr=1e-5)
    train(fixed, tmp_path / "d", **penalise(task_a, weight=1.01 * bound))


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        (dict(mode="consolidate", include=["neck"]), {}, "include: no .* 'neck'"),
        (dict(mode="consolidate", exclude=[""]), {}, "leave no parameter"),
        (
            dict(mode="switch", weight=1, switch_at=2),
            {},
            "switch_at is 2, but the run ends after 2",
        ),
        (
            dict(mode="switch", weight=1, switch_at=1),
            dict(optim_wrapper__accumulative_counts=2),
            "multiple of optim_wrapper.accumulative_counts=2",
        ),
        (
            dict(mode="switch", weight=1, switch_at=1),
            dict(model__decode_head__loss_decode=[STOCK], model__auxiliary_head=None),
            "the model has none",
        ),
        (
            dict(mode="penalise", weight=1, file="fcn.py"),
            {},
            r"EWCHook\.file: fcn.py is no safetensors file",
        ),
    ],
)
def test_faults_are_told_before_training(
    fixed, tmp_path, monkeypatch, fields, changes, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        train(fixed, tmp_path / "a", custom_hooks=hook(**fields), **changes)
    assert not list(tmp_path.glob("a/*.pth"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(mode="penalize"), "mode must be one of"),
        (dict(mode="consolidate", weight=1.0), "no use for a weight"),
        (dict(mode="penalise", file="a"), "needs a weight"),
        (dict(mode="penalise", weight=1.0), "needs the file"),
        (dict(mode="penalise", weight=-1.0, file="a"), "weight must be"),
        (dict(mode="penalise", weight=float("nan"), file="a"), "weight must be"),
        (dict(mode="switch", weight=1.0), "switch_at"),
        (dict(mode="switch", weight=1.0, switch_at=0), "switch_at must be at least 1"),
        (dict(mode="consolidate", switch_at=3), "goes with mode 'switch'"),
        (dict(mode="consolidate", images=0), "images must be at least 1"),
        (dict(mode="consolidate", include="head"), "include must be a list"),
        (dict(mode="consolidate", exclude=["("]), "exclude must be a list of regular"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        EWCHook(**fields)


def test_file(tmp_path):
    path = tmp_path / "new/ewc.safetensors"
    fisher = {"a.b": torch.rand(2, 3), "c": torch.rand(())}
    anchor = {"a.b": torch.rand(2, 3).double(), "c": torch.rand(()).half()}
    save_task(path, ConsolidatedTask(fisher, anchor, dict(images=3)))
    task = load_task(path)
    assert task.about == dict(images=3)
    for found, expected in ((task.fisher, fisher), (task.anchor, anchor)):
        assert set(found) == set(expected)
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            assert torch.equal(found[name], values)
    assert list(path.parent.iterdir()) == [path]

    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="no safetensors file, or damaged"):
        load_task(path)
    save_task(path, ConsolidatedTask(fisher, {"c": anchor["c"]}, {}))
    with pytest.raises(ValueError, match="same names and shapes"):
        load_task(path)
    save_file({"fisher.a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"not written by mmwood\.EWCHook"):
        load_task(path)
    with pytest.raises(FileNotFoundError):
        load_task(tmp_path / "none.safetensors")


WITHOUT_CLASSIFICATION = """
import sys
for name in ("mmpretrain", "torchvision"):
    sys.modules[name] = None
from mmengine.config import Config
from mmengine.runner import Runner
config = Config.fromfile("fcn.py", format_python_code=False)
config.custom_hooks = [dict(type="mmwood.EWCHook", mode="switch", weight=1.0,
                            switch_at=1, num_workers=0)]
config.work_dir = "bare"
Runner.from_cfg(config).train()
"""


def test_without_mmpretrain_and_torchvision(config, tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_CLASSIFICATION],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert list(logged(tmp_path / "bare", "loss_ewc")) == [2]
