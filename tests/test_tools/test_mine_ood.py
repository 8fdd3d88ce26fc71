"""Mining by the real command: against plain loops, killed, and by two processes."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmwood.fileio.candidates import read_manifest, write_manifest
from mmwood.fileio.image_features import features_path, read_features
from mmwood.fileio.journal import journal_path
from mmwood.ood.results import write_results
from mmwood.ood.review.decisions import Review

CLASSES = ("disc", "square", "stripe")
SIZES = ((40, 48), (33, 47), (40, 48), (48, 36))


def make_images(folder: Path, count: int) -> list[Path]:
    """Noise of different brightness and contrast."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    paths = [folder / f"{number:03d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        low, high = sorted(rng.integers(0, 256, 2))
        shape = (*SIZES[number % len(SIZES)], 3)
        pixels = rng.integers(low, high + 1, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@torch.no_grad()
def pooled(model, path: Path) -> torch.Tensor:
    """The pooled feature of one image, which goes through the network alone."""
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).float()
    x = ((pixels - 127.5) / 127.5).permute(2, 0, 1)[None]
    return model.backbone(x)[-1].mean(dim=(2, 3))[0].double()


@pytest.fixture
def mined(small_config, tmp_path, monkeypatch):
    """Config, checkpoint, images and their probabilities, in all of [0, 1]."""
    monkeypatch.chdir(tmp_path)
    paths = make_images(tmp_path / "images", 24)
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(small_config).model).eval()
    z = torch.stack([pooled(model, path) for path in paths])
    directions = torch.linalg.svd(z - z.mean(dim=0))[2][:3]
    # Perpendicular to the mean, so that scores are around 0.
    directions -= (
        (directions @ z.mean(0))[:, None] * z.mean(0) / z.mean(0).square().sum()
    )
    weight = directions * 2 / (z @ directions.T).std(dim=0)[:, None]
    weight = weight.float()
    model.head.classifier.weight.data = weight[:, :, None, None]
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), "model.pth")
    probability = torch.sigmoid(z @ weight.double().T).numpy()
    # No rounding may decide what is kept.
    assert np.abs(probability - 0.5).min() > 1e-4
    assert 5 < (probability >= 0.5).sum() < 67
    np.save("z.npy", z.numpy())
    return small_config, "model.pth", paths, probability


def check_features(manifest: str) -> None:
    """Every image of a manifest has the features of a plain loop, and no other."""
    z = np.load("z.npy")
    expected = {
        row.sha256: z[int(Path(row.image).stem)] for _, row in read_manifest(manifest)
    }
    found = read_features(features_path(manifest))
    assert found.sha256.tolist() == sorted(key.encode() for key in expected)
    for key, row in zip(found.sha256, np.concatenate([*found.blocks()])):
        np.testing.assert_allclose(row, expected[key.decode()], rtol=2e-3, atol=1e-5)


def same_bytes(*folders: str) -> bool:
    """Whether the results of several runs are the same to the byte."""
    names = ("ood.csv", "ood.json", "ood.npz", "unreadable.txt")
    return all(
        Path(folders[0], name).read_bytes() == Path(folder, name).read_bytes()
        for name in names
        for folder in folders
    )


def arguments(folder: str, candidates: str = "images") -> tuple[str, ...]:
    return (
        *("--candidates", candidates, "--work-dir", folder),
        *("--out", f"{folder}/ood.csv", "--num-workers", "0"),
        # The loop that results are compared with resizes nothing.
        *("--size", "own"),
    )


@pytest.mark.slow
def test_images_in_a_tar_have_features_too(mined, run_tool):
    config, checkpoint, paths, _ = mined
    with tarfile.open("images.tar", "w") as archive:
        for path in paths:
            archive.add(path, path.name)
    run_tool("mine_ood.py", config, checkpoint, *arguments("work", "images.tar"))
    images = {row.image for _, row in read_manifest("work/ood.csv")}
    assert images
    assert all("/found/" in image for image in images)
    check_features("work/ood.csv")


@pytest.mark.slow
def test_manifest_equals_a_plain_loop(mined, run_tool, tmp_path):
    config, checkpoint, paths, probability = mined
    # Candidates without masks, labels, or a data set of the config's that exists.
    (tmp_path / "voc").rename(tmp_path / "away")
    (tmp_path / "images/015.png").write_bytes(b"no image")
    names = [path.name for path in paths]
    (tmp_path / "list.txt").write_text("\n".join([*names, "none.png"]))
    options = ("--root", "images", "--batch-size", "5")
    run = ("mine_ood.py", config, checkpoint)
    text = run_tool(*run, *arguments("work", "list.txt"), *options)
    assert "| disc " in text
    assert "2 images cannot be read" in text
    assert "images/015.png: not an image" in text

    # What is not there has no size.
    unknown = (*arguments("unknown", "list.txt"), "--size", "in_distribution")
    text = run_tool(*run, *unknown, "--root", "images", fails=True)
    assert "Traceback" not in text
    assert "--size: candidates are resized as the in-distribution images" in text

    probability[15] = 0
    expected = []
    for index, class_name in enumerate(CLASSES):
        order = sorted(range(24), key=lambda number: -probability[number, index])
        kept = [number for number in order if probability[number, index] >= 0.5]
        expected += [
            (f"images/{names[number]}", class_name, rank, probability[number, index])
            for rank, number in enumerate(kept, start=1)
        ]
    rows = [row for _, row in read_manifest("work/ood.csv")]
    assert [(row.image, row.class_name, row.rank) for row in rows] == [
        row[:3] for row in expected
    ]
    for row, (image, _, _, value) in zip(rows, expected):
        assert row.probability == pytest.approx(value, abs=1e-5)
        assert row.state == "unseen"
        assert row.sha256 == hashlib.sha256(Path(image).read_bytes()).hexdigest()
    assert Path("work/unreadable.txt").read_text() == (
        "images/015.png\tnot an image that Pillow reads\n"
        "images/none.png\tNo such file or directory\n"
    )
    summary = json.loads(Path("work/ood.json").read_text())
    assert (summary["candidates"], summary["unreadable"]) == (25, 2)
    assert sum(summary["histogram"]) == 23
    assert not list(Path("work").rglob("*pseudo_labels*"))
    check_features("work/ood.csv")

    # What a person reviewed is not overwritten, and carried over if that is asked for.
    states = ["rejected", "kept", *["unseen"] * (len(rows) - 2)]
    for row, state in zip(rows, states):
        row.state = state
    write_manifest("work/ood.csv", rows)
    text = run_tool(*run, *arguments("work", "list.txt"), *options, fails=True)
    assert "holds 2 reviewed rows: add --update" in text
    assert [row for _, row in read_manifest("work/ood.csv")] == rows
    # The finished images are not computed again; other limits only need other rows.
    update = ("--update", "--top", "1", "--max-per-image", "1")
    text = run_tool(*run, *arguments("work", "list.txt"), *options, *update)
    assert "25 of 25 candidates are finished" in text
    assert "2 reviewed rows were carried over; " in text
    again = [row for _, row in read_manifest("work/ood.csv")]
    reviewed = {
        (row.image, row.class_name, row.state) for row in again if row.state != "unseen"
    }
    assert reviewed == {(row.image, row.class_name, row.state) for row in rows[:2]}
    assert len(again) <= 5
    check_features("work/ood.csv")

    # Nothing of another setting is mixed in.
    text = run_tool(*run, *arguments("work"), "--update", fails=True)
    assert "gives other images than" in text
    sized = (*options, "--update", "--size", "30")
    text = run_tool(*run, *arguments("work", "list.txt"), *sized, fails=True)
    assert "another size (None instead of 30), config_sha256" in text


@pytest.mark.slow
def test_an_image_and_its_double_score_the_same(
    mined, run_tool, save_doubles, tmp_path
):
    config, checkpoint, _, _ = mined
    pairs = save_doubles(tmp_path / "doubles", 6)
    apart, summaries = {}, {}
    for size in ("in_distribution", "own"):
        options = (*arguments(size, "doubles"), "--threshold", 0, "--size", size)
        run_tool("mine_ood.py", config, checkpoint, *options)
        logits = {}
        for _, row in read_manifest(f"{size}/ood.csv"):
            odds = row.probability / (1 - row.probability)
            logits.setdefault(Path(row.image).name, {})[row.class_name] = np.log(odds)
        one, double = (
            np.array([[logits[path.name][name] for name in CLASSES] for path in paths])
            for paths in zip(*pairs)
        )
        others = np.linalg.norm(one[:, None] - one, axis=2)
        between = others[~np.eye(6, dtype=bool)].mean()
        apart[size] = np.linalg.norm(one - double, axis=1).mean() / between
        summaries[size] = json.loads(Path(f"{size}/ood.json").read_text())
    assert apart["in_distribution"] < 0.1
    assert apart["own"] > 3 * apart["in_distribution"]
    # The lower median of the long sides of the data set's images.
    assert summaries["in_distribution"]["size"] == 47
    assert summaries["own"]["size"] is None
    mixed = (*arguments("in_distribution", "doubles"), "--threshold", 0)
    text = run_tool("mine_ood.py", config, checkpoint, *mixed, fails=True)
    assert "another size (47 instead of None)" in text


@pytest.mark.slow
def test_a_manifest_under_review_is_not_overwritten(mined, run_tool):
    config, checkpoint, _, _ = mined
    run = ("mine_ood.py", config, checkpoint, *arguments("work"))
    update = (*run, "--update")
    run_tool(*run)
    before = Path("work/ood.csv").read_bytes()
    review = Review("work/ood.csv")
    locked = f"--out: work/ood.csv must not change now: another process {os.getpid()}"
    # Also where nothing is reviewed yet.
    for command in (run, update):
        assert locked in run_tool(*command, fails=True)
    # A review that began after the start of mining.
    with pytest.raises(ValueError, match="must not change now"):
        write_results("work/mining", "work/ood.csv", 24, update=True)
    review.close()
    # A person rejects a row and is cut off.
    code = (
        "import os; from mmwood.ood.review.decisions import Review;"
        "Review('work/ood.csv').decide([0], 'rejected'); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == 9
    for command in (run, update):
        text = run_tool(*command, fails=True)
        assert "work/ood.csv lacks decisions of a review that was cut off" in text
        assert "tools/review_ood.py work/ood.csv`" in text
    assert Path("work/ood.csv").read_bytes() == before
    assert len(journal_path("work/ood.csv").read_text().splitlines()) > 1
    # Rules bring it in, too; what they log is not lost.
    run_tool("review_ood.py", "work/ood.csv", "--auto", "--max-probability", 1)
    (entry,) = json.loads(Path("work/ood.json").read_text())["auto"]
    assert "1 reviewed rows were carried over" in run_tool(*update)
    rows = [row for _, row in read_manifest("work/ood.csv")]
    assert [row.state for row in rows] == ["rejected"] + ["unseen"] * (len(rows) - 1)
    summary = json.loads(Path("work/ood.json").read_text())
    assert summary["auto"] == [entry]
    assert summary["candidates"] == 24
    assert not journal_path("work/ood.csv").exists()


def finished(folder: str) -> int:
    """How many images the part files of a running job hold."""
    count = 0
    for path in Path(folder, "mining").glob("part_*.sqlite"):
        connection = sqlite3.connect(path)
        try:
            count += connection.execute("SELECT COUNT(*) FROM images").fetchone()[0]
        except sqlite3.OperationalError:
            # Just being made, or just being written.
            continue
        finally:
            connection.close()
    return count


@pytest.mark.long
@pytest.mark.slow
def test_killed_run_goes_on_to_the_same_bytes(mined, run_tool, start_tool):
    config, checkpoint, paths, _ = mined
    for number in range(600):
        # Links: the same images under other names, so that there are ties.
        Path("images", f"more_{number:03d}.png").symlink_to(paths[number % 24].name)
    Path("images/zz.png").touch()
    run = ("mine_ood.py", config, checkpoint)
    run_tool(*run, *arguments("whole"), "--batch-size", "3")
    killed = (*arguments("killed"), "--batch-size", "3")
    for least in (1, 60):
        process = start_tool(*run, *killed)
        deadline = time.monotonic() + 120
        while finished("killed") < least and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert least <= finished("killed") < 625
    # As if it had died while it wrote the list.
    Path("killed/mining/.tmp-candidates-abc.txt").write_bytes(b"half")
    # The rest by two processes.
    text = run_tool("dist_mine.sh", config, checkpoint, 2, *killed)
    assert "of 625 candidates are finished" in text
    assert same_bytes("whole", "killed")
    assert not list(Path("killed/mining").glob(".tmp-*"))
    parts = sorted(path.name for path in Path("killed/mining").glob("part_*"))
    assert parts == [
        "part_0000_0000.sqlite",
        "part_0001_0000.sqlite",
        "part_0002_0000.sqlite",
        "part_0002_0001.sqlite",
    ]
    rows = [row for _, row in read_manifest("whole/ood.csv")]
    assert len(rows) > 100
    for row, following in pairwise(rows):
        if row.class_name == following.class_name:
            assert following.rank == row.rank + 1
            assert following.probability <= row.probability
    summary = json.loads(Path("whole/ood.json").read_text())
    assert summary["unreadable"] == 1


def changed(config: Path, old: str, new: str) -> str:
    """The name of a config that differs in one place."""
    text = config.read_text()
    assert old in text
    path = config.with_name("changed.py")
    path.write_text(text.replace(old, new))
    return path.name


@pytest.mark.slow
def test_stock_classifiers_and_what_is_refused(mined, run_tool, tmp_path):
    config, checkpoint, _, _ = mined
    # mmpretrain's own classifier, whose class names only the checkpoint tells.
    stock = Path(changed(config, "classes=['disc', 'square', 'stripe'], ", ""))
    stock = Path(changed(stock, "mmwood.CAMClassifier", "ImageClassifier"))
    stock.rename("stock.py")
    run_tool("mine_ood.py", config, checkpoint, *arguments("cam"))
    run = ("mine_ood.py", "stock.py", checkpoint)
    one = ("--batch-size", "1")
    run_tool(*run, *arguments("stock"), *one)
    rows, others = (
        [(row.image, row.class_name, row.rank) for _, row in read_manifest(path)]
        for path in ("cam/ood.csv", "stock/ood.csv")
    )
    assert rows == others
    text = run_tool(*run, *arguments("padded"), fails=True)
    assert "use --batch-size 1" in text

    wrong = changed(config, "classes=['disc', 'square', 'stripe']", "classes=['a']")
    run = ("mine_ood.py", wrong, checkpoint)
    off = (f"default_hooks.{name}=None" for name in ("checkpoint_guard", "start_check"))
    no_guard = ("--cfg-options", *off)
    text = run_tool(*run, *arguments("wrong"), *no_guard, fails=True)
    assert "scores have the shape (3,), but 1 class names are known" in text

    run = ("mine_ood.py", config, checkpoint)
    text = run_tool(*run[:2], "none.pth", *arguments("refused"), fails=True)
    assert "there is no file none.pth" in text
    # In one line.
    for arguments_, message in (
        ((config, config), f"load_from: {config} is no checkpoint"),
        (("none.py", checkpoint), "config: there is no file none.py"),
    ):
        text = run_tool("mine_ood.py", *arguments_, *arguments("refused"), fails=True)
        assert "Traceback" not in text
        assert text.splitlines()[-1].startswith(message)


@pytest.mark.slow
def test_nothing_found_and_nothing_readable(mined, run_tool):
    config, checkpoint, paths, _ = mined
    run = ("mine_ood.py", config, checkpoint)
    Path("few.txt").write_text("images/000.png\n")
    high = ("--threshold", "0.9999999")
    text = run_tool(*run, *arguments("none", "few.txt"), *high)
    assert "no candidate reaches the threshold 0.9999999: the highest" in text
    assert list(read_manifest("none/ood.csv")) == []
    for path in paths:
        os.truncate(path, 50)
    text = run_tool(*run, *arguments("broken"), fails=True)
    assert "none of the candidates can be read" in text
    assert len(Path("broken/unreadable.txt").read_text().splitlines()) == 24
    assert list(read_manifest("broken/ood.csv")) == []
