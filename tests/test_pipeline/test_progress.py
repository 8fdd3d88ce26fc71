"""What a person sees of running stages on a (pseudo) terminal, and what logs get."""

import os
import pty
import subprocess
import sys
from pathlib import Path

TOOL = """\
import sys, time
for step in range(4):
    sys.stderr.write(f"\\rwork: {step}/3")
    sys.stderr.flush()
    time.sleep(0.3)
sys.stderr.write("\\na warning\\n")
print("a result")
"""
MAIN = """\
from mmwood.pipeline.graph import load_pipeline
from mmwood.pipeline.run import make_plan, run_plan
pipeline = load_pipeline("pipeline.py", "tools")
run_plan(pipeline, make_plan(pipeline), jobs=2)
"""


def read_all(terminal: int) -> str:
    pieces = []
    while True:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces).decode()


def test_bars_of_stages_on_one_terminal_and_lines_in_their_logs(tmp_path: Path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/tool.py").write_text(TOOL)
    stages = dict(one=dict(run="tool.py"), two=dict(run="tool.py"))
    (tmp_path / "pipeline.py").write_text(f"work_dir = 'w'\nstages = {stages!r}\n")
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", MAIN],
        cwd=tmp_path,
        stdout=theirs,
        stderr=theirs,
        env=dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]), COLUMNS="60"),
    ) as process:
        os.close(theirs)
        shown = read_all(terminal)
    os.close(terminal)
    assert process.returncode == 0, shown
    for stage in ("one", "two"):
        assert f"{stage}  work: " in shown
        assert f"{stage}: done in" in shown
        log = (tmp_path / f"w/logs/{stage}.log").read_text()
        # The bar's last state, and all lines; none of its other states.
        assert sorted(log.split("\n")) == ["", "a result", "a warning", "work: 3/3"]
    # Both at a time, one line each.
    assert "one  work: " in shown.split("two  work: ")[0]


def test_without_a_terminal_nothing_moves(tmp_path: Path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/tool.py").write_text(TOOL)
    (tmp_path / "pipeline.py").write_text(
        "work_dir = 'w'\nstages = dict(one=dict(run='tool.py'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", MAIN],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2])),
        check=True,
    )
    assert "\x1b" not in result.stdout + result.stderr
    assert "work" not in result.stdout + result.stderr
    assert "a warning" in (tmp_path / "w/logs/one.log").read_text()
