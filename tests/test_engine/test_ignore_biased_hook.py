"""Pixels that the label filter removed have no part in a training, and in no test."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

pytest.importorskip("mmseg")
pytest.importorskip("mmpretrain")

from mmwood.engine.hooks.ignore_biased_hook import biased_folder
from mmwood.engine.runner import build_runner
from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import PSEUDO_LABELS
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.registry import HOOKS

CLASSES = ["disc", "square", "stripe"]
SEEN: list = []


@HOOKS.register_module()
class TeacherOfTests(Hook):
    """Gives removed pixels a label, as a teacher does."""

    def before_train(self, runner) -> None:
        def relabel(model, args, kwargs) -> None:
            for sample in kwargs["data_samples"]:
                label = sample.gt_sem_seg.data
                sample.gt_sem_seg.data = torch.where(label == 254, 1, label)

        runner.model.register_forward_pre_hook(relabel, with_kwargs=True)


@HOOKS.register_module()
class LabelsOfTests(Hook):
    """Notes the labels that the loss sees."""

    def before_train(self, runner) -> None:
        head = runner.model.decode_head
        loss = head.loss_by_feat

        def noting(logits, samples):
            SEEN.append(torch.cat([s.gt_sem_seg.data.flatten() for s in samples]))
            return loss(logits, samples)

        head.loss_by_feat = noting


@pytest.fixture
def write_labels(voc_folder: Path, tmp_path: Path):
    """The masks with a value in the place of every second object pixel."""

    def write(value: int, **manifest) -> str:
        for path in sorted((voc_folder / "SegmentationClass").glob("*.png")):
            label = read_label_png(path).copy()
            rows = np.arange(len(label))[:, None] % 2 == 0
            label[rows & (label > 0) & (label < 255)] = value
            save_label_png(label, tmp_path / f"labels/labels/{path.name}")
        content = dict(format=PSEUDO_LABELS, classes=CLASSES, complete=True)
        write_json(tmp_path / "labels/manifest.json", {**content, **manifest})
        return str(tmp_path / "labels/labels")

    return write


def train(load, config, folder: str, *hooks: str) -> dict[str, torch.Tensor]:
    """The weights after a step, and what the loss saw in SEEN."""
    SEEN.clear()
    cfg = load(
        config,
        train_dataloader__dataset__data_prefix__seg_map_path=folder,
        custom_hooks=[
            dict(type=f"mmwood.{name}") for name in (*hooks, "LabelsOfTests")
        ],
        randomness=dict(seed=1),
    )
    runner = build_runner(cfg)
    runner.train()
    return {k: v.clone() for k, v in runner.model.state_dict().items()}


@pytest.mark.slow
def test_removed_is_void_in_training(load, segmentor_config, write_labels):
    expected = train(load, segmentor_config, write_labels(255))
    void = (SEEN[0] == 255).sum()
    found = train(load, segmentor_config, write_labels(254, biased=254))
    assert set(SEEN[0].tolist()) <= {0, 1, 2, 3, 255}
    assert (SEEN[0] == 255).sum() == void
    assert all(torch.equal(found[name], expected[name]) for name in expected)

    # A teacher's labels come first, whichever hook is named first.
    train(load, segmentor_config, write_labels(254, biased=254), "TeacherOfTests")
    assert (SEEN[0] == 255).sum() < void
    assert 254 not in SEEN[0]

    # Nothing says that these were removed: they are no void.
    with pytest.raises((IndexError, RuntimeError)):
        train(load, segmentor_config, write_labels(254))
    assert 254 in SEEN[0]


def test_a_folder_of_removed_pixels_is_known_by_any_path(write_labels, tmp_path):
    def found(folder: object) -> str | None:
        return biased_folder(SimpleNamespace(data_prefix=dict(seg_map_path=folder)))

    folder = write_labels(254, biased=254)
    link = tmp_path / "link"
    link.symlink_to(folder)
    for path in (folder, f"{folder}/", str(link), f"{folder}/images"):
        assert found(path) == path
    assert found(None) is None
    assert found(str(tmp_path)) is None
    assert found(write_labels(255)) is None


@pytest.mark.slow
def test_removed_pixels_are_nothing_to_measure_with(
    load, segmentor_config, segmentor_weights, write_labels
):
    folder = write_labels(254, biased=254)
    cfg = load(
        segmentor_config,
        test_dataloader__dataset__data_prefix__seg_map_path=folder,
        load_from=str(segmentor_weights),
    )
    message = f"test_dataloader.dataset.data_prefix.seg_map_path: {folder} are filtered"
    with pytest.raises(ValueError, match=re.escape(message)):
        build_runner(cfg).test()


@pytest.mark.slow
def test_nothing_left_to_learn(load, segmentor_config, write_labels, tmp_path):
    folder = write_labels(254, biased=254)
    for path in Path(folder).glob("*.png"):
        label = read_label_png(path)
        save_label_png(np.where(label > 0, np.uint8(254), label), path)
    cfg = load(
        segmentor_config, train_dataloader__dataset__data_prefix__seg_map_path=folder
    )
    with pytest.raises(ValueError, match="the label filter left no class in any of 6"):
        build_runner(cfg).train()
