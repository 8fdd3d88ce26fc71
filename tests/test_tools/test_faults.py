"""A full disk, files that are cut off or gone: named, and nothing else is lost.

Others are tested where they belong: files that a killed run or a crash left damaged in
test_train_and_test.py, damaged inputs of IRN in test_irn.py and test_affinity_label.py,
unreadable images of mining in test_mine_ood.py, the review's journal in
test_review_decisions.py.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmwood.converters import context_shapes
from mmwood.engine import AtomicBackend
from mmwood.engine.ewc_file import ConsolidatedTask, load_task, save_task
from mmwood.fileio.candidates import Candidate, write_manifest
from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import ScoreMaps, save_score_maps
from mmwood.fileio.labels import save_label_png
from mmwood.fileio.mining_results import Finding, Shard, finished_images
from mmwood.ood.review.pictures import Cache

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
#: More than a log, less than a checkpoint or the maps of a larger image.
LIMIT = 120_000


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """As on a full disk: writing beyond so many bytes fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def run_full(tmp_path: Path) -> Callable[..., str]:
    """Run one of tools/ where no file can be larger than LIMIT; gives its errors."""

    def run(tool: str, *arguments: object) -> str:
        code = (
            "import resource, runpy, sys; "
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT})); "
            "sys.argv = sys.argv[1:]; "
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        path = REPOSITORY / "tools" / tool
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, path, *map(str, arguments)],
            cwd=tmp_path,
            env=dict(os.environ, PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS="1"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode != 0
        return result.stderr

    return run


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


# -- checkpoints ------------------------------------------------------------
def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, map_location="cpu", weights_only=False)["state_dict"]


@pytest.mark.long
def test_a_training_is_resumed_after_a_full_disk_and_a_cut_checkpoint(
    small_config, run_tool, run_full, tmp_path
):
    pytest.importorskip("mmpretrain")
    # Without shuffling a resumed epoch sees what an undisturbed one does.
    small_config.write_text(
        small_config.read_text().replace(
            "batch_size=2, num_workers=0, persistent",
            "sampler=dict(shuffle=False), batch_size=2, num_workers=0, persistent",
        )
    )
    arguments = ("train.py", small_config, "--work-dir", "work")
    work = tmp_path / "work"
    first, second = work / "epoch_1.pth", work / "epoch_2.pth"
    run_tool(*arguments)
    assert first.stat().st_size > LIMIT
    before = first.read_bytes()

    two = ("--cfg-options", "train_cfg.max_epochs=2")
    error = run_full(*arguments, "--resume", *two)
    assert f"File too large; make room and try again: '{second}'" in error
    assert sorted(path.name for path in work.glob("*.pth")) == ["epoch_1.pth"]
    assert not list(work.rglob(".tmp-*"))
    assert first.read_bytes() == before
    assert (work / "last_checkpoint").read_text() == str(first)

    run_tool(*arguments, "--resume", *two)
    whole = weights(second)
    cut(second)
    three = ("--cfg-options", "train_cfg.max_epochs=3")
    error = run_tool(*arguments, "--resume", *three, fails=True)
    assert f"last_checkpoint names: {second} is cut off" in error
    assert "name an older checkpoint" in error
    error = run_tool("test.py", small_config, second, fails=True)
    assert f"load_from: {second} is cut off" in error

    run_tool(*arguments, "--resume", first, *two)
    torch.testing.assert_close(weights(second), whole)


@pytest.mark.parametrize(
    "content", [b"image,labels\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"]
)
@pytest.mark.parametrize("field", ["load_from", "model.init_cfg.checkpoint"])
def test_what_is_no_checkpoint_is_named(field, content, tmp_path):
    from mmwood.engine.runner import build_runner

    path = tmp_path / "a.pth"
    path.write_bytes(content)
    cfg = Config(dict(work_dir=str(tmp_path), launcher="none"))
    cfg.merge_from_dict({field: str(path)})
    with pytest.raises(ValueError, match=rf"{field}: .*a\.pth is no checkpoint"):
        build_runner(cfg)


def test_cut_weights_of_a_part_of_the_model_are_named(tmp_path):
    from mmwood.engine.runner import build_runner

    path = tmp_path / "imagenet.pth"
    torch.save(dict(weight=torch.rand(1000)), path)
    cut(path)
    init_cfg = [dict(type="Pretrained", checkpoint=str(path))]
    cfg = Config(
        dict(
            model=dict(backbone=dict(init_cfg=init_cfg)),
            work_dir=str(tmp_path),
            launcher="none",
        )
    )
    field = r"model\.backbone\.init_cfg\.0\.checkpoint"
    with pytest.raises(ValueError, match=rf"{field}: .*imagenet\.pth is cut off"):
        build_runner(cfg)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{field}: .*imagenet\.pth is cut off"):
        build_runner(cfg)


# -- configs ----------------------------------------------------------------
@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("train.py", ["none.py"], "config: there is no file none.py"),
        ("test.py", ["CONFIG", "none.pth"], "checkpoint: there is no file none.pth"),
        ("train.py", ["CONFIG", "--resume", "none.pth"], "none.pth can not be found."),
        (
            "train.py",
            ["CONFIG", "--cfg-options", "default_hooks.logger.intervall=1"],
            "LoggerHook.__init__() got an unexpected keyword argument 'intervall'",
        ),
        (
            "train.py",
            ["CONFIG", "--cfg-options", "default_hooks.pseudo_label.threshold=2"],
            "mmwood.PseudoLabelHook: threshold must be at least 0 and below 1",
        ),
        (
            "train.py",
            ["CONFIG", "--cfg-options", "model.head.type=CAMHed"],
            "CAMHed is not in the mmpretrain::model registry",
        ),
    ],
)
def test_what_is_wrong_stands_in_the_last_line(
    small_config, run_tool, tool, arguments, message
):
    pytest.importorskip("mmpretrain")
    arguments = [small_config if a == "CONFIG" else a for a in arguments]
    text = run_tool(tool, *arguments, fails=True)
    assert "Traceback" not in text
    assert text.splitlines()[-1].startswith(message)


# -- labels -----------------------------------------------------------------
@pytest.mark.long
def test_labels_are_resumed_after_a_lost_image_and_a_full_disk(
    small_config, voc_folder, run_tool, start_tool, run_full, tmp_path, hashes
):
    pytest.importorskip("mmpretrain")
    # The maps of a larger image do not fit.
    image, mask = (
        voc_folder / "JPEGImages/image_4.jpg",
        voc_folder / "SegmentationClass/image_4.png",
    )
    for path in (image, mask):
        with Image.open(path) as small:
            small.resize((400, 400), Image.Resampling.NEAREST).save(path)
    run_tool("train.py", small_config, "--work-dir", "trained")
    arguments = (
        *("test.py", small_config, "trained/epoch_1.pth", "--work-dir", "work"),
        *("--cfg-options", "test_dataloader.batch_size=1"),
        "default_hooks.pseudo_label.save_scores=['strided','full']",
    )
    folder = tmp_path / "work/pseudo_labels"

    # An image is deleted while others are worked on.
    lost = voc_folder / "JPEGImages/image_5.jpg"
    process = start_tool(*arguments)
    deadline = time.monotonic() + 120
    while not (folder / "labels/image_0.png").is_file():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    content = lost.read_bytes()
    lost.unlink()
    process.send_signal(signal.SIGCONT)
    assert process.wait() != 0
    assert f"No such file or directory: '{lost}'" in process.read()
    names = [f"{kind}/image_{n}" for n in range(5) for kind in ("labels", "scores")]
    found = hashes(folder)
    assert {name.rpartition(".")[0] for name in found} == {*names, "manifest"}
    assert not json.loads((folder / "manifest.json").read_text())["complete"]

    # The disk is full when the larger image's turn comes again.
    lost.write_bytes(content)
    scores = folder / "scores/image_4.npz"
    assert scores.stat().st_size > LIMIT
    scores.unlink()
    error = run_full(*arguments)
    assert f"File too large; make room and try again: '{scores.resolve()}'" in error
    found.pop("scores/image_4.npz")
    assert hashes(folder) == found

    text = run_tool(*arguments)
    assert "4 of 6 images are finished" in text
    after = hashes(folder)
    assert len(after) == 13
    kept = set(found) - {"manifest.json"}
    assert {name: after[name] for name in kept} == {name: found[name] for name in kept}
    assert json.loads((folder / "manifest.json").read_text())["complete"]


# -- single files -----------------------------------------------------------
def noise(height: int, width: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 20, (height, width, channels), dtype=np.uint8)
    return values.squeeze(-1) if channels == 1 else values


def maps(size: int) -> ScoreMaps:
    full = (noise(size, size) / 20).astype(np.float16)[None]
    return ScoreMaps(np.array([0]), np.ones(1, np.float32), full[:, ::4, ::4], full)


def candidates(count: int) -> Iterator[Candidate]:
    return (
        Candidate(f"{n}.jpg", "train", 0.5, n, "unseen", "0" * 64) for n in range(count)
    )


def task(size: int) -> ConsolidatedTask:
    return ConsolidatedTask(dict(a=torch.rand(size)), dict(a=torch.rand(size)), {})


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("label.png", lambda path, size: save_label_png(noise(size, size), path)),
        ("maps.npz", lambda path, size: save_score_maps(path, maps(size))),
        ("ood.csv", lambda path, size: write_manifest(path, candidates(size))),
        ("manifest.json", lambda path, size: write_json(path, list(range(20 * size)))),
        ("ewc.safetensors", lambda path, size: save_task(path, task(20 * size))),
        ("a.pth", lambda path, size: AtomicBackend().put(bytes(100 * size), path)),
    ],
)
def test_a_full_disk_leaves_the_old_file(name, write, tmp_path):
    path = tmp_path / name
    write(path, 40)
    before = path.read_bytes()
    with (
        no_file_above(8000),
        pytest.raises(OSError, match=rf"make room and try again: '.*{name}'"),
    ):
        write(path, 400)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]
    write(path, 400)
    assert path.read_bytes() != before
    if name == "ewc.safetensors":
        assert load_task(path).fisher["a"].shape == (8000,)


def test_mining_is_resumed_after_a_full_disk(tmp_path):
    path = tmp_path / "part_0000_0000.sqlite"
    batches = [
        [
            Finding(n, f"{n:0100}.jpg", 0.9, classes=[(0, 0.9)])
            for n in range(start, start + 99)
        ]
        for start in (0, 99, 198)
    ]
    part = Shard(path, dict(threshold=0.5))
    part.add(batches[0])
    with (
        no_file_above(path.stat().st_size),
        pytest.raises(OSError, match=r"make room and try again: '.*0000_0000\.sqlite'"),
    ):
        part.add(batches[1])
    part.close()
    finished = finished_images(tmp_path, dict(threshold=0.5), 297)
    assert finished.tolist() == [True] * 99 + [False] * 198


def test_drawing_is_resumed_after_a_full_disk(tmp_path, hashes):
    with (
        no_file_above(2000),
        pytest.raises(OSError, match=r"make room and try again: '.*train_000000\.jpg'"),
    ):
        context_shapes.generate(tmp_path / "a", 2, 1, 1)
    assert not list(tmp_path.rglob("*.jpg"))
    context_shapes.generate(tmp_path / "a", 2, 1, 1)
    context_shapes.generate(tmp_path / "b", 2, 1, 1)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(bytes(500))])
def test_a_damaged_picture_of_the_review_is_made_again(damage, tmp_path):
    from mmwood.ood.review.pictures import to_jpeg

    content = to_jpeg(Image.fromarray(noise(40, 50, 3)))
    cache, made = Cache(tmp_path, 1_000_000), []

    def make() -> bytes:
        made.append(True)
        return content

    for _ in range(2):
        assert cache.get("key", make) == content
    assert len(made) == 1
    (path,) = tmp_path.rglob("*.jpg")
    damage(path)
    for _ in range(2):
        assert cache.get("key", make) == content
    assert len(made) == 2
    assert path.read_bytes() == content
