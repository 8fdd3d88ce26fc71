"""What the hook refuses and which batches it leaves; test_mine_ood.py runs it."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

pytest.importorskip("mmpretrain")

from mmwood.datasets.candidates import CandidateDataset
from mmwood.engine import OoDMiningHook
from mmwood.engine.hooks.ood_mining_hook import _OpenBatches


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_wrong_thresholds(threshold):
    with pytest.raises(ValueError, match=r"^mmwood\.OoDMiningHook: threshold must"):
        OoDMiningHook(threshold=threshold)


def test_a_loader_without_a_batch_size(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\n")
    dataset = CandidateDataset(str(tmp_path / "list.txt"), [])
    loader = DataLoader(dataset, batch_sampler=[[0]])
    runner = SimpleNamespace(test_loop=SimpleNamespace(dataloader=loader))
    with pytest.raises(ValueError, match=r"set test_dataloader\.batch_size"):
        OoDMiningHook().before_test(runner)


@given(
    finished=st.lists(st.booleans(), max_size=40),
    size=st.integers(1, 9),
    world=st.integers(1, 4),
)
def test_open_batches_are_the_same_for_any_number_of_processes(finished, size, world):
    expected = []
    for start in range(0, len(finished), size):
        stretch = range(start, min(start + size, len(finished)))
        batch = [number for number in stretch if not finished[number]]
        expected += [batch] if batch else []
    shares = [
        _OpenBatches(np.array(finished, dtype=bool), size, rank, world)
        for rank in range(world)
    ]
    for rank, share in enumerate(shares):
        assert list(share) == expected[rank::world]
        assert len(share) == len(expected[rank::world])
