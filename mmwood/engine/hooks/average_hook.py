"""A moving average of the network beside its training."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MomentumAnnealingEMA
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mmwood.engine.weights import unwrap

#: What a checkpoint calls the teacher.
_KEY = "mmwood_teacher"


class AverageHook(Hook, ABC):
    """What hooks share whose teacher, an average of the network, changes its batches.

    The teacher averages after each step of the optimizer; an accumulated step counts
    once. The weight of the newest network is the larger of ``momentum`` and 1/n after n
    steps. Buffers are averaged like weights; integers stay. Checkpoints hold the
    teacher.

    Args:
        momentum: The weight of the newest network, as in mmengine.

    Raises:
        ValueError: ``momentum`` is not between 0 and 1; the model does not fit; the
            checkpoint that is resumed has no teacher.
    """

    # After EMAHooks, one of which changes the weights that a training starts from,
    # and before EWCHook gives the model what a copy should not have.
    priority: str | int = "BELOW_NORMAL"

    def __init__(self, momentum: float) -> None:
        self._owner = f"mmwood.{type(self).__name__}"
        if not 0 < momentum < 1:
            raise ValueError(
                f"{self._owner}: momentum must be between 0 and 1, but is {momentum!r}"
            )
        self.momentum = momentum
        self._teacher: Any = None
        self._resumed: dict[str, Tensor] | None = None
        self._handle: RemovableHandle | None = None

    def before_train(self, runner: Runner) -> None:
        """Make the teacher or take the resumed one."""
        resumed, self._resumed = self._resumed, None
        # A training that ended by an error goes on with its teacher.
        kept = self._teacher if runner.iter else None
        self.attach(unwrap(runner))
        if kept is not None and resumed is None:
            resumed = kept.state_dict()
        if not runner.iter:
            return
        if resumed is None:
            raise ValueError(
                f"{self._owner}: the training that is resumed had no teacher: "
                "begin one with its weights (load_from, resume=False), or leave out "
                "the hook"
            )
        self._teacher.load_state_dict(resumed)

    def attach(self, model: BaseModel) -> None:
        """Make the teacher of a model that is not wrapped, and change its batches."""
        self._detach()
        self._check_model(model)
        self._teacher = MomentumAnnealingEMA(
            model, momentum=self.momentum, gamma=1, update_buffers=True
        )
        for module in self._teacher.module.modules():
            # What wraps a method, as activation checkpointing does, would call that of
            # the original.
            vars(module).pop("forward", None)
        self._teacher.module.eval()
        self._handle = model.register_forward_pre_hook(
            self._before_forward, with_kwargs=True
        )

    def update(self, model: BaseModel) -> None:
        """Take a step of the average."""
        self._teacher.update_parameters(model)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Average, if the optimizer took a step."""
        if runner.optim_wrapper.should_update():
            self.update(unwrap(runner))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Give the teacher to the checkpoint."""
        if self._teacher is not None:
            checkpoint[_KEY] = self._teacher.state_dict()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the teacher of a training that goes on."""
        self._resumed = checkpoint.get(_KEY)

    def after_run(self, runner: Runner) -> None:
        """Leave the model as it was.

        Not after_train: other hooks compute losses of training images there.
        """
        self._detach()

    def _detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    # Hooks read files and draw numbers: torch.compile runs them as they are.
    @torch.compiler.disable
    @torch.no_grad()
    def _before_forward(self, model: BaseModel, args: tuple, kwargs: dict) -> Any:
        """Forward pre-hook of the model: give the loss other data samples."""
        given = dict(zip(("inputs", "data_samples", "mode"), args)) | kwargs
        if given.get("mode") != "loss":
            return None
        samples = self._changed(given["inputs"], [*given["data_samples"]])
        return None if samples is None else ((), dict(given, data_samples=samples))

    @abstractmethod
    def _check_model(self, model: BaseModel) -> None:
        """Refuse a model that does not fit."""

    @abstractmethod
    def _changed(self, inputs: Tensor, samples: list) -> list | None:
        """The data samples for the loss, None for no change; the batch's own stay."""
