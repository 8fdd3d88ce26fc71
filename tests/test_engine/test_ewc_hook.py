"""EWC in real trainings of stock MMSegmentation models, against slow references."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmseg")

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.nn import functional as F

from mmwood.engine import EWCHook
from mmwood.engine.ewc_file import ConsolidatedTask, load_task, save_task
from mmwood.engine.fisher import measure_fisher

pytestmark = pytest.mark.slow

LOAD, MASK, PACK = (
    dict(type=name)
    for name in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs")
)
#: Weights that are as good as equal.
CLOSE = dict(rtol=1e-4, atol=1e-6)


@pytest.fixture
def config(stock_segmentor: Path) -> Config:
    cfg = Config.fromfile(stock_segmentor, format_python_code=False)
    cfg.custom_hooks = [hook("consolidate")]
    return cfg


@pytest.fixture
def fixed(config: Config) -> Config:
    """The same two images in each step, and nothing random."""
    resize = dict(type="Resize", scale=(32, 32))
    dataset = config.train_dataloader.dataset
    dataset.update(pipeline=[LOAD, MASK, resize, PACK], indices=2)
    config.model.decode_head.dropout_ratio = 0
    return config


@pytest.fixture
def train(build_runner) -> Callable[..., Runner]:
    """A whole training."""

    def train(config: Config, work_dir: str, **changes) -> Runner:
        runner = build_runner(config, work_dir, **changes)
        runner.train()
        return runner

    return train


@pytest.fixture
def task_a(fixed, train, tmp_path) -> Path:
    """The folder of a consolidated training of two steps."""
    train(fixed, "a")
    return tmp_path / "a"


def hook(mode: str, **fields) -> dict:
    return dict(type="mmwood.EWCHook", mode=mode, num_workers=0, **fields)


def penalise(task_a: Path, **fields) -> dict:
    """What changes a config into task B's."""
    fields = dict(file=str(task_a / "ewc.safetensors"), weight=50.0) | fields
    return dict(
        load_from=str(task_a / "iter_2.pth"), custom_hooks=[hook("penalise", **fields)]
    )


def ema(**fields) -> dict:
    if "ema_type" not in fields:
        fields["momentum"] = 0.3
    return dict(type="mmengine.EMAHook", strict_load=True, **fields)


class StopAt(Hook):
    """Ends a training as EarlyStoppingHook does."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(self, runner, *args, **kwargs):
        runner.train_loop.stop_training |= runner.iter + 1 == self.at


def use_loss(config: Config, **fields) -> None:
    """Give both heads a loss of these fields."""
    loss = dict(config.model.auxiliary_head[0].loss_decode, **fields)
    config.model.auxiliary_head[0].loss_decode = loss
    config.model.decode_head.loss_decode = [dict(loss, loss_weight=1.0)]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)
    return state["state_dict"]


def same(found: dict, expected: dict, **tolerances) -> None:
    """Compare the tensors of the names that the second has."""
    options = tolerances or dict(rtol=0, atol=0)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, **options)


def same_fisher(found: dict, expected: dict, atol: float = 1e-9) -> None:
    assert set(found) == set(expected)
    same(found, expected, rtol=2e-3, atol=atol)


def log_of(work_dir: Path) -> str:
    (path,) = work_dir.glob("*/*.log")
    return path.read_text()


def logged(work_dir: Path, key: str) -> dict[int, float]:
    """The values of all runs of a work dir by iteration."""
    paths = sorted(work_dir.glob("*/vis_data/scalars.json"))
    rows = [json.loads(line) for p in paths for line in p.read_text().splitlines()]
    return {row["step"]: row[key] for row in rows if key in row}


def build(config: Config, checkpoint: Path) -> nn.Module:
    init_default_scope("mmseg")
    model = MODELS.build(config.model).eval()
    model.load_state_dict(weights(checkpoint))
    return model


def slow_fisher(model: nn.Module, root: Path, numbers: range) -> dict:
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


def slow_penalty(task: ConsolidatedTask, state: dict, weight: float) -> float:
    total = 0.0
    for name, importance in task.fisher.items():
        tensors = importance, state[name], task.anchor[name]
        values = (tensor.double().flatten().tolist() for tensor in tensors)
        for f, theta, star in zip(*values):
            total += weight / 2 * f * (theta - star) ** 2
    return total


# -- task A -----------------------------------------------------------------
def test_consolidated_task_is_that_of_loops(config, train, voc_folder, tmp_path):
    """The Fisher information is that of the plain loss, also if A is size-balanced."""
    plain = dict(pipeline=[LOAD, MASK, PACK])
    patterns = dict(include=["head"], exclude=[r"auxiliary_head.*bias$"])
    hooks = [hook("consolidate", **plain, **patterns)]
    runner = train(config, "a", custom_hooks=hooks)
    task = load_task(tmp_path / "a/ewc.safetensors")
    classes = ["background", "disc", "square", "stripe"]
    assert task.about == dict(
        iteration=2, fisher="images", images=6, classes=classes, **patterns
    )
    model = build(config, tmp_path / "a/iter_2.pth")
    expected = slow_fisher(model, voc_folder, range(6))
    del expected["auxiliary_head.0.conv_seg.bias"]
    heads = {name: values for name, values in expected.items() if "head" in name}
    same_fisher(task.fisher, heads)
    same(task.anchor, {name: model.state_dict()[name] for name in heads})
    assert all(values.max() > 0 for values in task.fisher.values())
    # All is as it was.
    assert runner.model.training
    assert runner.model.decode_head.loss_decode[0].size_balanced
    # Three of the images, and stock losses.
    use_loss(config, type="CrossEntropyLoss", avg_non_ignore=True)
    config.optim_wrapper.optimizer.lr = 0.0
    config.custom_hooks = [hook("consolidate", **plain, images=3)]
    train(config, "b", load_from=str(tmp_path / "a/iter_2.pth"))
    task = load_task(tmp_path / "b/ewc.safetensors")
    # Statistics of batch norm have changed.
    model = build(config, tmp_path / "b/iter_2.pth")
    same_fisher(task.fisher, slow_fisher(model, voc_folder, range(0, 6, 2)))


def test_running_fisher_is_that_of_loops(fixed, train, tmp_path):
    # Without a step the gradient of each iteration is the same.
    fixed.optim_wrapper.optimizer.update(lr=0.0, weight_decay=0.0)
    fixed.custom_hooks = [hook("consolidate", fisher="running", include=["head"])]
    runner = train(fixed, "a", train_cfg__max_iters=3)
    task = load_task(tmp_path / "a/ewc.safetensors")
    assert (task.about["fisher"], task.about["images"]) == ("running", None)
    model = build(fixed, tmp_path / "a/iter_3.pth").train()
    data = model.data_preprocessor(next(iter(runner.train_dataloader)), True)
    losses = model(**data, mode="loss")
    sum(loss for name, loss in losses.items() if "loss" in name).backward()
    for name, param in model.named_parameters():
        assert (name in task.fisher) == ("head" in name)
        if "head" not in name:
            continue
        values = torch.ones_like(param)
        for _ in range(3):
            values = 0.9 * param.grad**2 + 0.1 * values
        low, high = values.min(), values.max()
        expected = (values - low) / (high - low + 1e-8)
        torch.testing.assert_close(task.fisher[name], expected, rtol=2e-3, atol=1e-4)


EMA = {
    "none, stopped early": (None, True),
    "averaged": (dict(), False),
    "averaged, stopped early": (dict(), True),
    "with buffers": (dict(update_buffers=True), True),
    "from the second iteration": (dict(begin_iter=2, update_buffers=True), False),
    "annealed": (dict(ema_type="MomentumAnnealingEMA", update_buffers=True), True),
    "at a priority": (dict(priority=49), False),
}


@pytest.mark.parametrize(("fields", "stop"), EMA.values(), ids=EMA)
def test_task_a_is_that_of_its_checkpoint(fixed, train, tmp_path, fields, stop):
    averaging = [] if fields is None else [ema(**fields)]
    # Before and after the hook: its place in the list must not matter.
    fixed.custom_hooks = [hook("consolidate"), *averaging]
    fixed.train_cfg.max_iters = 3
    if stop:
        fixed.custom_hooks = [*averaging, hook("consolidate"), dict(type=StopAt, at=3)]
        fixed.train_cfg.max_iters = 4
    runner = train(fixed, "a")
    state, trained = weights(tmp_path / "a/iter_3.pth"), runner.model.state_dict()
    task = load_task(tmp_path / "a/ewc.safetensors")
    assert task.about["iteration"] == 3
    equal = all(torch.equal(state[name], trained[name]) for name in task.anchor)
    assert equal == (fields is None)
    same(state, task.anchor)
    # The Fisher information too, with the checkpoint's statistics of batch norm.
    model, loader = build(fixed, tmp_path / "a/iter_3.pth"), runner.train_dataloader
    params, collate = dict(model.named_parameters()), loader.collate_fn
    options = dict(seed=3, num_workers=0, collate_fn=collate)
    expected, _ = measure_fisher(model, loader.dataset, params, **options)
    for name, values in expected.items():
        same_fisher({name: task.fisher[name]}, {name: values}, 1e-6 * values.max())


def test_channels_last_is_the_same_training(fixed, train, tmp_path):
    """The hook's order is kept by steps and resumption, and stays out of files."""
    # Torch 2.15 on a CPU with AVX2 alone damages memory where a 1 x 1 convolution of
    # stride 2 has fewer than eight channels in this order.
    fixed.model.backbone.strides = (1, 1, 2, 2)
    fixed.train_cfg.max_iters = 3
    train(fixed, "plain")
    fixed.default_hooks.channels_last = dict(type="mmwood.ChannelsLastHook")
    train(fixed, "last")
    plain, last = (weights(tmp_path / f"{n}/iter_3.pth") for n in ("plain", "last"))
    start = weights(tmp_path / "plain/iter_1.pth")
    for name, expected in plain.items():
        moved = float((expected - start[name]).abs().max())
        same_fisher({name: last[name]}, {name: expected}, 1e-3 * moved + 1e-6)
    plain, last = (
        load_task(tmp_path / f"{n}/ewc.safetensors").fisher for n in ("plain", "last")
    )
    for name, expected in plain.items():
        atol = 1e-2 * float(expected.max())
        same_fisher({name: last[name]}, {name: expected}, atol)
    # A network in the usual order takes the checkpoint; one in this order is resumed.
    build(fixed, tmp_path / "last/iter_3.pth")
    fixed.train_cfg.max_iters = 4
    model = train(fixed, "last", resume=True).model
    convolutions = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert not all(weight.is_contiguous() for weight in convolutions)
    for weight in convolutions:
        assert weight.is_contiguous(memory_format=torch.channels_last)


# -- task B -----------------------------------------------------------------
@pytest.mark.parametrize("later", [[], ["EMAHook"], ["mmpretrain.EMAHook"]], ids=str)
def test_task_b_takes_the_checkpoint_of_task_a_with_ema(fixed, train, tmp_path, later):
    train(fixed, "a", custom_hooks=[hook("consolidate"), ema()])
    changes = penalise(tmp_path / "a", weight=1e-6)
    changes["custom_hooks"] += [dict(type=name, momentum=0.3) for name in later]
    train(fixed, "b", **changes)
    assert "weights are not those" not in log_of(tmp_path / "b")
    assert logged(tmp_path / "b", "loss_ewc")[1] == 0


def test_penalty_in_log_and_gradient(fixed, task_a, train, tmp_path):
    train(fixed, "b", **penalise(task_a), train_cfg__max_iters=3)
    task = load_task(task_a / "ewc.safetensors")
    losses = logged(tmp_path / "b", "loss_ewc")
    states = {n: weights(tmp_path / f"b/iter_{n}.pth") for n in (1, 2, 3)}
    assert losses[1] == 0
    for n in (1, 2):
        expected = slow_penalty(task, states[n], 50.0)
        assert expected > 1e-6
        assert losses[n + 1] == pytest.approx(expected, rel=1e-4)
    total, *parts = (
        logged(tmp_path / "b", key)
        for key in ("loss", "decode.loss_sbce", "aux_0.loss_sbce", "loss_ewc")
    )
    for n in (1, 2, 3):
        assert total[n] == pytest.approx(sum(part[n] for part in parts), rel=1e-6)
    # A step from the same weights without the penalty differs by its gradient.
    start = str(tmp_path / "b/iter_1.pth")
    train(fixed, "free", load_from=start, custom_hooks=[], train_cfg__max_iters=1)
    expected = weights(tmp_path / "free/iter_1.pth")
    for name, importance in task.fisher.items():
        gradient = 50.0 * importance * (states[1][name] - task.anchor[name])
        expected[name] -= 0.1 * gradient
    expected = {name: expected[name] for name in task.fisher}
    same(states[2], expected, rtol=1e-5, atol=1e-6)


def test_penalty_under_autocast_modes_and_several_tasks(fixed, task_a, train):
    task = load_task(task_a / "ewc.safetensors")
    changes = penalise(task_a)
    changes["custom_hooks"] *= 2
    runner = train(fixed, "two", **changes)
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
    same(fisher, again)


@pytest.mark.cuda
def test_mixed_precision(fixed, task_a, train, tmp_path):
    train(fixed, "b", **penalise(task_a), optim_wrapper__type="AmpOptimWrapper")
    task = load_task(task_a / "ewc.safetensors")
    expected = slow_penalty(task, weights(tmp_path / "b/iter_1.pth"), 50.0)
    assert logged(tmp_path / "b", "loss_ewc")[2] == pytest.approx(expected, rel=1e-4)


class FailAt(Hook):
    """Ends a training by an error, once."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.at:
            self.at = -1
            raise KeyboardInterrupt


def test_a_second_training_of_a_process_has_one_penalty(fixed, task_a, build_runner):
    changes = penalise(task_a)
    changes["custom_hooks"].append(dict(type=FailAt, at=1))
    runner = build_runner(fixed, "b", **changes)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    runner.train()
    assert not runner.model._forward_hooks


def test_another_head_and_frozen_layers(fixed, task_a, train, tmp_path):
    fixed.model.decode_head.channels = 6
    fixed.model.backbone.frozen_stages = 1
    train(fixed, "b", **penalise(task_a, exclude=["^decode_head"]))
    task = load_task(task_a / "ewc.safetensors")
    held = [n for n in task.fisher if not n.startswith("decode_head")]
    task = ConsolidatedTask(*({n: d[n] for n in held} for d in task[:2]), task.about)
    expected = slow_penalty(task, weights(tmp_path / "b/iter_1.pth"), 50.0)
    assert logged(tmp_path / "b", "loss_ewc")[2] == pytest.approx(expected, rel=1e-4)


def test_another_start_is_said(fixed, task_a, train, tmp_path):
    text = "are not those that task A ended with: set load_from"
    changes = penalise(task_a)
    train(fixed, "b", **changes)
    assert text not in log_of(tmp_path / "b")
    changes["load_from"] = str(task_a / "iter_1.pth")
    train(fixed, "c", **changes)
    assert text in log_of(tmp_path / "c")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_weight_that_makes_sgd_diverge(fixed, task_a, train, momentum):
    fixed.optim_wrapper.optimizer.momentum = momentum
    task = load_task(task_a / "ewc.safetensors")
    largest = max(fisher.max().item() for fisher in task.fisher.values())
    bound = 2 * (1 + momentum) / 0.1 / largest

    # What the bound means, by torch's own SGD on the parabola of that parameter.
    for factor, grows in ((0.99, False), (1.01, True)):
        theta = torch.ones((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([theta], lr=0.1, momentum=momentum)
        for _ in range(3000):
            optimizer.zero_grad()
            (factor * bound / 2 * largest * theta**2).backward()
            optimizer.step()
        assert (abs(theta.item()) > 1) == grows

    train(fixed, "b", **penalise(task_a, weight=0.99 * bound))
    message = rf"SGD diverges at \S+, .*; expected less than {bound:.3g}"
    with pytest.raises(ValueError, match=message.replace("+0", r"\+0")):
        train(fixed, "c", **penalise(task_a, weight=1.01 * bound))
    # Adam scales its steps by the gradients' size.
    fixed.optim_wrapper.optimizer = dict(type="AdamW", lr=1e-5)
    train(fixed, "d", **penalise(task_a, weight=1.01 * bound))


# -- several processes ------------------------------------------------------
@pytest.mark.long
def test_two_processes_and_accumulation_do_what_a_large_batch_does(
    fixed, task_a, train, run_tool, tmp_path
):
    fixed.model.backbone.norm_eval = True
    # A mean over all pixels: images' weights differ, and what they ignore.
    use_loss(fixed, average="pixels", avg_non_ignore=False)
    fixed.merge_from_dict(penalise(task_a))
    fixed.train_dataloader.dataset.pop("indices")
    fixed.custom_hooks.append(dict(hook("consolidate"), num_workers=1))
    fixed.train_cfg.max_iters = 3
    train(fixed, "large")
    fixed.train_dataloader.batch_size = 1
    fixed.dump(tmp_path / "two.py")
    run_tool("dist_train.sh", "two.py", 2, "--work-dir", "two")
    fixed.optim_wrapper.accumulative_counts = 2
    train(fixed, "small", train_cfg__max_iters=6)
    task = load_task(tmp_path / "large/ewc.safetensors")
    large = weights(tmp_path / "large/iter_3.pth")
    for name, steps in (("two", 1), ("small", 2)):
        found = load_task(tmp_path / name / "ewc.safetensors")
        assert found.about == dict(task.about, iteration=3 * steps)
        same(found.fisher, task.fisher, rtol=1e-2, atol=1e-8)
        trained = {key: large[key] for key in task.fisher}
        same(weights(tmp_path / f"{name}/iter_{3 * steps}.pth"), trained, **CLOSE)
        penalties = logged(tmp_path / name, "loss_ewc")
        for n, value in logged(tmp_path / "large", "loss_ewc").items():
            assert penalties[n * steps] == pytest.approx(value, rel=1e-3, abs=1e-9)


@pytest.mark.long
def test_two_processes_measure_the_network_of_the_checkpoint(
    config, voc_folder, run_tool, tmp_path
):
    """Each has its own statistics of batch norm; five images are no even share."""
    config.train_dataloader.dataset.indices = 5
    config.custom_hooks = [hook("consolidate", pipeline=[LOAD, MASK, PACK])]
    config.dump(tmp_path / "two.py")
    run_tool("dist_train.sh", "two.py", 2, "--work-dir", "two")
    task = load_task(tmp_path / "two/ewc.safetensors")
    assert task.about["images"] == 5
    model = build(config, tmp_path / "two/iter_2.pth")
    same_fisher(task.fisher, slow_fisher(model, voc_folder, range(5)))


# -- both in one run --------------------------------------------------------
def test_switch_is_two_trainings_in_one(fixed, train, tmp_path):
    fixed.custom_hooks = [hook("switch", weight=50.0, switch_at=2)]
    runner = train(fixed, "switch", train_cfg__max_iters=4)
    assert runner.model.decode_head.loss_decode[0].size_balanced
    balanced = fixed.model.to_dict()
    stock = dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_name="loss_sbce")
    use_loss(fixed, **stock)
    train(fixed, "a", custom_hooks=[hook("consolidate")])
    fixed.model = balanced
    train(fixed, "b", **penalise(tmp_path / "a"))
    whole, parts = (
        load_task(tmp_path / f"{n}/ewc.safetensors") for n in ("switch", "a")
    )
    assert whole.about == parts.about
    same_fisher(whole.fisher, parts.fisher)
    same(whole.anchor, parts.anchor, **CLOSE)
    expected = weights(tmp_path / "b/iter_2.pth")
    expected = {name: expected[name] for name in parts.fisher}
    same(weights(tmp_path / "switch/iter_4.pth"), expected, **CLOSE)
    assert list(logged(tmp_path / "switch", "loss_ewc")) == [3, 4]
    for key in ("decode.loss_sbce", "aux_0.loss_sbce"):
        found = logged(tmp_path / "switch", key)
        for folder, start in (("a", 0), ("b", 2)):
            for n, value in logged(tmp_path / folder, key).items():
                assert found[start + n] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("buffers", [False, True])
def test_a_switch_with_ema_starts_from_its_anchor(fixed, train, tmp_path, buffers):
    """The anchor is where the optimizer is, so that the penalty starts at 0."""
    switch = hook("switch", weight=1e-6, switch_at=2)
    fixed.custom_hooks = [ema(update_buffers=buffers), switch]
    fixed.train_cfg.max_iters = 4
    train(fixed, "work")
    work = tmp_path / "work"
    anchor = load_task(work / "ewc.safetensors").anchor
    state = torch.load(work / "iter_2.pth", map_location="cpu", weights_only=False)
    # mmengine keeps what is trained there, and the average in its place.
    trained = {
        name.removeprefix("module."): v for name, v in state["ema_state_dict"].items()
    }
    same(trained, anchor)
    penalties = logged(work, "loss_ewc")
    assert penalties[3] == 0
    assert penalties[4] > 0
    expected = weights(work / "iter_4.pth")
    # Resumed after the switch, it is the same training.
    (work / "last_checkpoint").write_text(str(work / "iter_3.pth"))
    train(fixed, "work", resume=True)
    same(weights(work / "iter_4.pth"), expected, **CLOSE)


def test_a_running_fisher_is_resumed(fixed, train, tmp_path):
    fixed.custom_hooks = [hook("switch", weight=1e-3, switch_at=3, fisher="running")]
    train(fixed, "whole", train_cfg__max_iters=4)
    whole = tmp_path / "whole"
    state = torch.load(whole / "iter_4.pth", map_location="cpu", weights_only=False)
    assert "mmwood_running_fisher" not in state
    path = str(whole / "iter_2.pth")
    train(fixed, "parts", resume=True, load_from=path, train_cfg__max_iters=4)
    same(weights(tmp_path / "parts/iter_4.pth"), weights(whole / "iter_4.pth"))
    found, expected = (
        load_task(tmp_path / f"{name}/ewc.safetensors") for name in ("parts", "whole")
    )
    same(found.fisher, expected.fisher)
    # One that was not measured from the start on.
    fixed.custom_hooks = [hook("consolidate")]
    train(fixed, "other", train_cfg__max_iters=2)
    fixed.custom_hooks = [hook("consolidate", fisher="running")]
    path = str(tmp_path / "other/iter_1.pth")
    with pytest.raises(ValueError, match="not measured in the run that is resumed"):
        train(fixed, "refused", resume=True, load_from=path)


def test_switch_is_resumed_anywhere(fixed, train, tmp_path):
    # The random crops are drawn anew after a resume, so nothing is random here; what
    # the hook draws for itself is.
    crop = dict(type="RandomCrop", crop_size=(24, 24))
    fields = dict(weight=50.0, switch_at=2, pipeline=[LOAD, MASK, crop, PACK])
    fixed.custom_hooks = [hook("switch", **fields)]
    fixed.train_cfg.max_iters = 4
    fixed.randomness = dict(seed=None)
    train(fixed, "whole")
    expected = weights(tmp_path / "whole/iter_4.pth")
    own, other = tmp_path / "whole/ewc.safetensors", tmp_path / "other.safetensors"
    fisher, anchor = {"a": torch.ones(1)}, {"a": torch.zeros(1)}
    save_task(other, ConsolidatedTask(fisher, anchor, dict(iteration=7)))

    def resume(start: int, file: Path | None) -> Path:
        work = tmp_path / f"{start}_{file and file.stem}"
        work.mkdir()
        if file:
            shutil.copy(file, work / own.name)
        path = str(tmp_path / f"whole/iter_{start}.pth")
        train(fixed, work.name, resume=True, load_from=path)
        return work

    # Killed before the switch, with the file of another run in the way; killed between
    # the consolidation and the checkpoint; at the switch; after it.
    for start, file in ((1, other), (1, own), (2, own), (3, own)):
        work = resume(start, file)
        assert (work / own.name).read_bytes() == own.read_bytes()
        same(weights(work / "iter_4.pth"), expected)
    with pytest.raises(FileNotFoundError, match=r"EWCHook\.file: there is no file"):
        resume(3, None)
    with pytest.raises(ValueError, match="after 7 iterations, but switch_at is 2"):
        resume(3, other)


def test_a_switch_that_never_comes_is_said(fixed, train, tmp_path):
    hooks = [hook("switch", weight=0.1, switch_at=2), dict(type=StopAt, at=1)]
    train(fixed, "work", custom_hooks=hooks, train_cfg__max_iters=4)
    assert "stopped after 1 iterations, before switch_at=2" in log_of(tmp_path / "work")


# -- refusals ---------------------------------------------------------------
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
def test_a_task_that_does_not_fit(fixed, task_a, train, changes, message):
    with pytest.raises(ValueError, match=message):
        train(fixed, "b", **penalise(task_a), **changes)


STOCK = [dict(type="CrossEntropyLoss")]


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
            dict(model__decode_head__loss_decode=STOCK, model__auxiliary_head=None),
            "the model has none",
        ),
        (
            dict(mode="penalise", weight=1, file="fcn.py"),
            {},
            r"EWCHook\.file: fcn.py is no safetensors file",
        ),
    ],
)
def test_faults_are_named_before_training(
    fixed, train, tmp_path, monkeypatch, fields, changes, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        train(fixed, "a", custom_hooks=[hook(**fields)], **changes)
    assert not list(tmp_path.glob("a/*.pth"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(mode="penalize"), "mode must be 'consolidate', 'penalise' or 'switch'"),
        (dict(mode="consolidate", weight=1.0), "no use for a weight"),
        (dict(mode="penalise", file="a"), "needs a weight"),
        (dict(mode="penalise", weight=1.0), "needs the file"),
        (dict(mode="penalise", weight=-1.0, file="a"), "weight must be"),
        (dict(mode="penalise", weight=float("nan"), file="a"), "weight must be"),
        (dict(mode="switch", weight=1.0), "switch_at"),
        (dict(mode="switch", weight=1.0, switch_at=0), "switch_at must be an integer"),
        (dict(mode="consolidate", switch_at=3), "goes with mode 'switch'"),
        (dict(mode="consolidate", images=0), "images must be an integer of at least 1"),
        (dict(mode="consolidate", fisher="mean"), "fisher must be 'images' or"),
        (dict(mode="consolidate", fisher="running", images=3), "not go with images"),
        (
            dict(mode="penalise", weight=1.0, file="a", fisher="running"),
            "not go with mode 'penalise'",
        ),
        (dict(mode="consolidate", include="head"), "include must be a list"),
        (dict(mode="consolidate", exclude=["("]), "exclude must be a list of regular"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=f"^mmwood.EWCHook: .*{message}"):
        EWCHook(**fields)
