import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmwood.functional.gradients import gradients


@pytest.mark.parametrize("kind", ["kept", "reentrant", "not reentrant"])
def test_equals_autograd_however_activations_are_kept(kind):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    x = torch.randn(2, 4, requires_grad=True)
    unused = torch.zeros(2, requires_grad=True)
    leaves = [x, network[0].weight, unused]
    expected = torch.autograd.grad(network(x).sum(), leaves, allow_unused=True)

    def run(x):
        if kind == "kept":
            return network(x)
        return checkpoint(network, x, use_reentrant=kind == "reentrant")

    own = torch.full_like(x, 7)
    x.grad = own
    found = gradients(run(x).sum(), leaves)
    for one, other in zip(found[:2], expected[:2]):
        torch.testing.assert_close(one, other)
    assert found[2] is None
    assert x.grad is own
    assert network[0].weight.grad is None
