"""A forked tool is what the interpreter would have started."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TOOL = """
import json, multiprocessing, os, random, sys
import numpy as np, torch
import beside

def main():
    what = sys.argv[1]
    print("said")
    print("complained", file=sys.stderr)
    if what == "text":
        sys.exit("the reason")
    if what == "number":
        sys.exit(3)
    if what == "error":
        raise KeyError("lost")
    if what == "killed":
        os.kill(os.getpid(), 9)
    if what == "asleep":
        import time
        time.sleep(60)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (squared,) = pool.map(square, [3])
    print(json.dumps(dict(
        argv=sys.argv, folder=os.getcwd(), variables=dict(os.environ),
        threads=torch.get_num_threads(), squared=squared, beside=beside.VALUE,
        drawn=[random.random(), np.random.random(), torch.rand(()).item()],
    )))

def square(number):
    return number * number

if __name__ == "__main__":
    main()
"""
DRIVER = """
import os, sys
import mmwood.pipeline.launch as launch
# The second loads triton, whose nanobind looks for leaks at the end.
launch._IMPORTED = ("torch", "torch._dynamo")
if not launch.can_fork():
    sys.exit(77)
os.environ["LEFT"] = "here"
folder, *whats = sys.argv[1:]
environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH")}
for what in whats:
    process = launch.fork_tool(
        ["tools/tool.py", what], f"{what}.log",
        environment | dict(OMP_NUM_THREADS="2", GIVEN=what), folder,
    )
    if what == "asleep":
        print(process.pid, flush=True)
    process.join()
    print(what, process.exitcode)
"""


@pytest.fixture
def drive(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/tool.py").write_text(TOOL)
    (tmp_path / "tools/beside.py").write_text("VALUE = 7")
    (tmp_path / "driver.py").write_text(DRIVER)
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))

    def start(*whats: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "driver.py", tmp_path, *whats],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def skip_where_nothing_is_forked(driver: subprocess.Popen) -> None:
    if driver.returncode == 77:
        pytest.skip("tools are forked on Linux, and where there is no GPU")


def test_as_if_started_anew(drive, tmp_path):
    with drive("one", "two", "text", "number", "error", "killed") as driver:
        lines = driver.stdout.read().splitlines()
    skip_where_nothing_is_forked(driver)
    assert driver.returncode == 0
    assert lines == ["one 0", "two 0", "text 1", "number 3", "error 1", "killed -9"]
    logs = {path.stem: path.read_text() for path in tmp_path.glob("*.log")}
    assert all(log.startswith("said\ncomplained\n") for log in logs.values())
    assert logs["text"].endswith("complained\nthe reason\n")
    assert logs["error"].endswith("KeyError: 'lost'\n")
    assert logs["killed"] == "said\ncomplained\n"
    found = [json.loads(logs[what].splitlines()[-1]) for what in ("one", "two")]
    assert found[0]["argv"] == ["tools/tool.py", "one"]
    assert found[0]["folder"] == str(tmp_path)
    assert found[0]["variables"]["GIVEN"] == "one"
    assert "LEFT" not in found[0]["variables"]
    assert (found[0]["threads"], found[0]["squared"], found[0]["beside"]) == (2, 9, 7)
    assert all(a != b for a, b in zip(found[0]["drawn"], found[1]["drawn"]))


def test_it_ends_with_what_forked_it(drive, is_alive):
    with drive("asleep") as driver:
        line = driver.stdout.readline()
        driver.send_signal(signal.SIGKILL)
    skip_where_nothing_is_forked(driver)
    deadline = time.monotonic() + 30
    while is_alive(int(line)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
