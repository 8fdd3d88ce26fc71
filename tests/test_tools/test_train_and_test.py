"""The real commands on real files: train, resume, make labels, break, continue."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmpretrain")

pytestmark = pytest.mark.slow

FULL = ("--cfg-options", "default_hooks.pseudo_label.save_scores=['strided','full']")


@pytest.fixture
def checkpoint(small_config: Path, run_tool, tmp_path: Path) -> Path:
    """What one epoch of training leaves."""
    run_tool("train.py", small_config, "--work-dir", "trained")
    return tmp_path / "trained/epoch_1.pth"


def test_train_resume_and_refusals(
    small_config, checkpoint, run_tool, tmp_path, hashes
):
    assert checkpoint.is_file()
    before = hashes(tmp_path / "trained")
    text = run_tool("train.py", small_config, "--work-dir", "trained", fails=True)
    assert text == (
        "--work-dir: trained holds the checkpoints of a training: continue it with "
        "--resume, or name another folder, since a new one would replace them\n"
    )
    assert hashes(tmp_path / "trained") == before
    text = run_tool(
        *("train.py", small_config, "--work-dir", "trained", "--resume"),
        *("--cfg-options", "train_cfg.max_epochs=2"),
    )
    assert "resumed epoch: 1" in text
    checkpoint = tmp_path / "trained/epoch_2.pth"
    assert checkpoint.is_file()

    renamed = small_config.read_text().replace("'disc', 'square'", "'square', 'disc'")
    (tmp_path / "renamed.py").write_text(renamed)
    text = run_tool("test.py", "renamed.py", checkpoint, fails=True)
    assert "was trained on the classes" in text

    torch.save(dict(state_dict={"other": torch.zeros(1)}), tmp_path / "other.pth")
    text = run_tool("test.py", small_config, "other.pth", fails=True)
    assert "holds no head.classifier.weight" in text

    # What --out would replace is looked at first.
    (tmp_path / "tags.csv").write_text("image,labels\n")
    out = ("--out", "tags.csv")
    text = run_tool("test.py", small_config, small_config, *out, fails=True)
    assert text.endswith(
        "tags.csv is there and holds no scores: name another file, or move it away\n"
    )
    assert (tmp_path / "tags.csv").read_text() == "image,labels\n"


def test_labels_pictures_metrics_and_repair(
    small_config, checkpoint, run_tool, tmp_path, hashes
):
    run_tool(
        *("test.py", small_config, checkpoint, "--tta", "--work-dir", "tested"),
        *("--show-dir", "pictures", "--interval", "2", "--out", "metrics.json", *FULL),
    )
    folder = tmp_path / "tested/pseudo_labels"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["images"] == 6
    assert manifest["classes"] == ["disc", "square", "stripe"]
    assert manifest["scales"] == [0.5, 1.0, 1.5, 2.0]
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert manifest["checkpoint_sha256"] == digest
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3
    assert (tmp_path / "tested/seed_curve.png").is_file()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"seed/mIoU", "seed/best_mIoU", "multi-label/mAP"} <= set(metrics)

    with Image.open(folder / "labels/image_1.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3:6] == [128, 0, 0]
        label = np.array(image)
    assert label.shape == (33, 47)
    assert set(np.unique(label)) <= {0, 2, 3}
    with np.load(folder / "scores/image_1.npz", allow_pickle=False) as scores:
        assert scores["full"].dtype == np.float16
        assert scores["full"].shape == (2, 33, 47)
        assert scores["strided"].shape == (2, 9, 12)
        assert scores["classes"].tolist() == [1, 2]
        score = scores["full"].astype(np.float32)
    seed = np.append(0, [2, 3])[
        np.concatenate([np.full((1, 33, 47), np.float32(0.15)), score]).argmax(axis=0)
    ]
    np.testing.assert_array_equal(label, seed)

    # A truncated file, an empty one and a lost one are found and made again, and the
    # metrics are those of the undisturbed run.
    whole = hashes(folder)
    for path, size in (("labels/image_0.png", 60), ("scores/image_3.npz", 0)):
        os.truncate(folder / path, size)
    (folder / "labels/image_5.png").unlink()
    arguments = ("test.py", small_config, checkpoint, "--tta", "--work-dir", "tested")
    text = run_tool(*arguments, "--out", "again.json", *FULL)
    assert "images are finished" not in text
    assert hashes(folder) == whole
    assert json.loads((tmp_path / "again.json").read_text()) == metrics

    os.truncate(folder / "labels/image_0.png", 60)
    text = run_tool(*arguments, "--out", "again.json", *FULL)
    assert "4 of 6 images are finished" in text
    assert hashes(folder) == whole
    assert json.loads((tmp_path / "again.json").read_text()) == metrics

    # Nothing of another setting is mixed in.
    text = run_tool(
        *arguments,
        *FULL,
        "default_hooks.pseudo_label.threshold=0.3",
        fails=True,
    )
    assert "made with another threshold (0.15 instead of 0.3)" in text
    text = run_tool(*arguments, "--amp", *FULL, fails=True)
    assert "made with another config_sha256" in text
    # Overwriting leaves nothing of the old setting, also where it makes fewer files.
    again = (
        "default_hooks.pseudo_label.threshold=0.3",
        "default_hooks.pseudo_label.overwrite=True",
        "test_dataloader.dataset.indices=2",
    )
    run_tool(*arguments, *FULL, *again)
    assert sorted(hashes(folder)) == [
        "labels/image_0.png",
        "labels/image_1.png",
        "manifest.json",
        "scores/image_0.npz",
        "scores/image_1.npz",
    ]
    assert json.loads((folder / "manifest.json").read_text())["threshold"] == 0.3
    (folder / "manifest.json").unlink()
    for options in (FULL, (*FULL, *again)):
        assert "no manifest.json" in run_tool(*arguments, *options, fails=True)
    assert len(hashes(folder)) == 4


@pytest.mark.long
def test_adv_cam_is_resumed_and_not_mixed_with_plain_maps(
    small_config, checkpoint, run_tool, tmp_path, hashes
):
    arguments = ("test.py", small_config, checkpoint, "--tta", "--work-dir", "tested")
    options = (*FULL, "tta_model.type=mmwood.AdvCAM", "tta_model.steps=3")
    run_tool(*arguments, *options)
    folder = tmp_path / "tested/pseudo_labels"
    whole = hashes(folder)
    assert {"labels/image_5.png", "scores/image_5.npz"} <= set(whole)
    (folder / "labels/image_5.png").unlink()
    assert "4 of 6 images are finished" in run_tool(*arguments, *options)
    assert hashes(folder) == whole
    text = run_tool(*arguments, *FULL, fails=True)
    assert "made with another config_sha256" in text
    text = run_tool(*arguments, *options, "tta_model.steps=2", fails=True)
    assert "made with another config_sha256" in text

    plain = ("test.py", small_config, checkpoint, "--work-dir", "plain", *options)
    assert "AdvCAM needs --tta: without it these are plain maps" in run_tool(*plain)
    found = hashes(tmp_path / "plain/pseudo_labels")
    assert found["scores/image_5.npz"] != whole["scores/image_5.npz"]


def test_killed_run_is_resumed_to_the_same_bytes(
    small_config, checkpoint, run_tool, start_tool, tmp_path, hashes
):
    arguments = ("test.py", small_config, checkpoint, "--tta", *FULL)
    slow = (*arguments, "test_dataloader.batch_size=1")
    run_tool(*slow, "--work-dir", "whole", "--out", "whole.json")
    labels = tmp_path / "killed/pseudo_labels/labels"
    process = start_tool(*slow, "--work-dir", "killed")
    deadline = time.monotonic() + 120
    while len(list(labels.glob("image*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= len(list(labels.glob("image*.png"))) < 6
    # As if the process had died within a file, which is rarer than between two.
    (labels / ".tmp-image_4-abc.png").write_bytes(b"half")
    text = run_tool(*slow, "--work-dir", "killed", "--out", "killed.json")
    assert "images are finished" in text
    whole = hashes(tmp_path / "whole/pseudo_labels")
    found = hashes(tmp_path / "killed/pseudo_labels")
    assert found == whole
    metrics = [
        json.loads((tmp_path / name).read_text())
        for name in ("whole.json", "killed.json")
    ]
    assert metrics[0] == metrics[1]


@pytest.mark.long
def test_two_processes_do_what_one_does(
    small_config, checkpoint, run_tool, tmp_path, hashes
):
    options = ("--tta", *FULL, "test_dataloader.batch_size=1")
    for processes, start in (
        (1, ("test.py", small_config, checkpoint)),
        (2, ("dist_test.sh", small_config, checkpoint, 2)),
    ):
        files = ("--work-dir", f"by_{processes}", "--out", f"{processes}.json")
        run_tool(*start, *files, *options)
    labels = [hashes(tmp_path / f"by_{n}/pseudo_labels") for n in (1, 2)]
    assert labels[0] == labels[1]
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (1, 2))
    assert one == pytest.approx(two, abs=1e-4)

    text = run_tool("dist_train.sh", small_config, 2)
    assert "Epoch(train) [1][1/1]" in text

    repeating = "test_dataloader.sampler.round_up=True"
    text = run_tool(
        *("dist_test.sh", small_config, checkpoint, 2, *options, repeating),
        fails=True,
    )
    assert "round_up must be False" in text
