"""Convolutions in channels-last order."""

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmwood.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keep the weights of convolutions in channels-last order, and so their outputs.

    Convolutions of a CPU, and of a GPU under automatic mixed precision, are faster so
    (docs/performance.md); the results differ by rounding. For training, validation and
    testing, of any model.

    In one process only, and nothing is done in several: PyTorch's
    ``DistributedDataParallel`` wants the order that weights have when it is made,
    before any hook is called, and gives wrong gradients in another.

    Example:
        >>> default_hooks = dict(channels_last=dict(type='mmwood.ChannelsLastHook'))
    """

    # Not before_run: random weights, which come later, are drawn in the tensors' order.
    def before_train(self, runner: Runner) -> None:
        """Convert the model in place."""
        if not is_model_wrapper(runner.model):
            runner.model.to(memory_format=torch.channels_last)

    before_val = before_test = before_train
