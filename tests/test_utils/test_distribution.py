"""The stack check on environments made of real (empty) distributions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ONEDL = ("onedl-mmengine", "onedl-mmcv")
CLASSIC = ("mmengine", "mmcv")


def check(folder: Path, distributions: tuple[str, ...]) -> str:
    """Run the check where exactly these distributions are installed."""
    for name in distributions:
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n")
    code = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
        "from mmwood.utils.distribution import DistributionError, check_distribution\n"
        "try: print(check_distribution())\n"
        "except DistributionError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=dict(os.environ, PYTHONPATH=f"{folder}{os.pathsep}{REPOSITORY}"),
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


@pytest.mark.parametrize(
    ("distributions", "stack"), [(ONEDL, "onedl"), (CLASSIC, "openmmlab")]
)
def test_one_stack(tmp_path, distributions, stack):
    assert check(tmp_path, distributions) == stack


@pytest.mark.parametrize("distributions", [(), ("onedl-mmcv",)])
def test_a_missing_stack_names_the_command(tmp_path, distributions):
    message = check(tmp_path, distributions)
    assert "mmengine" in message
    assert 'run `pip install -e ".[onedl]"`' in message
    assert len(message.splitlines()) == 1


def test_a_doubled_stack_names_the_command(tmp_path):
    message = check(tmp_path, (*ONEDL, "mmengine"))
    assert "`pip uninstall -y onedl-mmengine mmengine`" in message
    assert len(message.splitlines()) == 1
