"""Groups of equal shape."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmwood.functional.batching import group_by_shape


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=12))
def test_groups_stack_and_hold_every_index_once(shapes):
    groups = group_by_shape([torch.zeros(shape) for shape in shapes])
    assert sorted(index for group in groups for index in group) == list(
        range(len(shapes))
    )
    found = [{shapes[index] for index in group} for group in groups]
    assert all(len(group) == 1 for group in found)
    assert len(set.union(set(), *found)) == len(groups)
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
