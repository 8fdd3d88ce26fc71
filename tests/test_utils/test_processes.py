"""Workers of a killed process are gone, and groups are left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmwood.utils.command import run

#: A DataLoader whose workers wait for a process that takes no more batches.
LOADER = """\
import time
import torch
from torch.utils.data import DataLoader
from mmwood.utils.processes import end_children_with_this
end_children_with_this()
batches = iter(DataLoader(torch.zeros(100, 1 << 20), num_workers=2))
next(batches)
print(*(worker.pid for worker in batches._workers), flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux ends them with the parent"
)
def test_workers_end_with_a_killed_process(is_alive):
    with subprocess.Popen(
        [sys.executable, "-c", LOADER],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2])),
    ) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_alive, workers))
        process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 60
    while any(map(is_alive, workers)):
        assert time.monotonic() < end, "a worker outlives the process it works for"
        time.sleep(0.05)


def test_a_script_leaves_its_process_group(tmp_path):
    distributed = torch.distributed

    def main() -> None:
        store = f"file://{tmp_path / 'store'}"
        distributed.init_process_group("gloo", store, rank=0, world_size=1)

    run(main)
    assert not distributed.is_initialized()
