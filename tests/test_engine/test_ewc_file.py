"""The file between EWC's two tasks."""

import pytest
import torch
from safetensors.torch import save_file

from mmwood.engine.ewc_file import ConsolidatedTask, load_task, save_task

FISHER = {"a.b": torch.rand(2, 3), "c": torch.rand(())}
ANCHOR = {"a.b": torch.rand(2, 3).double(), "c": torch.rand(()).half()}


def test_what_is_read_is_what_was_written(tmp_path):
    path = tmp_path / "new/ewc.safetensors"
    save_task(path, ConsolidatedTask(FISHER, ANCHOR, dict(images=3)))
    task = load_task(path)
    assert task.about == dict(images=3)
    for found, expected in ((task.fisher, FISHER), (task.anchor, ANCHOR)):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert list(path.parent.iterdir()) == [path]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "ewc.safetensors"
    with pytest.raises(FileNotFoundError):
        load_task(path)
    save_task(path, ConsolidatedTask(FISHER, ANCHOR, {}))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="no safetensors file, or damaged"):
        load_task(path)
    save_task(path, ConsolidatedTask(FISHER, {"c": ANCHOR["c"]}, {}))
    with pytest.raises(ValueError, match="same names and shapes"):
        load_task(path)
    save_file({"fisher.a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"not written by mmwood\.EWCHook"):
        load_task(path)
