"""What tests of models have in common."""

import pytest
import torch
from mmengine.registry import init_default_scope


@pytest.fixture(autouse=True)
def scope():
    """As in a run of a classifier's config; the same random weights in every test."""
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
