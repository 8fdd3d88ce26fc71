"""Several processes leave what one leaves; one that fails ends all."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tool_processes import tool_environment

from mmwood.fileio.journal import Journal, journal_path
from mmwood.registry import MODELS

pytest.importorskip("mmpretrain")

pytestmark = pytest.mark.slow

TOOLS = Path(__file__).parents[2] / "tools"
CHECK = Path(__file__).parents[1] / "checks/two_processes.py"
#: Seconds after which a run counts as hanging. Nothing is timed.
HANGS = 400
#: Each process says who it is; one may find its machine not as it should be.
WHO = """
import os
import re
from pathlib import Path

rank = os.environ["RANK"]
if rank == os.environ.get("BROKEN_RANK"):
    raise OSError("/scratch/weights.pth: no such disk on this machine")
Path(f"pid_{rank}").write_text(str(os.getpid()))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a script by the shell, nothing of it forked, in the test's folder."""
    started = []

    def run(script: str, *arguments: object) -> subprocess.Popen:
        with (tmp_path / "errors.txt").open("w") as errors:
            process = subprocess.Popen(
                ["bash", str(TOOLS / script), *map(str, arguments)],
                cwd=tmp_path,
                env=tool_environment(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(HANGS)


@pytest.fixture
def fails(start_tool, tmp_path: Path) -> Callable[..., str]:
    """Run one of tools/ to its end, which must be a failure; gives what it printed."""

    def run(*arguments: object) -> str:
        tool = start_tool(*arguments)
        failure(tool, tmp_path)
        return tool.read()

    return run


def failure(process, folder: Path) -> None:
    """Wait for a run that must fail and leave no process."""
    assert process.wait(HANGS) != 0
    for path in folder.glob("pid_*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


@pytest.fixture
def config(small_config: Path, tmp_path: Path) -> Path:
    """:func:`small_config` whose processes say who they are."""
    (tmp_path / "who.py").write_text(WHO)
    path = tmp_path / "config.py"
    path.write_text(
        f'_base_ = ["{small_config}"]\n'
        'custom_imports = dict(imports=["who"])\n'
        "train_dataloader = dict(batch_size=1, sampler=dict(shuffle=False))\n"
        "test_dataloader = dict(batch_size=1)\n"
    )
    return path


@pytest.fixture
def checkpoint(small_config: Path, tmp_path: Path) -> Path:
    """A classifier of random weights."""
    pytest.importorskip("mmpretrain")
    init_default_scope("mmpretrain")
    model = MODELS.build(Config.fromfile(small_config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "model.pth")
    return tmp_path / "model.pth"


@pytest.fixture
def damaged(voc_folder: Path) -> Path:
    """An image that only the second of two processes meets; its header is whole."""
    path = voc_folder / "JPEGImages/image_3.jpg"
    os.truncate(path, path.stat().st_size * 2 // 3)
    return path


def wait_for(condition: Callable[[], bool], process) -> None:
    deadline = time.monotonic() + HANGS
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_image_that_one_process_cannot_read_ends_training(
    config, damaged, start, tmp_path
):
    failure(start("dist_train.sh", config, 2), tmp_path)
    text = (tmp_path / "errors.txt").read_text()
    assert f"\n{damaged} is not a whole image" in f"\n{text}"
    # The other process may say that its peer is gone.
    assert "[rank1]:" not in text


def test_an_image_that_one_process_cannot_read_ends_a_test(
    config, checkpoint, damaged, fails, tmp_path
):
    text = fails("dist_test.sh", config, checkpoint, 2, "--work-dir", "work")
    assert f"{damaged} is not a whole image" in text
    labels = tmp_path / "work/pseudo_labels"
    assert not json.loads((labels / "manifest.json").read_text())["complete"]
    # What was finished is whole, and stays.
    assert (labels / "labels/image_1.png").is_file()
    assert not (labels / "labels/image_3.png").exists()


def test_a_killed_process_ends_the_one_that_waits_for_it(config, start, tmp_path):
    process = start(
        *("dist_train.sh", config, 2, "--work-dir", "work", "--cfg-options"),
        *("train_cfg.max_epochs=100000", "default_hooks.checkpoint.interval=100000"),
    )
    wait_for(lambda: any(tmp_path.glob("work/*/vis_data/scalars.json")), process)
    victim = int((tmp_path / "pid_1").read_text())
    os.kill(victim, signal.SIGSTOP)
    # Steps take milliseconds: the other one waits for the gradients of this one.
    time.sleep(1)
    os.kill(victim, signal.SIGKILL)
    failure(process, tmp_path)
    text = (tmp_path / "errors.txt").read_text()
    # In the table of torchrun, also where it noticed the other one's end first.
    assert re.search(rf"exitcode\s*: -9 \(pid: {victim}\)", text), text


def test_a_process_that_fails_before_all_have_met_ends_the_others(
    config, fails, monkeypatch
):
    monkeypatch.setenv("BROKEN_RANK", "1")
    text = fails("dist_train.sh", config, 2)
    assert "/scratch/weights.pth: no such disk on this machine" in text


def test_a_signal_to_the_script_ends_all(config, start, tmp_path):
    process = start("dist_train.sh", config, 2)
    wait_for(lambda: all((tmp_path / f"pid_{rank}").exists() for rank in "01"), process)
    process.terminate()
    failure(process, tmp_path)


@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh", "dist_mine.sh"])
def test_scripts_say_what_they_need(script, start, tmp_path):
    failure(start(script, "config.py"), tmp_path)
    assert "usage: " in (tmp_path / "errors.txt").read_text()


def test_what_only_the_main_process_sees_ends_mining(
    config, checkpoint, voc_folder, fails, tmp_path
):
    """The others wait at a barrier meanwhile."""
    review = Journal(journal_path(tmp_path / "ood.csv"))
    text = fails(
        *("dist_mine.sh", config, checkpoint, 2, "--work-dir", "mined"),
        *("--candidates", voc_folder / "JPEGImages", "--out", "ood.csv"),
    )
    review.close()
    assert "--out: ood.csv must not change now" in text


def test_a_batch_that_one_process_refuses_ends_mining(
    config, checkpoint, voc_folder, fails, tmp_path
):
    # Two images of one size for the first process, of two sizes for the second.
    names = [f"image_{number}.jpg" for number in (0, 2, 1, 3)]
    folder = voc_folder / "JPEGImages"
    (folder / "candidates.txt").write_text("\n".join(names))
    text = fails(
        *("dist_mine.sh", config, checkpoint, 2, "--work-dir", "mined"),
        *("--candidates", folder / "candidates.txt", "--batch-size", 2),
        *("--out", "ood.csv", "--cfg-options", "model.type=ImageClassifier"),
    )
    assert "image_1.jpg" in text
    assert "use --batch-size 1" in text
    assert not (tmp_path / "ood.csv").exists()


@pytest.mark.long
def test_stages_do_the_same_with_two_processes(run_tool):
    """The stages that no other test compares; the tool's default is all of them."""
    pytest.importorskip("mmseg")
    text = run_tool(
        "../tests/checks/two_processes.py", "--stages", "wood", "segmentor_test"
    )
    assert "W-OoD: clusters, training" in text
    assert "segmentor, test" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_check_of_a_gpu_says_that_there_is_none(run_tool):
    (line,) = run_tool("../tests/checks/gpu.py", fails=True).splitlines()
    assert "sees no CUDA device" in line


def test_the_check_of_a_gpu_on_the_cpu(run_tool, tmp_path):
    options = ("--device", "cpu", "--only", "random walk", "--out", "found.json")
    text = run_tool("../tests/checks/gpu.py", *options)
    assert "benchmark: random walk" in text
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["device"] == "cpu"
    assert found["environment"]["torch"] == torch.__version__
    (row,) = found["checks"]
    # The CPU against itself.
    assert (row["good"], row["difference"]) == (True, 0)
    assert row["benchmark"]["repeats"] == 3


def test_a_failing_check_of_a_gpu_does_not_end_the_others():
    check = runpy.run_path(str(CHECK.with_name("gpu.py")), run_name="check")["check"]

    def fail() -> str:
        sys.exit("training failed")

    row = check("seam", fail)
    assert (row["good"], row["detail"]) == (False, "training failed")
    row = check("seam", lambda: 1 / 0)
    assert "ZeroDivisionError" in row["detail"]
    assert not row["good"]


def test_differences_are_found(tmp_path):
    check = runpy.run_path(str(CHECK), run_name="check")

    def leave(stage: str, name: str, one: bytes, two: bytes) -> None:
        for run, content in (("1", one), ("2", two)):
            path = tmp_path / stage / run / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def compare(stage: str) -> tuple[list[str], bool]:
        return check["compare"](tmp_path, stage, 1e-2)

    for name in ("ood.csv", "ood.json", "unreadable.txt"):
        leave("mining", name, b"{}", b"{}")
    assert compare("mining") == (
        ["mining of OoD candidates", "3", "3", "-", "-", "yes"],
        True,
    )
    leave("mining", "ood.csv", b"one", b"two")
    assert compare("mining")[0][1:3] == ["3", "2"]
    assert not compare("mining")[1]

    leave("segmentor_test", "metrics.json", b'{"mIoU": NaN}', b'{"mIoU": NaN}')
    leave("segmentor_test", "ia_iou.json", b'{"a": [1.0, 2]}', b'{"a": [1.0, 2.00001]}')
    assert compare("segmentor_test")[0][3] == "1.0e-05"
    assert compare("segmentor_test")[1]
    leave("segmentor_test", "ia_iou.json", b'{"a": [1.0, 2]}', b'{"a": [1.0]}')
    assert compare("segmentor_test")[0][3] == "inf"
    assert not compare("segmentor_test")[1]

    def train(**last: list[float]) -> bool:
        first = dict(fixed=[1.0], layer=[0.0, 0.0])
        states = dict(first=first, one=dict(first, layer=[3.0, 4.0]))
        states["two"] = states["one"] | last
        places = dict(first="1/epoch_1.pth", one="1/epoch_2.pth", two="2/epoch_2.pth")
        for name, place in places.items():
            state = {key: torch.tensor(value) for key, value in states[name].items()}
            (tmp_path / "irn" / place).parent.mkdir(parents=True, exist_ok=True)
            torch.save(dict(state_dict=state), tmp_path / "irn" / place)
        return compare("irn")[1]

    assert train()
    assert train(layer=[3.04, 4.0])
    assert not train(layer=[3.06, 4.0])
    assert not train(fixed=[1.0001])
    assert not train(layer=[float("nan"), 4.0])
    assert not train(more=[1.0])
