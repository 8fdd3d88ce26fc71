"""Activation checkpointing, switched off for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.runner.activation_checkpointing import wrap_forward
from torch import nn

#: The switches of backbones of OpenMMLab and timm.
SWITCHES = ("with_cp", "use_checkpoint", "grad_checkpointing")

#: What all functions that ``wrap_forward`` makes have in common.
_WRAPPER = wrap_forward(lambda: None).__code__


@contextmanager
def without_checkpointing(model: nn.Module) -> Iterator[None]:
    """Keep all activations of a model, whichever way checkpointing was switched on.

    torch's reentrant checkpointing, which OpenMMLab uses, has no gradients but those
    that ``backward()`` adds to ``.grad``: ``torch.autograd.grad`` fails. And modules
    whose inputs require no gradient, as images, get none at all. The switches are the
    backbones' (``with_cp``) and the Runner's field ``activation_checkpointing``.

    Example:
        >>> with without_checkpointing(model):
        ...     gradients = torch.autograd.grad(loss(model(images)), weights)
    """
    switched = [
        (module, switch, vars(module)[switch])
        for module in model.modules()
        for switch in SWITCHES
        if vars(module).get(switch)
    ]
    wrapped = [
        (module, vars(module)["forward"])
        for module in model.modules()
        if _is_wrapped(vars(module).get("forward"))
    ]
    for module, switch, _ in switched:
        setattr(module, switch, False)
    for module, forward in wrapped:
        # Each Runner.train() of a process wraps once more.
        while _is_wrapped(forward):
            forward = forward.__wrapped__
        module.forward = forward
    try:
        yield
    finally:
        for module, switch, value in switched:
            setattr(module, switch, value)
        for module, forward in wrapped:
            module.forward = forward


def _is_wrapped(forward: object) -> bool:
    return getattr(forward, "__code__", None) is _WRAPPER
