"""Freed memory is taken again without asking the system."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FAULTS = """
import resource, sys
import numpy as np
from mmwood.utils.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 24)
start = faults()
for _ in range(10):
    np.ones(1 << 24)
print(faults() - start)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="page faults are counted on Linux"
)
def test_pages_are_taken_once():
    program = [sys.executable, "-c", FAULTS]
    counts = {
        kind: int(subprocess.check_output([*program, kind], cwd=REPOSITORY))
        for kind in ("kept", "returned")
    }
    # Ten times 128 MiB, in pages of 4 KiB or huge ones of 2 MiB.
    assert counts["kept"] < 10
    assert counts["returned"] >= 10 * 64
