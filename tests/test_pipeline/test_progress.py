"""What a person sees of running stages on a (pseudo) terminal, and without one."""

import io
import re
from pathlib import Path

import pytest

from mmwood.pipeline.graph import load_pipeline
from mmwood.pipeline.run import StageError, make_plan, run_plan

TOOL = """\
import sys, time
print("2026/11/30 06:20:00 - mmengine - INFO - Epoch(train) [1][1/2]", flush=True)
time.sleep(0.5)
sys.stderr.write("\\x1b[32ma warning\\x1b[0m\\n")
sys.stderr.flush()
time.sleep(0.5)
"""
#: Waits until two of it run.
TOGETHER = """\
import os, pathlib, time
pathlib.Path(f"started_{os.getpid()}").touch()
while len([*pathlib.Path().glob("started_*")]) < 2:
    time.sleep(0.05)
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/tool.py").write_text(TOOL)
    stages = dict(one=dict(run="tool.py"), two=dict(run="tool.py"))
    (tmp_path / "pipeline.py").write_text(f"work_dir = 'w'\nstages = {stages!r}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    return load_pipeline("pipeline.py", "tools")


@pytest.mark.slow
def test_a_line_for_each_running_stage_on_a_terminal(pipeline, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    Path("tools/tool.py").write_text(TOGETHER + TOOL)
    run_plan(pipeline, make_plan(pipeline), jobs=2)
    shown = terminal.getvalue()
    assert "one  " in shown.partition("two  ")[2], "both at a time"
    for stage in ("one", "two"):
        for line in (r"Epoch\(train\) \[1\]\[1/2\]", "a warning"):
            assert re.search(rf"{stage}  \d+ s  {line}\x1b\[K\n", shown)
    # At the end all of them are gone.
    assert shown.endswith("\x1b[J")
    assert "one: done in" in capsys.readouterr().out


@pytest.mark.slow
def test_a_log_may_be_removed_while_its_stage_runs(pipeline, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    Path("tools/tool.py").write_text(f"{TOOL}import os; os.remove('w/logs/one.log')\n")
    with Path("tools/tool.py").open("a") as file:
        file.write("time.sleep(0.5)\nsys.exit('a reason')\n")
    with pytest.raises(StageError, match=r"one failed \(exit status 1\)"):
        run_plan(pipeline, make_plan(pipeline, only="one"))
    assert re.search(r"one  \d+ s  \x1b\[K\n", terminal.getvalue())


@pytest.mark.slow
def test_without_a_terminal_nothing_moves(pipeline, capsys):
    run_plan(pipeline, make_plan(pipeline))
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "warning" not in shown.out
    assert "a warning" in Path("w/logs/one.log").read_text()


def test_a_line_fits_the_terminal(pipeline, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    Path("tools/tool.py").write_text("print('x' * 9999, flush=True)\n" + TOOL)
    run_plan(pipeline, make_plan(pipeline, only="one"))
    lines = terminal.getvalue().replace("\x1b[K", "").split("\n")
    assert max(len(line.rpartition("\x1b[J")[2]) for line in lines) <= 39
