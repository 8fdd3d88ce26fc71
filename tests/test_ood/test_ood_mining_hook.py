"""What the hook refuses and which batches it leaves; test_mine_ood.py runs it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mmpretrain")

from mmwood.engine import OoDMiningHook
from mmwood.engine.hooks.ood_mining_hook import _OpenBatches


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_wrong_thresholds(threshold):
    with pytest.raises(ValueError, match="threshold must be at least 0 and below 1"):
        OoDMiningHook(threshold=threshold)


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
