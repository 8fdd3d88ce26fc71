import shutil
from pathlib import Path

import pytest
from mmengine.dataset import ConcatDataset
from mmengine.runner import Runner

pytest.importorskip("mmpretrain")

from mmwood.datasets import ImageLevelDataset, OoDDataset, OoDMixDataset

CLASSES = ["disc", "square", "stripe"]


def names_of(dataset) -> str:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return " ".join(info["img_id"] for info in infos)


def labelled(root: Path, **kwargs) -> dict:
    """The config of the in-distribution data set."""
    options = dict(
        type="mmwood.ImageLevelDataset",
        ann_file="ImageSets/Segmentation/train.txt",
        label_source="mask",
        classes=CLASSES,
        data_root=str(root),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        serialize_data=False,
    )
    return {**options, **kwargs}


def unlabelled(root: Path, **kwargs) -> dict:
    """The config of the OoD data set."""
    return dict(
        type="mmwood.OoDDataset",
        ann_file="ood.csv",
        data_root=str(root),
        serialize_data=False,
        **kwargs,
    )


def pipeline(side: int) -> list[dict]:
    return [
        dict(type="mmwood.LoadImage"),
        dict(type="mmpretrain.Resize", scale=(side, side)),
        dict(type="mmpretrain.PackInputs", meta_keys=["img_id"]),
    ]


def test_mixture(voc_folder, folder):
    mixture = OoDMixDataset(
        in_distribution=labelled(voc_folder), ood=unlabelled(folder)
    )
    assert len(mixture) == 9
    assert mixture.num_in == 6
    assert isinstance(mixture.in_distribution, ImageLevelDataset)
    assert isinstance(mixture.ood, OoDDataset)
    assert mixture.metainfo["classes"] == tuple(CLASSES)
    assert names_of(mixture).split() == [f"image_{i}" for i in range(6)] + [*"adc"]
    same = OoDMixDataset(mixture.in_distribution, mixture.ood)
    assert names_of(same) == names_of(mixture)
    late = OoDMixDataset(
        labelled(voc_folder, lazy_init=True),
        unlabelled(folder, lazy_init=True),
        lazy_init=True,
    )
    assert not late.ood._fully_initialized
    assert late.metainfo["classes"] == tuple(CLASSES)
    late.full_init()
    assert names_of(late) == names_of(mixture)


def test_mixture_of_wrapped_parts(voc_folder, folder):
    part = labelled(voc_folder)
    mixture = OoDMixDataset(
        in_distribution=dict(type="ConcatDataset", datasets=[part, part]),
        ood=dict(type="RepeatDataset", dataset=unlabelled(folder), times=2),
    )
    assert isinstance(mixture.in_distribution, ConcatDataset)
    assert (mixture.num_in, len(mixture)) == (12, 18)
    wrong = dict(
        type="RepeatDataset", dataset=unlabelled(folder, classes=CLASSES[:2]), times=2
    )
    with pytest.raises(ValueError, match=r"classes are \['disc', 'square'\], those of"):
        OoDMixDataset(part, wrong)


def test_mixture_in_a_dataloader(voc_folder, folder):
    loader = Runner.build_dataloader(
        dict(
            dataset=dict(
                type="mmwood.OoDMixDataset",
                in_distribution=labelled(voc_folder, pipeline=pipeline(16)),
                ood=unlabelled(folder, pipeline=pipeline(16)),
            ),
            batch_size=3,
            num_workers=2,
            persistent_workers=True,
            sampler=dict(
                type="mmwood.OoDRatioSampler", in_per_batch=2, ood_per_batch=1
            ),
            collate_fn=dict(type="default_collate"),
        ),
        seed=0,
    )
    tags = [[0], [1, 2], [2], [0, 1], [1], [0, 2]]
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        seen = []
        for batch in loader:
            assert batch["inputs"].shape == (3, 3, 16, 16)
            samples = batch["data_samples"]
            assert [sample.is_ood for sample in samples] == [False, False, True]
            for sample in samples:
                number = sample.img_id[6:]
                assert sample.gt_label.tolist() == (tags[int(number)] if number else [])
            seen.extend(sample.img_id for sample in samples)
        assert sorted(seen) == ["a", "c", "d"] + [f"image_{i}" for i in range(6)]
    assert not loader.dataset[-9]["data_samples"].is_ood
    assert loader.dataset[-1]["data_samples"].is_ood

    with pytest.raises(ValueError, match=r"leave out .*num_batch_per_epoch"):
        Runner.build_dataloader(
            dict(
                dataset=loader.dataset,
                num_batch_per_epoch=1,
                batch_size=3,
                sampler=dict(type="mmwood.OoDRatioSampler", in_per_batch=2),
            )
        )


def test_each_part_has_its_own_pipeline_or_both_have_one(voc_folder, folder):
    mixture = OoDMixDataset(
        in_distribution=labelled(voc_folder, pipeline=pipeline(16)),
        ood=unlabelled(folder, pipeline=pipeline(12)),
    )
    assert mixture[5]["inputs"].shape == (3, 16, 16)
    assert mixture[6]["inputs"].shape == (3, 12, 12)
    mixture = OoDMixDataset(
        in_distribution=labelled(voc_folder),
        ood=unlabelled(folder),
        pipeline=pipeline(8),
    )
    assert mixture[5]["inputs"].shape == mixture[6]["inputs"].shape == (3, 8, 8)
    mixture = OoDMixDataset(
        in_distribution=labelled(voc_folder, pipeline=pipeline(16)),
        ood=unlabelled(folder, pipeline=pipeline(12)[:2]),
    )
    assert not mixture[0]["data_samples"].is_ood
    with pytest.raises(ValueError, match=r"dataset\.ood\.pipeline must .* PackInputs"):
        mixture[6]


def test_mixture_refuses_copies_and_unknown_classes(voc_folder, folder):
    shutil.copy(voc_folder / "JPEGImages/image_3.jpg", folder / "d.jpg")
    with pytest.raises(
        ValueError, match=r"1 OoD images .*\n.*/d\.jpg is .*image_3\.jpg"
    ):
        OoDMixDataset(labelled(voc_folder), unlabelled(folder))
    # Of the same size, but another image.
    content = bytearray((folder / "d.jpg").read_bytes())
    content[-10] ^= 1
    (folder / "d.jpg").write_bytes(content)
    OoDMixDataset(labelled(voc_folder), unlabelled(folder))

    with (folder / "ood.csv").open("a") as file:
        file.write("e.jpg,cube,0.5,1,unseen,\n")
    with pytest.raises(ValueError, match=r"unknown classes.*\n.*ood\.csv:11: 'cube'"):
        OoDMixDataset(labelled(voc_folder), unlabelled(folder))
