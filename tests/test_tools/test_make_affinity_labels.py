"""Labels for IRN by the real command: same bytes, resumed, and read in training."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmseg")

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import (
    PSEUDO_LABELS,
    LabelFolder,
    ScoreMaps,
    save_score_maps,
)
from mmwood.functional.refine import affinity_label
from mmwood.registry import DATASETS

CLASSES = ["disc", "square", "stripe"]
SIZES = ((40, 48), (33, 47), (40, 48), (48, 36), (33, 47), (41, 40))
CONFIG = """
default_scope = "mmseg"
train_dataloader = dict(
    num_workers=0,
    dataset=dict(type="RepeatDataset", times=2, dataset=dict(
        type="mmwood.ImageLevelDataset", label_source="mask", classes={classes},
        ann_file="ImageSets/Segmentation/train.txt", data_root="{root}",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        score_dir="{scores}",
        pipeline=dict(
            load=dict(type="mmwood.LoadImage"),
            label=dict(type="mmwood.AffinityLabel", foreground=0.4, background=0.2,
                       refine=dict(method="crf", iterations=3), folder="labels"),
            crop=dict(type="RandomCrop", crop_size=(32, 32)),
            pack=dict(type="PackSegInputs")))))
"""
STEP = "train_dataloader.dataset.dataset.pipeline.label."


def shown(number: int) -> list[int]:
    """The classes of an image, as in tests/conftest.py."""
    return sorted({number % 3, (number + number % 2) % 3})


@pytest.fixture
def config(voc_folder: Path, tmp_path: Path) -> Path:
    """IRN's data of six images, and their score maps."""
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        maps = ScoreMaps(
            classes=np.array(shown(number)),
            scores=np.full(3, 0.5, dtype=np.float32),
            full=(rng.random((len(shown(number)), *size)) * 0.6).astype(np.float16),
        )
        save_score_maps(LabelFolder(tmp_path / "maps").scores(f"image_{number}"), maps)
    write_json(
        tmp_path / "maps/manifest.json",
        dict(format=PSEUDO_LABELS, classes=CLASSES, scores=["full"], complete=True),
    )
    path = tmp_path / "irn.py"
    text = CONFIG.format(classes=CLASSES, root=voc_folder, scores=tmp_path / "maps")
    path.write_text(text)
    return path


@pytest.mark.slow
def test_labels_are_made_kept_made_again_and_read(
    config, voc_folder, run_tool, tmp_path, monkeypatch, hashes
):
    text = run_tool("make_affinity_labels.py", config)
    folder = tmp_path / "labels"
    whole = hashes(folder)
    names = [f"image_{number}" for number in range(6)]
    assert set(whole) == {"manifest.json", *(f"labels/{name}.png" for name in names)}
    shares = []
    for number, name in enumerate(names):
        with Image.open(voc_folder / f"JPEGImages/{name}.jpg") as image:
            rgb = np.array(image)
        with np.load(LabelFolder(tmp_path / "maps").scores(name)) as maps:
            cam = maps["full"]
        crf = dict(method="crf", iterations=3)
        expected = affinity_label(rgb, cam, shown(number), 0.4, 0.2, crf)
        with Image.open(folder / f"labels/{name}.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.array(image), expected)
        shares.append((expected == 255).mean())
    share = f"{np.mean(shares):.1%} of an image's pixels are ignored"
    assert f"labels: 6 labels made, 0 were there; {share}" in text
    assert 0.01 < np.mean(shares) < 0.9

    scores = hashlib.sha256((tmp_path / "maps/manifest.json").read_bytes()).hexdigest()
    assert json.loads((folder / "manifest.json").read_text()) == dict(
        format="mmwood affinity labels 1",
        settings=dict(
            foreground=0.4,
            background=0.2,
            refine=dict(
                method="crf",
                gt_prob=0.7,
                iterations=3,
                gaussian_sxy=3,
                gaussian_compat=3,
                bilateral_sxy=50,
                bilateral_srgb=5,
                bilateral_compat=10,
            ),
            maps="full",
        ),
        classes=CLASSES,
        scores_sha256=scores,
        complete=True,
        images=6,
    )

    # By four processes, to another folder: the same bytes.
    run_tool("make_affinity_labels.py", config, "--out", "other", "--workers", 4)
    assert hashes(tmp_path / "other") == whole

    # What is lost, damaged or half written is made again, the rest is kept.
    (folder / "labels/image_1.png").unlink()
    os.truncate(folder / "labels/image_2.png", 900)
    os.truncate(folder / "labels/image_4.png", 0)
    (folder / "labels/.tmp-image_5-abc.png").write_bytes(b"half")
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", dict(manifest, complete=False))
    text = run_tool("make_affinity_labels.py", config, "--workers", 1)
    assert f"3 labels made, 3 were there; {share}" in text
    assert hashes(folder) == whole

    # Training reads them.
    monkeypatch.chdir(tmp_path)
    init_default_scope("mmseg")
    dataset = Config.fromfile(config).train_dataloader.dataset.dataset
    dataset.pipeline = [*dataset.pipeline.values()][:2]
    dataset = DATASETS.build(dataset)
    for number, name in enumerate(names):
        with Image.open(folder / f"labels/{name}.png") as image:
            np.testing.assert_array_equal(dataset[number]["gt_seg_map"], image)


@pytest.mark.slow
def test_other_labels_are_refused_or_replaced(config, run_tool, tmp_path, hashes):
    quick = ("--cfg-options", f"{STEP}refine=None")
    run_tool("make_affinity_labels.py", config, *quick)
    folder = tmp_path / "labels"
    first = hashes(folder)

    other = (*quick, f"{STEP}background=0.1")
    text = run_tool("make_affinity_labels.py", config, *other, fails=True)
    assert "Traceback" not in text
    assert "made with another settings.background (0.2 instead of 0.1)" in text
    assert "--overwrite" in text
    manifest = json.loads((tmp_path / "maps/manifest.json").read_text())
    write_json(tmp_path / "maps/manifest.json", dict(manifest, threshold=0.2))
    text = run_tool("make_affinity_labels.py", config, *quick, fails=True)
    assert "made with another scores_sha256" in text
    assert hashes(folder) == first

    # Overwriting leaves nothing of the old labels, also where it makes fewer.
    few = (*other, "train_dataloader.dataset.dataset.indices=2")
    text = run_tool("make_affinity_labels.py", config, "--overwrite", *few)
    assert "2 labels made, 0 were there" in text
    second = hashes(folder)
    assert set(second) == {"manifest.json", "labels/image_0.png", "labels/image_1.png"}
    assert second["labels/image_0.png"] != first["labels/image_0.png"]

    (folder / "manifest.json").unlink()
    text = run_tool("make_affinity_labels.py", config, "--overwrite", *few, fails=True)
    assert "holds files but no manifest.json" in text
    assert len(hashes(folder)) == 2


@pytest.mark.slow
def test_faults_are_told_without_a_traceback(config, run_tool, tmp_path):
    text = run_tool("make_affinity_labels.py", "none.py", fails=True)
    assert "there is no file none.py" in text
    no_folder = ("--cfg-options", f"{STEP}folder=None", f"{STEP}refine=None")
    text = run_tool("make_affinity_labels.py", config, *no_folder, fails=True)
    assert "--out: name a folder" in text
    half = ("--cfg-options", f"{STEP}maps=strided")
    text = run_tool(
        "make_affinity_labels.py", config, "--workers", 1, *half, fails=True
    )
    assert "image_0.npz holds no 'strided' maps" in text
    assert "Traceback" not in text
    manifest = json.loads((tmp_path / "labels/manifest.json").read_text())
    assert not manifest["complete"]

    without = config.read_text().replace("mmwood.AffinityLabel", "mmwood.Other")
    (tmp_path / "without.py").write_text(without)
    text = run_tool("make_affinity_labels.py", "without.py", fails=True)
    assert "the config has no mmwood.AffinityLabel" in text
    without = config.read_text().replace("score_dir", "# score_dir")
    (tmp_path / "without.py").write_text(without)
    text = run_tool("make_affinity_labels.py", "without.py", fails=True)
    assert "train_dataloader.dataset.score_dir" in text
    two = "\ndata = train_dataloader['dataset']\ntrain_dataloader = dict("
    two += "dataset=dict(type='ConcatDataset', datasets=[data, data]))\n"
    (tmp_path / "two.py").write_text(config.read_text() + two)
    text = run_tool("make_affinity_labels.py", "two.py", fails=True)
    assert "train_dataloader.dataset: it joins 2 data sets" in text
