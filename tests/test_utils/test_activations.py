import pytest
import torch
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmwood.utils.activations import SWITCHES, without_checkpointing


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        if any(getattr(self, switch, False) for switch in SWITCHES):
            return checkpoint(self.layer, x, use_reentrant=True)
        return self.layer(x)


def switched(model: nn.Module, switch: str) -> None:
    if switch == "activation_checkpointing":
        # A second Runner.train() of a process wraps once more.
        for _ in range(2):
            turn_on_activation_checkpointing(model, ["0", "1"])
    else:
        for block in model:
            setattr(block, switch, True)


@pytest.mark.parametrize("switch", [*SWITCHES, "activation_checkpointing"])
def test_gradients_are_those_of_kept_activations(switch):
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block())
    images, weights = torch.rand(4, 3, requires_grad=True), list(model.parameters())

    def gradients(inputs, wanted):
        return torch.autograd.grad(model(inputs).square().sum(), wanted)

    expected = gradients(images, [images, *weights])
    switched(model, switch)
    with pytest.raises(RuntimeError, match="to not have been used"):
        gradients(images, weights)
    with without_checkpointing(model):
        found = gradients(images, [images, *weights])
        # Reentrant checkpointing would cut these off.
        plain = gradients(images.detach(), weights)
    for one, other in zip([*found, *plain], [*expected, *expected[1:]]):
        assert torch.equal(one, other)
    with pytest.raises(RuntimeError, match="to not have been used"):
        gradients(images, weights)


def test_switches_are_put_back_after_an_error():
    block = Block()
    block.with_cp = True

    def fail():
        with without_checkpointing(block):
            assert not block.with_cp
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert block.with_cp is True
