"""OoD images in mmseg's pipelines, batches, trainings and tests."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.runner import Runner

pytest.importorskip("mmpretrain")
pytest.importorskip("mmseg")

from mmengine.registry import init_default_scope

from mmwood.datasets import OoDBackgroundDataset, OoDMixDataset, UniformLabel
from mmwood.engine.runner import build_runner, save_results, use_tta

CLASSES = ("background", "disc", "square", "stripe")
LOAD = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
TRAIN = [
    *LOAD,
    dict(type="mmwood.RandomSoften", scale=(12, 16), prob=0.5),
    dict(type="RandomResize", scale=(48, 48), ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(32, 32)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
TEST = [*LOAD, dict(type="PackSegInputs")]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmseg")


def labelled(root: Path, **kwargs) -> dict:
    return dict(
        type="BaseSegDataset",
        metainfo=dict(classes=CLASSES),
        ann_file=str(root / "ImageSets/Segmentation/train.txt"),
        data_root=str(root),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        img_suffix=".jpg",
        serialize_data=False,
        **kwargs,
    )


def background(folder: Path, **kwargs) -> dict:
    return dict(
        type="mmwood.OoDBackgroundDataset",
        data_root=str(folder),
        ann_file="ood.csv",
        serialize_data=False,
        **kwargs,
    )


def mixture(root: Path, folder: Path, pipeline: list, **kwargs) -> dict:
    return dict(
        type="mmwood.OoDMixDataset",
        in_distribution=labelled(root),
        ood=background(folder, **kwargs),
        pipeline=pipeline,
    )


def build(config: dict) -> OoDMixDataset:
    return Runner.build_dataloader(
        dict(
            dataset=config,
            batch_size=1,
            sampler=dict(type="DefaultSampler", shuffle=False),
        )
    ).dataset


def test_labels_of_both_kinds(voc_folder, folder):
    dataset = build(mixture(voc_folder, folder, TEST))
    assert len(dataset) == 9
    for number in range(9):
        sample = dataset[number]["data_samples"]
        label = sample.gt_sem_seg.data
        assert tuple(label.shape[1:]) == sample.ori_shape
        assert sample.is_ood == (number >= 6)
        assert bool((label == 0).all()) == (number >= 6)
    # The pipeline of the others still reads files.
    assert dataset[0]["data_samples"].seg_map_path.endswith("image_0.png")
    dataset = build(mixture(voc_folder, folder, TRAIN))
    for _ in range(3):
        for number in range(6, 9):
            data = dataset[number]
            assert data["inputs"].shape[1] <= 32
            label = data["data_samples"].gt_sem_seg.data
            assert label.shape[1:] == data["inputs"].shape[1:]
            assert not label.any()


def test_transforms_within_others(folder):
    flips = [dict(type="mmwood.RandomFlip", prob=prob) for prob in (0.0, 1.0)]
    views = [flips, [dict(type="LoadAnnotations")], [dict(type="PackSegInputs")]]
    steps = [LOAD[0], dict(type="TestTimeAug", transforms=views)]
    dataset = OoDBackgroundDataset(
        "ood.csv", str(folder), pipeline=steps, label=255, serialize_data=False
    )
    samples = dataset[0]["data_samples"]
    assert len(samples) == 2
    assert all((sample.gt_sem_seg.data == 255).all() for sample in samples)

    chosen = dict(
        type="RandomChoice", transforms=[[LOAD[1]], [dict(type="LoadAnnotations")]]
    )
    shared = Compose([LOAD[0], dict(type="RandomApply", transforms=[chosen], prob=1)])
    dataset.pipeline = shared
    assert (dataset[1]["gt_seg_map"] == 255).all()
    # That of others, which share it, is as it was.
    assert "LoadAnnotations" in repr(shared)
    assert "UniformLabel" not in repr(shared)
    dataset.pipeline = Compose([LOAD[0], UniformLabel()])
    assert (dataset[1]["gt_seg_map"] == 255).all()


def test_refusals(voc_folder, folder):
    dataset = build(mixture(voc_folder, folder, LOAD[:1]))
    with pytest.raises(ValueError, match="its pipeline has no LoadAnnotations"):
        dataset.ood[0]
    other = mixture(voc_folder, folder, TEST)
    other["in_distribution"]["metainfo"] = dict(classes=["disc", "square", "stripe"])
    with pytest.raises(ValueError, match=r"label 0 is 'disc', not 'background'"):
        build(other)
    renamed = mixture(voc_folder, folder, TEST, background="ground")
    renamed["in_distribution"]["metainfo"] = dict(classes=["ground", *CLASSES[1:]])
    assert len(build(renamed)) == 9
    renamed["in_distribution"]["metainfo"] = dict(classes=["ground", *CLASSES[1:3]])
    with (folder / "ood.csv").open("a") as file:
        file.write("e.jpg,stripe,0.5,1,kept,\n")
    with pytest.raises(ValueError, match=r"unknown classes.*\n.*ood\.csv:11: 'stripe'"):
        build(renamed)
    with pytest.raises(ValueError, match="label must be 0 or 255, but is 3"):
        OoDBackgroundDataset("ood.csv", str(folder), label=3)
    with pytest.raises(ValueError, match=r"UniformLabel: label must be an integer"):
        UniformLabel(label=256)


def config(root: Path, folder: Path, name: str, **options) -> Config:
    """A small segmentor, trained on both kinds of images and tested on both."""
    val = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=mixture(root, folder, TEST, label=255),
    )
    cfg = Config(
        dict(
            default_scope="mmseg",
            launcher="none",
            work_dir=str(root / name),
            experiment_name=f"{root.name}_{name}",
            model=dict(
                type="EncoderDecoder",
                data_preprocessor=dict(
                    type="SegDataPreProcessor", size=(32, 32), seg_pad_val=255
                ),
                backbone=dict(
                    type="ResNet", depth=18, stem_channels=4, base_channels=4
                ),
                decode_head=dict(
                    type="FCNHead",
                    num_classes=4,
                    in_channels=32,
                    in_index=3,
                    channels=4,
                    num_convs=1,
                    norm_cfg=dict(type="BN"),
                ),
                test_cfg=dict(mode="whole"),
            ),
            train_dataloader=dict(
                batch_size=3,
                num_workers=0,
                drop_last=True,
                sampler=dict(
                    type="mmwood.OoDFractionSampler", batch_size=3, fraction=0.2
                ),
                dataset=mixture(root, folder, TRAIN),
                collate_fn=dict(type="pseudo_collate"),
            ),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=5),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
            test_dataloader=val,
            test_cfg=dict(type="TestLoop"),
            test_evaluator=dict(
                type="mmwood.NamedEvaluator",
                metrics=dict(
                    iou=dict(type="IoUMetric", iou_metrics=["mIoU"]),
                    ia_iou=dict(type="mmwood.IAIoUMetric"),
                    false_positives=dict(type="mmwood.FalsePositiveMetric"),
                ),
            ),
            tta_model=dict(type="mmwood.SegTTAModel"),
            tta_pipeline=[
                LOAD[0],
                dict(
                    type="TestTimeAug",
                    transforms=[
                        [dict(type="mmwood.RandomFlip", prob=p) for p in (0.0, 1.0)],
                        [LOAD[1]],
                        [dict(type="PackSegInputs")],
                    ],
                ),
            ],
            default_hooks=dict(
                checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2),
            ),
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=3),
        )
    )
    cfg.merge_from_dict(options)
    return cfg


def train(cfg: Config) -> list[list[tuple[str, bool, bool]]]:
    """Train; gives name, kind and whether a label is not background, of each step."""
    runner = build_runner(cfg)
    steps = []
    model, forward = runner.model, runner.model.forward

    def record(inputs, data_samples=None, mode="tensor"):
        steps.append(
            [
                (
                    Path(sample.img_path).stem,
                    sample.is_ood,
                    bool((sample.gt_sem_seg.data % 255).any()),
                )
                for sample in data_samples
            ]
        )
        return forward(inputs, data_samples, mode)

    model.forward = record
    runner.train()
    return steps


@pytest.mark.slow
def test_trainings_and_a_resumed_one(voc_folder, folder):
    whole = train(config(voc_folder, folder, "whole"))
    assert len(whole) == 5
    # floor(0.6 n) OoD images after n steps.
    counts = [sum(is_ood for _, is_ood, _ in step) for step in whole]
    assert counts == [0, 1, 0, 1, 1]
    for name, is_ood, shows_class in (image for step in whole for image in step):
        assert is_ood == (name in "acd")
        assert not (is_ood and shows_class)
    rest = train(
        config(
            voc_folder,
            folder,
            "rest",
            resume=True,
            load_from=str(voc_folder / "whole/iter_2.pth"),
        )
    )
    names = [[(name, is_ood) for name, is_ood, _ in step] for step in whole]
    assert [[(n, o) for n, o, _ in step] for step in rest] == names[2:]
    with pytest.raises(ValueError, match=r"batch_size is 4, .* batches of 3 images"):
        train(config(voc_folder, folder, "wrong", **{"train_dataloader.batch_size": 4}))


@pytest.mark.slow
@pytest.mark.parametrize("tta", [False, True])
def test_one_test_of_both_kinds(voc_folder, folder, tta):
    """The mIoU is that of the masked images alone; all else is of the OoD ones."""
    cfg = config(voc_folder, folder, "both")
    alone = config(voc_folder, folder, "alone")
    alone.test_dataloader.dataset = dict(**labelled(voc_folder), pipeline=TEST)
    alone.test_evaluator.metrics.false_positives = None
    expected, found = {}, {}
    for part, metrics in ((alone, expected), (cfg, found)):
        if tta:
            use_tta(part)
        save_results(part)
        runner = build_runner(part)
        torch.manual_seed(0)
        for weight in runner.model.parameters():
            torch.nn.init.normal_(weight, std=0.5)
        metrics.update(runner.test())
    assert {"mIoU", "IA-mIoU"} < set(expected)
    assert found == pytest.approx(
        {**expected, **{key: found[key] for key in ("FP_pixels", "FP_images")}},
        nan_ok=True,
    )
    content = json.loads(Path(cfg.work_dir, "false_positives.json").read_text())
    assert content["num_images"] == 3
    assert content["num_pixels"] == 3 * 20 * 24
    assert found["FP_pixels"] == content["pixels"] > 0
    pixels = [part["pixel_count"] for part in content["classes"].values()]
    assert sum(pixels) == content["pixel_count"]
    assert np.isclose(content["pixels"], 100 * sum(pixels) / (3 * 480), atol=1e-4)
