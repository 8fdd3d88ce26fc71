"""Batch normalisation inside the convolution before it, for the time of a test."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["find_pairs", "folded"]

#: A convolution, and the normalisation that alone sees what comes out of it.
Pair = tuple[nn.Conv2d, _BatchNorm]
#: Largest difference of features, as a part of the largest one, that is rounding.
ROUNDING = 1e-3


@contextmanager
def folded(pairs: Sequence[Pair]) -> Iterator[None]:
    """Within, the convolutions do their normalisation's work; afterwards all is as was.

    Their weights are made anew each time, so that a network may be trained or loaded
    in between. No gradients.

    Args:
        pairs: What :func:`find_pairs` found, in evaluation mode.
    """
    kept = [(conv, conv.weight, conv.bias) for conv, _ in pairs]
    try:
        for conv, norm in pairs:
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            # timm's normalisation includes the activation.
            norm.forward = getattr(norm, "act", nn.Identity()).forward
        yield
    finally:
        for conv, weight, bias in kept:
            conv.weight, conv.bias = weight, bias
        for _, norm in pairs:
            norm.__dict__.pop("forward", None)


@torch.no_grad()
def find_pairs(network: nn.Module, size: Sequence[int]) -> list[Pair]:
    """The pairs that :func:`folded` can treat, found by running the network.

    Args:
        network: A backbone in evaluation mode. It gives a tuple of feature maps.
        size: (channels, h, w) of a random image to run it on.

    Returns:
        None at all when, with them folded and the image in channels-last order, the
        network fails or gives features that differ by more than rounding: it then
        does something else with its convolutions too.
    """
    pairs: list[Pair] = []

    def remember(conv: nn.Conv2d, _args: tuple, output: Tensor) -> None:
        output.made_by = conv

    def look(norm: _BatchNorm, args: tuple) -> None:
        conv = getattr(args[0], "made_by", None)
        if conv is not None and norm.running_mean is not None:
            pairs.append((conv, norm))

    handles = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(remember))
        elif isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(look))
    image = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    # In full precision, whatever the test's: the two are compared.
    precision = torch.autocast("cpu", enabled=False)
    try:
        with precision:
            expected = network(image)[-1]
    finally:
        for handle in handles:
            handle.remove()
    try:
        with precision, folded(pairs):
            found = network(image.contiguous(memory_format=torch.channels_last))[-1]
    except RuntimeError:
        # Tensor.view() refuses some tensors in channels-last order.
        return []
    same = (found - expected).abs().max() <= ROUNDING * expected.abs().max()
    return pairs if same else []
