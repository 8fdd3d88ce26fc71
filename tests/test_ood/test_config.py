import pytest
import torch
from mmengine.config import Config

from mmwood.ood.config import class_names, use_candidates

PIPELINE = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]


def make_config(**changes) -> Config:
    dataset = dict(type="VOC", classes=["x", "y"], pipeline=PIPELINE)
    config = dict(
        model=dict(type="mmwood.CAMClassifier", test_cfg=dict(cam_dtype="float32")),
        test_dataloader=dict(batch_size=3, dataset=dict(type="W", dataset=dataset)),
        default_hooks=dict(
            pseudo_label=dict(type="mmwood.PseudoLabelHook"),
            guard=dict(type="mmwood.CheckpointGuardHook"),
            visualization=None,
        ),
        custom_hooks=[dict(type="mmwood.PseudoLabelHook")],
        resume=True,
    )
    return Config({**config, **changes})


def test_the_test_becomes_one_over_candidates():
    cfg = make_config()
    use_candidates(cfg, "work/mining/list.txt", threshold=0.25, size=64)
    loader = cfg.test_dataloader
    assert loader.batch_size == 3
    assert loader.dataset.ann_file == "work/mining/list.txt"
    assert loader.dataset.metainfo.classes == ["x", "y"]
    assert [step.type for step in loader.dataset.pipeline] == [
        # Which reads stores, and refuses half a file.
        "mmwood.LoadImage",
        "Resize",
        "PackInputs",
    ]
    assert loader.dataset.pipeline[1].scale == (64, 64)
    assert cfg.model.test_cfg == dict(cam_dtype="float32", cam_labels="none")
    assert sorted(cfg.default_hooks) == ["guard", "ood_mining"]
    assert cfg.default_hooks.ood_mining.threshold == 0.25
    assert cfg.default_hooks.ood_mining.out_dir == "work/mining"
    assert cfg.default_hooks.ood_mining.size == 64
    assert cfg.custom_hooks == []
    assert cfg.test_evaluator == []
    assert cfg.resume is False
    # What the config says of other classifiers' models is left alone.
    cfg = make_config(model=dict(type="ImageClassifier"))
    use_candidates(cfg, "list.txt", batch_size=7, num_workers=2, size="own")
    assert cfg.model == dict(type="ImageClassifier")
    assert (cfg.test_dataloader.batch_size, cfg.test_dataloader.num_workers) == (7, 2)
    assert cfg.test_dataloader.dataset.pipeline == [
        dict(type="mmwood.LoadImage"),
        PIPELINE[1],
    ]


def test_annotations_are_not_loaded_and_options_go_to_the_hook():
    loading = [
        dict(type="LoadImageFromFile", backend_args=None),
        dict(type="LoadAnnotations", reduce_zero_label=True),
        dict(type="LoadPanopticAnnotations"),
        dict(type="PackSegInputs"),
    ]
    loader = dict(dataset=dict(classes=["x"], pipeline=loading))
    cfg = make_config(test_dataloader=loader, model=dict(type="EncoderDecoder"))
    use_candidates(cfg, "list.txt", size="own", score="area", background="x")
    assert cfg.test_dataloader.dataset.pipeline == [
        dict(type="mmwood.LoadImage", backend_args=None),
        loading[-1],
    ]
    hook = cfg.default_hooks.ood_mining
    assert (hook.score, hook.background) == ("area", "x")


def test_pipelines_that_do_not_serve_are_refused():
    with pytest.raises(ValueError, match=r"no test_dataloader\.dataset\.pipeline"):
        use_candidates(make_config(test_dataloader=None), "list.txt")
    for extra, message in (
        (dict(type="ResizeEdge", scale=64), "already has ResizeEdge"),
        (None, "loads no image"),
    ):
        pipeline = [PIPELINE[0], extra, PIPELINE[1]] if extra else PIPELINE[1:]
        loader = dict(dataset=dict(classes=["x"], pipeline=pipeline))
        with pytest.raises(ValueError, match=message):
            use_candidates(make_config(test_dataloader=loader), "list.txt", size=64)


def test_class_names_come_from_the_config_or_the_checkpoint(tmp_path):
    (tmp_path / "names.txt").write_text("p\n\nq\n")
    nothing = dict(test_dataloader=dict(dataset=dict(type="COCO")))
    data = dict(classes="names.txt", data_root=str(tmp_path))
    for changes, expected in (
        (dict(), ["x", "y"]),
        (dict(test_dataloader=dict(dataset=data)), ["p", "q"]),
        (dict(train_dataloader=dict(dataset=data), **nothing), ["p", "q"]),
        (
            dict(test_dataloader=dict(dataset=dict(metainfo=dict(classes=("m",))))),
            ["m"],
        ),
        (dict(test_dataloader=dict(dataset=dict(datasets=[data, {}]))), ["p", "q"]),
    ):
        assert class_names(make_config(**changes)) == expected
    data["classes"] = "none.txt"
    with pytest.raises(FileNotFoundError, match=r"test_dataloader.dataset.classes: "):
        class_names(make_config(test_dataloader=dict(dataset=data)))

    path = tmp_path / "model.pth"
    for meta, expected in (
        (dict(dataset_meta=dict(classes=("k", "l"))), ["k", "l"]),
        (dict(), None),
    ):
        torch.save(dict(state_dict={}, meta=meta), path)
        cfg = make_config(load_from=str(path), **nothing)
        if expected:
            assert class_names(cfg) == expected
        else:
            with pytest.raises(ValueError, match="names the classes"):
                class_names(cfg)
