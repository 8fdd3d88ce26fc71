"""Weights of a backbone for images of another number of bands."""

import pytest
import torch
from torch import nn

from mmwood.engine.weights import with_input_channels


def network(channels):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8),
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
def test_the_colours_are_repeated_and_scaled(channels):
    state = network(3).state_dict()
    wider = network(channels)
    wider.load_state_dict(with_input_channels(state, channels))
    for band in range(channels):
        expected = state["0.weight"][:, band % 3] * 3 / channels
        torch.testing.assert_close(wider[0].weight[:, band], expected)


def test_bands_that_are_alike_give_what_such_colours_gave():
    before, wider = network(3).eval(), network(6).eval()
    wider.load_state_dict(with_input_channels(before.state_dict(), 6))
    colours = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(wider(colours.repeat(1, 2, 1, 1)), before(colours))


def test_no_first_convolution_or_several():
    state = network(3).state_dict()
    for wrong, found in (
        ({"1.bias": torch.zeros(8)}, "0: none"),
        (state | {"x.weight": torch.zeros(4, 3, 1, 1)}, "2: 0.weight, x.weight"),
    ):
        with pytest.raises(ValueError, match=f"takes three channels, found {found}"):
            with_input_channels(wrong, 4)
