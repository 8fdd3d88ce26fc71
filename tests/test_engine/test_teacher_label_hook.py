"""A teacher's labels in real trainings of stock MMSegmentation models."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import Tensor, nn
from torch.nn import functional as F

from mmwood.engine import TeacherLabelHook
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.functional.pamr import pamr

pytestmark = pytest.mark.slow

CLASSES = ["disc", "square", "stripe"]
EXACT = dict(rtol=0, atol=0)


@pytest.fixture
def config(stock_segmentor: Path, voc_folder: Path) -> Config:
    """Two images in each step, the first with biased pixels, and nothing random."""
    for number in range(0, 6, 2):
        path = voc_folder / f"SegmentationClass/image_{number}.png"
        mask = read_label_png(path)
        mask[10:26, 4:30] = 254
        save_label_png(mask, path)
    cfg = Config.fromfile(stock_segmentor, format_python_code=False)
    steps = cfg.train_dataloader.dataset.pipeline
    steps[2:4] = [dict(type="Resize", scale=(32, 32))]
    cfg.train_dataloader.dataset.indices = 2
    # As little as has batch norm.
    shape = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))
    cfg.model.backbone.update(shape)
    cfg.model.decode_head.update(dropout_ratio=0, in_channels=8, in_index=1)
    cfg.model.auxiliary_head[0].update(in_channels=4, channels=4, in_index=0)
    return cfg


@pytest.fixture
def train(build_runner) -> Callable[..., Runner]:
    """A whole training."""

    def train(config: Config, work_dir: str, *hooks: dict, **changes) -> Runner:
        runner = build_runner(config, work_dir, custom_hooks=[*hooks], **changes)
        runner.train()
        return runner

    return train


def teacher(**fields) -> dict:
    return dict(type="mmwood.TeacherLabelHook", **fields)


@HOOKS.register_module(force=True)
class Record(Hook):
    """Keeps what the loss is given, what the loader gave, and the weights at start."""

    priority = "LOWEST"

    def before_train(self, runner):
        self.start = {k: v.clone() for k, v in runner.model.state_dict().items()}
        self.inputs, self.labels, self.loaded = [], [], []
        hook = self._record
        self.handle = runner.model.register_forward_hook(hook, with_kwargs=True)

    def _record(self, model, args, kwargs, output):
        self.inputs.append(kwargs["inputs"])
        self.labels.append(labels_of(kwargs["data_samples"]))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.loaded.append(labels_of(data_batch["data_samples"]))

    def after_train(self, runner):
        self.handle.remove()


class FailAt(Hook):
    """Ends a training by an error, once."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.at:
            self.at = -1
            raise KeyboardInterrupt


def labels_of(samples: list) -> Tensor:
    return torch.cat([sample.gt_sem_seg.data for sample in samples])


def recorded(runner: Runner) -> Record:
    (record,) = (hook for hook in runner.hooks if isinstance(hook, Record))
    return record


def checkpoint(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=False)


def teacher_state(path: Path) -> dict[str, Tensor]:
    state = checkpoint(path)["mmwood_teacher"]
    return {k.removeprefix("module."): v for k, v in state.items() if k != "steps"}


def same(found: dict, expected: dict, **tolerances) -> None:
    assert set(found) == set(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, **(tolerances or EXACT))


def logged(work_dir: Path, key: str) -> dict[int, float]:
    paths = sorted(work_dir.glob("*/vis_data/scalars.json"))
    rows = [json.loads(line) for p in paths for line in p.read_text().splitlines()]
    return {row["step"]: row[key] for row in rows if key in row}


def slow_average(states: list[dict], momentum: float) -> dict[str, Tensor]:
    """Of networks after each step, in double precision."""
    average = {}
    for number, state in enumerate(states, 1):
        weight = max(momentum, 1 / number)
        for name, values in state.items():
            if not values.is_floating_point():
                average.setdefault(name, values)
                continue
            values = values.double()
            average[name] = (1 - weight) * average.get(name, values) + weight * values
    return {
        name: values.float() if values.is_floating_point() else values
        for name, values in average.items()
    }


@torch.no_grad()
def slow_probabilities(config: Config, state: dict, inputs: Tensor) -> Tensor:
    """One image at a time through a network of its own."""
    init_default_scope("mmseg")
    model = MODELS.build(config.model).eval()
    model.load_state_dict(state)
    scores = [model.decode_head(model.backbone(image[None])) for image in inputs]
    scores = [F.interpolate(s, inputs.shape[2:], mode="bilinear") for s in scores]
    return torch.cat(scores).softmax(dim=1)


# -- the teacher and its labels ----------------------------------------------
def test_teacher_and_labels_are_those_of_loops(config, train, tmp_path):
    hooks = teacher(certainty="none", momentum=0.4), dict(type="Record")
    record = recorded(train(config, "work", *hooks, train_cfg__max_iters=5))
    work = tmp_path / "work"
    states = [checkpoint(work / f"iter_{n}.pth")["state_dict"] for n in range(1, 6)]
    teachers = [record.start]
    for n in range(1, 6):
        teachers.append(teacher_state(work / f"iter_{n}.pth"))
        expected = slow_average(states[:n], 0.4)
        same(teachers[-1], expected, rtol=1e-5, atol=1e-6)
    apart = (teachers[-1][n] - v for n, v in states[-1].items() if n.endswith("weight"))
    assert any(difference.abs().max() > 1e-3 for difference in apart)
    given_back, left_out = (
        logged(work, f"teacher_{name}") for name in ("given_back", "left_out")
    )
    for n, (state, inputs, labels, loaded) in enumerate(
        zip(teachers, record.inputs, record.labels, record.loaded), 1
    ):
        biased = loaded == 254
        assert biased[0].any()
        assert not biased[1].any()
        assert torch.equal(labels[~biased], loaded[~biased])
        found = slow_probabilities(config, state, inputs).argmax(dim=1)
        assert torch.equal(labels[biased], found[biased])
        share = (found[biased] > 0).float().mean().item()
        assert given_back[n] == pytest.approx(share, abs=1e-4)
        assert left_out[n] == 0


def test_pixels_are_kept_with_the_probability_of_tags(
    config, train, voc_folder, tmp_path
):
    """Tags of the map before filtering, in which a class is that the other lacks."""
    before = tmp_path / "before"
    before.mkdir()
    label = np.zeros((40, 48), dtype=np.uint8)
    label[0], label[1], label[2] = 1, 3, 255
    save_label_png(label, before / "image_0.png")
    config.model.backbone.norm_eval = True
    hooks = teacher(momentum=0.4, tag_dir=str(before)), dict(type="Record")
    runner = train(config, "work", *hooks, train_cfg__max_iters=12)
    record, kept, expected, variance = recorded(runner), 0, 0.0, 0.0
    for n in range(1, 12):
        state = teacher_state(tmp_path / f"work/iter_{n}.pth")
        biased = record.loaded[n] == 254
        p = slow_probabilities(config, state, record.inputs[n])
        labels, found = (maps[biased] for maps in (record.labels[n], p.argmax(dim=1)))
        left_out = labels == 255
        assert torch.equal(labels[~left_out], found[~left_out])
        w = torch.maximum(p[:, 1], p[:, 3])[biased]
        kept += int((~left_out).sum())
        expected += float(w.sum())
        variance += float((w * (1 - w)).sum())
        share = logged(tmp_path / "work", "teacher_left_out")[n + 1]
        assert share == pytest.approx(left_out.float().mean().item(), abs=1e-4)
    assert variance > 100
    assert abs(kept - expected) < 4 * variance**0.5


def test_tags_of_the_whole_map(config, train, voc_folder):
    """A map that the filter took all classes of counts as one of all classes."""
    runner = train(config, "work", teacher())
    (hook,) = (h for h in runner.hooks if isinstance(h, TeacherLabelHook))
    batch = runner.train_dataloader.dataset[0], runner.train_dataloader.dataset[1]
    samples = [item["data_samples"] for item in batch]
    tags = hook._image_tags(samples, 4)
    # Image 1 shows its own class and the next.
    assert tags.tolist() == [[False, True, False, False], [False, False, True, True]]
    samples[0].set_metainfo(dict(seg_map_path=None))
    assert not hook._image_tags(samples, 4)[0].any()


def test_refined_by_pamr_on_images_of_any_unit(config, train, tmp_path):
    options = dict(iterations=3, dilations=[1, 3])
    config.optim_wrapper.optimizer.lr = 0.0
    hook = teacher(certainty="none", refine=dict(method="pamr", **options))
    runner = train(config, "work", hook, dict(type="Record"))
    record = recorded(runner)
    state = teacher_state(tmp_path / "work/iter_1.pth")
    p = slow_probabilities(config, state, record.inputs[1])
    # The images themselves, as they are on disk but for their size.
    pixels = 127.5 * record.inputs[1] + 127.5
    refined = pamr(pixels.round().double(), p.double(), **options)
    biased = record.loaded[1] == 254
    plain, found = (maps.argmax(dim=1)[biased] for maps in (p, refined))
    assert torch.equal(record.labels[1][biased], found)
    assert not torch.equal(plain, found)


def test_begin_and_other_values(config, train, tmp_path):
    hook = teacher(certainty="none", begin_iter=2, values=[7, 254])
    runner = train(config, "work", hook, dict(type="Record"), train_cfg__max_iters=4)
    record = recorded(runner)
    biased = record.loaded[0] == 254
    for n, labels in enumerate(record.labels):
        assert (labels[biased] == 255).all() == (n < 2)
    assert logged(tmp_path / "work", "teacher_left_out") == {1: 1, 2: 1, 3: 0, 4: 0}


# -- nothing else changes ----------------------------------------------------
def test_the_network_itself_stays_as_it_is(config, train, voc_folder, tmp_path):
    """Without a step of the optimizer batch norm is that of images alone."""
    config.optim_wrapper.optimizer.lr = 0.0
    config.model.decode_head.dropout_ratio = 0.5
    runner = train(config, "taught", teacher())
    assert not runner.model._forward_pre_hooks
    after = torch.get_rng_state()
    for path in (voc_folder / "SegmentationClass").glob("*.png"):
        mask = read_label_png(path)
        mask[mask == 254] = 255
        save_label_png(mask, path)
    train(config, "plain")
    assert torch.equal(torch.get_rng_state(), after)
    taught, plain = (
        checkpoint(tmp_path / f"{name}/iter_2.pth")["state_dict"]
        for name in ("taught", "plain")
    )
    same(taught, plain)


def test_modes_autocast_and_compilation(config, train):
    runner = train(config, "work", teacher(certainty="none"), dict(type="Record"))
    model, record = runner.model, recorded(runner)
    hook = TeacherLabelHook(certainty="none")
    hook.attach(model)
    batch = next(iter(runner.train_dataloader))
    data = model.data_preprocessor(batch, True)
    plain = model(data["inputs"], data["data_samples"], "loss")
    record.before_train(runner)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(**data, mode="loss")
        assert model(**data, mode="tensor").dtype == torch.bfloat16
    assert record.labels[0].dtype == torch.int64
    assert (record.labels[0] < 255).sum() == (
        labels_of(data["data_samples"]) < 255
    ).sum()
    for name, loss in plain.items():
        torch.testing.assert_close(half[name].float(), loss, rtol=0.1, atol=5.0)
    step = torch.compile(partial(model, mode="loss"), backend="eager")
    for name, loss in step(**data).items():
        torch.testing.assert_close(loss, plain[name])
    # Labels of tests are no business of a teacher.
    model.eval()
    (sample, _) = model(**data, mode="predict")
    assert (sample.gt_sem_seg.data == 254).any()


@pytest.mark.cuda
def test_mixed_precision(config, train, tmp_path):
    hook = teacher(refine=dict(method="pamr"))
    train(config, "amp", hook, optim_wrapper__type="AmpOptimWrapper")
    assert set(logged(tmp_path / "amp", "teacher_left_out")) == {1, 2}


def test_channels_last_is_the_same_training(config, train, tmp_path):
    hooks = teacher(certainty="none"), dict(type="Record")
    plain = recorded(train(config, "plain", *hooks))
    last = dict(type="mmwood.ChannelsLastHook")
    other = recorded(train(config, "last", *hooks, default_hooks__channels_last=last))
    for labels, expected in zip(other.labels, plain.labels):
        assert (labels != expected).float().mean() < 0.005
    found, expected = (
        teacher_state(tmp_path / f"{name}/iter_2.pth") for name in ("last", "plain")
    )
    same(found, expected, rtol=1e-3, atol=1e-4)


def test_a_copy_with_checkpointing_does_not_run_the_network(config):
    """mmengine wraps the methods of modules, which copies of them would call."""
    init_default_scope("mmseg")
    model = MODELS.build(config.model)
    turn_on_activation_checkpointing(model, ["backbone.layer2", "decode_head"])
    hook = TeacherLabelHook()
    hook.attach(model)
    inputs = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = hook._probabilities(inputs)
        for param in model.parameters():
            param.zero_()
        after = hook._probabilities(inputs)
    torch.testing.assert_close(after, before, **EXACT)


# -- resuming, other hooks, several processes --------------------------------
@pytest.mark.parametrize("later", [[], ["EMAHook"]], ids=str)
def test_a_resumed_training_is_the_same(config, train, tmp_path, later):
    config.train_cfg.max_iters = 4
    config.randomness = dict(seed=None)
    averaging = [dict(type=name, momentum=0.3) for name in later]
    hooks = teacher(refine=dict(method="pamr", iterations=1)), *averaging
    train(config, "whole", *hooks)
    whole = tmp_path / "whole"
    train(config, "parts", *hooks, resume=True, load_from=str(whole / "iter_2.pth"))
    found, expected = (
        checkpoint(tmp_path / f"{name}/iter_4.pth") for name in ("parts", "whole")
    )
    for key in ("state_dict", "mmwood_teacher", *["ema_state_dict"][: len(later)]):
        same(found[key], expected[key])
    if later:
        # Neither average is the other.
        name = "decode_head.conv_seg.weight"
        teachers = expected["mmwood_teacher"][f"module.{name}"]
        assert not torch.equal(teachers, expected["state_dict"][name])


def test_a_training_that_had_no_teacher(config, train, voc_folder, tmp_path):
    train(config, "first", teacher(values=[254, 9]))
    path = tmp_path / "first/iter_1.pth"
    # Loaded, not resumed: it begins with a teacher of its own.
    runner = train(config, "second", teacher(), load_from=str(path))
    state = checkpoint(path)
    del state["mmwood_teacher"]
    torch.save(state, path)
    with pytest.raises(ValueError, match="the training that is resumed had no teacher"):
        train(config, "third", teacher(), resume=True, load_from=str(path))
    assert not runner.model._forward_pre_hooks


def test_a_second_training_of_a_process_goes_on(config, build_runner, tmp_path):
    hooks = [teacher(certainty="none"), dict(type=FailAt, at=2)]
    config.train_cfg.max_iters = 4
    runner = build_runner(config, "work", custom_hooks=hooks)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    runner.train()
    assert not runner.model._forward_pre_hooks
    assert checkpoint(tmp_path / "work/iter_4.pth")["mmwood_teacher"]["steps"] == 4


def test_ewc_measures_with_the_same_labels(config, train, tmp_path):
    """Its loss of training images after the last step meets biased pixels, too."""
    ewc = dict(type="mmwood.EWCHook", mode="consolidate", num_workers=0)
    train(config, "work", ewc, teacher())
    assert (tmp_path / "work/ewc.safetensors").is_file()


def test_accumulation_is_a_large_batch(config, train, tmp_path):
    config.model.backbone.norm_eval = True
    for head in (config.model.decode_head, config.model.auxiliary_head[0]):
        loss = dict(type="CrossEntropyLoss", loss_weight=1.0)
        head.update(loss_decode=loss)
    hook = teacher(certainty="none", momentum=0.4)
    train(config, "large", hook, train_cfg__max_iters=3)
    config.train_dataloader.batch_size = 1
    config.optim_wrapper.accumulative_counts = 2
    train(config, "small", hook, train_cfg__max_iters=6)
    found, expected = (
        teacher_state(tmp_path / name)
        for name in ("small/iter_6.pth", "large/iter_3.pth")
    )
    weights = {n for n in expected if n.endswith(("weight", "bias"))}
    found, expected = ({n: d[n] for n in weights} for d in (found, expected))
    same(found, expected, rtol=1e-4, atol=1e-5)


RECORD = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Save(Hook):
    priority = "LOWEST"
    def before_train(self, runner):
        assert is_model_wrapper(runner.model)
        self.labels = []
        runner.model.module.register_forward_hook(self.keep, with_kwargs=True)
    def keep(self, model, args, kwargs, output):
        labels = [s.gt_sem_seg.data for s in kwargs["data_samples"]]
        self.labels.append(torch.cat(labels))
    def after_run(self, runner):
        (hook,) = (h for h in runner.hooks if hasattr(h, "certainty"))
        state = hook._teacher.state_dict()
        torch.save((self.labels, state), f"rank_{get_rank()}.pt")
"""


def test_two_processes(config, run_tool, tmp_path):
    """Equal teachers of the common weights, and random numbers of their own."""
    (tmp_path / "save_labels.py").write_text(RECORD)
    config.custom_imports = dict(imports=["save_labels"])
    config.custom_hooks = [teacher(momentum=0.4), dict(type="Save")]
    # Both see the one image.
    config.train_dataloader.update(batch_size=1)
    config.train_dataloader.dataset.indices = 1
    config.model.backbone.norm_eval = True
    config.train_cfg.max_iters = 3
    config.dump(tmp_path / "two.py")
    run_tool("dist_train.sh", "two.py", 2, "--work-dir", "two")
    (labels, first), (others, second) = (
        torch.load(tmp_path / f"rank_{rank}.pt", weights_only=False)
        for rank in range(2)
    )
    weights = {n for n in first if n.endswith(("weight", "bias"))}
    same({n: second[n] for n in weights}, {n: first[n] for n in weights})
    states = [
        checkpoint(tmp_path / f"two/iter_{n}.pth")["state_dict"] for n in range(1, 4)
    ]
    found = teacher_state(tmp_path / "two/iter_3.pth")
    same(found, slow_average(states, 0.4), rtol=1e-5, atol=1e-6)
    for own, other in zip(labels, others):
        # They agree about labels, and each leaves out its own.
        left_out, differ = (own == 255) | (other == 255), own != other
        assert differ.any()
        assert left_out[differ].all()
    assert not torch.equal(labels[1] == 255, labels[2] == 255)


# -- refusals ----------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(certainty="max"), "certainty must be 'foreground', 'argmax' or 'none'"),
        (dict(momentum=1), "momentum must be between 0 and 1, but is 1"),
        (dict(begin_iter=-1), "begin_iter must be an integer of at least 0"),
        (dict(values=[]), r"values must be a list of labels, got \[\]"),
        (dict(values=254), "values must be a list of labels, got 254"),
        (dict(values=[255]), "values must be .* below 255, but is 255"),
        (dict(values=[0]), "values must be an integer of at least 1"),
        (dict(refine=dict(method="crf")), "refine.method must be 'pamr' or None"),
        (dict(certainty="none", tag_dir="a"), "has no use for a tag_dir"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=f"^mmwood.TeacherLabelHook: .*{message}"):
        TeacherLabelHook(**fields)


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        (dict(values=[3]), {}, "values has 3, which is a class: .*num_classes is 4"),
        (dict(tag_dir="nowhere"), {}, "tag_dir: there is no folder nowhere"),
        (
            {},
            dict(train_dataloader__dataset__reduce_zero_label=True),
            "label 0 must be background, which reduce_zero_label",
        ),
        (
            {},
            dict(
                train_dataloader__dataset__type="PascalVOCDataset",
                train_dataloader__dataset__ann_file="ImageSets/Segmentation/train.txt",
                train_dataloader__dataset__metainfo=dict(
                    classes=["background", "aeroplane", "bird", "boat"]
                ),
            ),
            "metainfo.classes of train_dataloader.dataset selects some",
        ),
        (
            {},
            dict(model__decode_head__out_channels=1, model__decode_head__num_classes=2),
            "take out_channels=1 out",
        ),
    ],
)
def test_faults_are_named_before_training(
    config, train, tmp_path, fields, changes, message
):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(config, "work", teacher(**fields), **changes)
    assert not list(tmp_path.glob("work/*.pth"))


def test_models_without_logits():
    hook = TeacherLabelHook()
    message = "needs an EncoderDecoder .*, which Conv2d with NoneType is not"
    with pytest.raises(ValueError, match=message):
        hook.attach(nn.Conv2d(1, 1, 1))


def test_a_map_that_tag_dir_lacks(config, train, tmp_path):
    message = "there is no label map .*image_0.png"
    with pytest.raises(FileNotFoundError, match=message):
        train(config, "work", teacher(tag_dir=str(tmp_path)))
