"""What is refused before the first step, and what is left out with a word."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

pytest.importorskip("mmpretrain")
pytest.importorskip("mmseg")

from mmwood.engine.runner import build_runner
from mmwood.fileio.labels import save_label_png

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


def run(cfg: Config, mode: str, build=build_runner):
    return getattr(build(cfg), mode)()


# The number of classes


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(
    "head",
    [
        dict(type="mmwood.CAMHead"),
        dict(type="mmwood.WOoDHead"),
        dict(type="MultiLabelLinearClsHead"),
    ],
    ids=lambda head: head["type"],
)
def test_classifiers_of_other_classes(load, small_config, head, mode):
    cfg = load(
        small_config,
        model__head=dict(num_classes=4, in_channels=64, **head),
        model__type="mmwood.CAMClassifier",
    )
    if head["type"] == "MultiLabelLinearClsHead":
        cfg.model.type = "ImageClassifier"
        cfg.model.neck = dict(type="GlobalAveragePooling")
    message = rf"model\.head\.num_classes is 4, but {mode}_dataloader\.dataset"
    with pytest.raises(ValueError, match=f"{message} has 3 classes"):
        run(cfg, mode)


@pytest.mark.parametrize("name", ["small_config", "wood_config"])
def test_mmpretrains_own_check_of_classes(load, request, name):
    config = request.getfixturevalue(name)
    changes = dict(
        custom_hooks=[dict(type="ClassNumCheckHook")], default_hooks__start_check=None
    )
    runner = build_runner(load(config, **changes))
    runner.train()
    runner.test()
    with pytest.raises(AssertionError, match=r"num_classes` \(4\)"):
        run(load(config, model__head__num_classes=4, **changes), "train")


def test_batch_augments_of_a_stock_classifier(load, wood_config):
    """Before the first step, which mixes only with some probability."""
    cfg = load(
        wood_config,
        model__type="ImageClassifier",
        model__head__distance_weight=0,
        model__train_cfg=dict(augments=dict(type="Mixup", alpha=1.0), probs=0.01),
        default_hooks__ood_clusters=None,
    )
    with pytest.raises(ValueError, match=r"model\.train_cfg\.augments .* mixes images"):
        run(cfg, "train")


def test_seam_and_test_time_augmentation_of_other_classes(load, small_config):
    cfg = load(
        small_config,
        model__head__num_classes=5,
        model__type="mmwood.SEAM",
        model__backbone__out_indices=(1, 2, 3),
    )
    cfg.model.update(pcm_in_channels=[16, 32], pcm_channels=[8, 8])
    tta = load(cfg, model=dict(type="mmwood.MultiScaleCAM", module=cfg.model))
    for config, mode in ((cfg, "train"), (tta, "test")):
        with pytest.raises(ValueError, match=r"model\.head\.num_classes is 5"):
            run(config, mode)


def test_ood_images_beside_a_head_of_other_classes(load, wood_config):
    cfg = load(wood_config, model__head__num_classes=5)
    with pytest.raises(ValueError, match=r"model\.head\.num_classes is 5"):
        run(cfg, "train")


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("head", ["decode_head", "auxiliary_head.0"])
def test_segmentation_heads_of_other_classes(load, segmentor_config, head, mode):
    cfg = load(segmentor_config)
    cfg.merge_from_dict({f"model.{head}.num_classes": 3})
    with pytest.raises(ValueError, match=rf"model\.{head}\.num_classes is 3"):
        run(cfg, mode)


def test_stock_runner_has_the_checks_of_our_configs(load, segmentor_config):
    cfg = load(segmentor_config, model__decode_head__num_classes=3)
    with pytest.raises(ValueError, match=r"model\.decode_head\.num_classes is 3"):
        run(cfg, "train", Runner.from_cfg)


def test_hooks_are_switched_off_by_name(load, small_config):
    off = ("start_check", "timer", "progress_bar", "checkpoint_guard")
    changes = {f"default_hooks__{name}": None for name in off}
    runner = build_runner(load(small_config, **changes))
    names = {type(hook).__name__ for hook in runner.hooks}
    off = {"StartCheckHook", "CheckpointGuardHook", "ProgressBarHook", "IterTimerHook"}
    assert not names & off
    assert {"PseudoLabelHook", "LoggerHook"} <= names


def test_configs_without_the_checks_get_them(load, small_config):
    runner = build_runner(load(small_config, default_hooks=None))
    names = [type(hook).__name__ for hook in runner.hooks]
    assert names.count("StartCheckHook") == names.count("CheckpointGuardHook") == 1


def test_bands_that_pillow_would_take_for_something_else(load, small_config):
    pytest.importorskip("rasterio")
    cfg = load(small_config)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.pipeline[0].bands = (1, 2)
        loader.dataset.pipeline.insert(
            1, dict(type="RandomResize", scale=(32, 32), backend="pillow")
        )
    for mode in ("train", "test"):
        message = rf"{mode}_dataloader\.dataset\.pipeline: Resize has backend='pillow'"
        with pytest.raises(ValueError, match=message):
            run(cfg, mode)


# Epochs


@pytest.mark.parametrize("schedule", [True, False], ids=["schedule", "constant"])
def test_fewer_images_than_a_batch(load, small_config, schedule):
    cfg = load(small_config, train_dataloader__batch_size=7)
    if not schedule:
        cfg.param_scheduler = None
    message = r"train_dataloader\.batch_size is 7, but the data set has 6 images"
    with pytest.raises(ValueError, match=message):
        run(cfg, "train")
    runner = build_runner(load(cfg, train_dataloader__drop_last=False))
    runner.train()
    assert runner.iter == 1


def test_infinite_sampler_fills_a_batch_with_few_images(load, segmentor_config):
    cfg = load(segmentor_config, train_dataloader__batch_size=7)
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 1


# Metrics and labels


@pytest.fixture
def untagged(load, small_config, voc_folder):
    def load_untagged(*metrics: str) -> Config:
        data = dict(
            type="mmwood.ImageLevelDataset",
            label_source="none",
            classes=["disc", "square", "stripe"],
            data_prefix=dict(img_path=str(voc_folder / "JPEGImages")),
            pipeline=load(small_config).test_pipeline,
        )
        return load(
            small_config,
            model__test_cfg=dict(cam_labels="predicted"),
            test_dataloader__dataset=data,
            test_evaluator=[dict(type=name) for name in metrics],
            train_dataloader__dataset=data,
        )

    return load_untagged


@pytest.mark.parametrize(
    "metric", ["AveragePrecision", "MultiLabelMetric", "mmwood.SeedMetric"]
)
def test_metrics_without_what_they_need_are_left_out(untagged, metric, tmp_path):
    runner = build_runner(untagged(metric))
    assert runner.test() == {}
    (log,) = Path(runner.log_dir).glob("*.log")
    name = metric.rpartition(".")[2]
    assert f"test_evaluator: {name} left out, because the data" in log.read_text()
    assert len(list((tmp_path / "work/pseudo_labels/labels").glob("*.png"))) == 6


def test_masks_are_enough_for_the_metric_of_masks(untagged, voc_folder):
    cfg = untagged("AveragePrecision", "mmwood.SeedMetric")
    masks = str(voc_folder / "SegmentationClass")
    cfg.test_dataloader.dataset.data_prefix.seg_map_path = masks
    assert "seed/mIoU" in run(cfg, "test")


def test_segmentation_metrics_without_masks(load, segmentor_config):
    steps = [dict(type=name) for name in ("LoadImageFromFile", "PackSegInputs")]
    cfg = load(segmentor_config, test_dataloader__dataset__pipeline=steps)
    del cfg.test_dataloader.dataset.data_prefix["seg_map_path"]
    assert run(cfg, "test") == {}


def test_training_without_labels(untagged):
    with pytest.raises(ValueError, match="label_source='none' gives images without"):
        run(untagged(), "train")


def test_training_on_images_that_show_no_class(untagged, voc_folder):
    cfg = untagged()
    names = sorted(path.name for path in (voc_folder / "JPEGImages").iterdir())
    tags = voc_folder / "tags.csv"
    cfg.train_dataloader.dataset.update(label_source="csv", ann_file=str(tags))
    resize = dict(type="Resize", scale=(32, 32))
    steps = [dict(type="mmwood.LoadImage"), resize, dict(type="PackInputs")]
    cfg.train_dataloader.dataset.pipeline = steps
    tags.write_text("image,labels\n" + "".join(f"{name},\n" for name in names))
    with pytest.raises(ValueError, match="none of 6 images shows a class"):
        run(cfg, "train")
    tags.write_text(f"image,labels\n{names[0]},\n{names[1]},disc\n")
    run(cfg, "train")


# Masks


MADE = ("disc", "square", "stripe")


@pytest.mark.parametrize(
    ("classes", "fits"),
    [
        (("background", *MADE), True),
        (("Background", *MADE), True),
        (("background", "square", "disc", "stripe"), False),
        (("background", "circle", "square", "stripe"), False),
        ((*MADE, "background"), False),
        ((*MADE, "grass"), False),
    ],
)
def test_classes_of_the_label_maps(load, segmentor_config, voc_folder, classes, fits):
    manifest = voc_folder / "manifest.json"
    content = dict(format="mmwood pseudo labels 1", classes=MADE)
    manifest.write_text(json.dumps(content))
    # The wrapper's data set is meant, too.
    cfg = load(
        segmentor_config, train_dataloader__dataset__metainfo__classes=list(classes)
    )
    data = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=data)
    if fits:
        run(cfg, "train")
        return
    with pytest.raises(ValueError, match=r"SegmentationClass are of \('background'"):
        run(cfg, "train")


def test_manifest_of_another_program(load, segmentor_config, voc_folder):
    content = dict(name="an application", classes=4)
    (voc_folder / "manifest.json").write_text(json.dumps(content))
    run(load(segmentor_config), "train")


# Schedules


def rates_of(cfg: Config) -> tuple[list[float], float]:
    """The learning rate of each step of a training, and the one of its config."""
    runner = build_runner(cfg)
    rates = []
    runner.model.register_forward_pre_hook(
        lambda *_: rates.append(runner.optim_wrapper.get_lr()["lr"][0])
    )
    runner.train()
    return rates, runner.optim_wrapper.param_groups[0]["initial_lr"]


@pytest.mark.parametrize("schedule", ["5e", "deeplabv2"])
@pytest.mark.parametrize("length", [1, 3])
def test_our_schedules_end_with_the_training(load, small_config, schedule, length):
    base = Config.fromfile(REPOSITORY / f"configs/_base_/schedule_{schedule}.py")
    cfg = load(small_config, default_hooks__pseudo_label=None)
    cfg.param_scheduler = base.param_scheduler
    cfg.train_cfg = dict(max_epochs=length, by_epoch=True)
    steps = 3 * length
    if schedule == "deeplabv2":
        cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps)
    rates, first = rates_of(cfg)
    expected = [first * (1 - step / (steps - 1)) ** 0.9 for step in range(steps)]
    assert rates == pytest.approx(expected, abs=1e-9)


POLY = dict(type="PolyLR", eta_min=0.0, begin=0)


@pytest.mark.parametrize(
    ("scheduler", "fits"),
    [
        (dict(POLY, end=2, by_epoch=True, convert_to_iter_based=True), False),
        (dict(POLY, end=2, by_epoch=True), False),
        (dict(POLY, end=4, by_epoch=False), False),
        (dict(type="CosineAnnealingLR", T_max=2, end=2), False),
        (dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=2), False),
        (dict(POLY, end=2, eta_min=1e-4), True),
        (dict(POLY, end=3), True),
        (dict(POLY, end=9), True),
        (dict(type="LinearLR", start_factor=0.1, end=1), True),
        (dict(type="MultiStepLR", milestones=[1]), True),
        (dict(type="CosineAnnealingMomentum", T_max=2, end=2), True),
    ],
    ids=str,
)
def test_rates_of_0_before_the_training_ends(load, small_config, scheduler, fits):
    cfg = load(small_config, train_cfg__max_epochs=3, param_scheduler=[scheduler])
    if fits:
        run(cfg, "train")
        return
    with pytest.raises(ValueError, match=f"{scheduler['type']} brings the rate to 0"):
        run(cfg, "train")


def test_resumed_training_follows_the_schedule_of_its_new_length(load, small_config):
    run(load(small_config), "train")
    rates, first = rates_of(load(small_config, train_cfg__max_epochs=3, resume=True))
    expected = [first * (1 - step / 8) ** 0.9 for step in range(3, 9)]
    assert rates == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("verb", ["train", "test"])
def test_masks_of_paint_programs(load, segmentor_config, voc_folder, verb):
    """Their objects are 255, which is void."""
    for path in (voc_folder / "SegmentationClass").glob("*.png"):
        mask = np.array(Image.open(path))
        save_label_png(np.where(mask > 0, 255, 0).astype(np.uint8), path)
    with pytest.raises(ValueError, match=rf"{verb}_dataloader.*none of 6 masks"):
        run(load(segmentor_config), verb)
    # One class is enough, and images may show none.
    save_label_png(np.full_like(mask, 2), path)
    run(load(segmentor_config), verb)
