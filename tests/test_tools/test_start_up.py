"""What a script says before torch, which takes seconds, is imported."""

import os
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPTS = sorted(path.relative_to(TOOLS) for path in TOOLS.rglob("*.py"))
#: Runs scripts one after the other in a process that cannot import torch.
WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
for command in sys.argv[1].split("\\n"):
    sys.argv = command.split("\\t")
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            print(end.code)
"""


def run_without_torch(folder: Path, *commands: tuple[object, ...]) -> str:
    """What scripts print, and why they end, in one process."""
    lines = ["\t".join(map(str, (TOOLS / tool, *rest))) for tool, *rest in commands]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "\n".join(lines)],
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=str(TOOLS.parent)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_needs_no_torch(tmp_path: Path):
    text = run_without_torch(tmp_path, *[(script, "--help") for script in SCRIPTS])
    assert text.count("usage: ") == len(SCRIPTS) > 30


CONFIGS = {
    "other.py": "_base_ = 'gone.py'",
    "broken.py": "model = dict()\ntrain_cfg = dict(",
    "of_broken.py": "_base_ = ['empty.py', 'broken.py']",
    "empty.py": "work_dir = 'here'",
    "step.py": "a = dict(type='A')\nmodel = train_cfg = optim_wrapper = a\n"
    "train_dataloader = dict(dataset=dict(pipeline=dict(lod=dict(color='x'))))",
    "scaled.py": "a = dict(type='A')\n"
    "model = train_cfg = optim_wrapper = train_dataloader = a",
}


def test_configs_are_refused_before_torch(tmp_path: Path):
    for name, text in CONFIGS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "weights.pth").touch()
    said = {
        ("train.py", "missing.py"): "config: there is no file missing.py",
        ("train.py", "other.py"): "other.py: _base_: there is no file ",
        ("train.py", "broken.py"): "broken.py:2: '(' was never closed",
        ("train.py", "of_broken.py"): "broken.py:2: '(' was never closed",
        ("train.py", "empty.py"): "empty.py: the config has no model and no "
        "train_dataloader and no train_cfg and no optim_wrapper",
        ("train.py", "step.py"): "pipeline.lod: has no type",
        ("train.py", "scaled.py", "--auto-scale-lr"): "the config has no "
        "auto_scale_lr.base_batch_size",
        ("test.py", "empty.py", "gone.pth"): "checkpoint: there is no file gone.pth",
        ("test.py", "empty.py", "weights.pth"): "empty.py: the config has no model "
        "and no test_dataloader and no test_cfg and no test_evaluator",
    }
    lines = run_without_torch(tmp_path, *said).splitlines()
    assert len(lines) == len(said)
    for line, expected in zip(lines, said.values()):
        assert expected in line
