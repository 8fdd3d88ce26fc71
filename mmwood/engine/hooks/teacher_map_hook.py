"""Maps of an average of the classifier, while it is trained."""

from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from mmwood.registry import HOOKS
from mmwood.utils.check import at_least

from .average_hook import AverageHook

#: What modules that drop at random call their rate: those of torch, mmcv and timm.
_RATES = ("p", "drop_prob")


@HOOKS.register_module()
class TeacherMapHook(AverageHook):
    """Let a teacher say where an image's classes are (USAGE, ICCV 2023).

    The teacher is an exponential moving average of the classifier. In each training
    step it sees the batch with less of the network dropped (dropout, stochastic depth)
    than the classifier that learns, and its maps W f go to
    :class:`mmwood.MapConsistencyLoss`, which draws the classifier's to them. The
    network's own rates are those of the student: give it some,
    ``model.backbone.drop_path_rate=0.3``.

    USAGE was never released. An average as the teacher and weak against strong dropping
    are the paper's; rates, momentum and the rest are ours.

    The teacher averages after each step of the optimizer. The weight of the newest
    network is the larger of ``momentum`` and 1/n after n steps. It runs without
    gradient, with batch norm in evaluation mode; what it drops is drawn from torch's
    random numbers. Checkpoints hold it, so that resumed trainings go on with it.

    Args:
        dropping: The teacher's rates, as a fraction of the network's own; 0 drops
            nothing.
        momentum: Of the average, as in mmengine: the weight of the newest network.

    Raises:
        ValueError: A field has another value; the classifier's head is no
            :class:`mmwood.CAMHead`, or drops nothing; the checkpoint that is resumed
            has no teacher.

    Example:
        >>> default_hooks = dict(teacher=dict(type='mmwood.TeacherMapHook'))
        >>> model = dict(
        ...     backbone=dict(drop_path_rate=0.3),
        ...     head=dict(feature_losses=dict(
        ...         consistency=dict(type='mmwood.MapConsistencyLoss'))))
    """

    # After OoDClusterHook (LOW), which gives the model centres that a copy must have
    # room for, and before CheckpointHook (VERY_LOW) saves the step.
    priority = 80

    def __init__(self, dropping: float = 1 / 3, momentum: float = 0.001) -> None:
        super().__init__(momentum)
        at_least(f"{self._owner}: dropping", dropping, 0)
        if dropping > 1:
            raise ValueError(
                f"{self._owner}: dropping is a fraction of the network's own rates, "
                f"but is {dropping!r}"
            )
        self.dropping = dropping

    def attach(self, model: BaseModel) -> None:
        """Make the teacher of a model that is not wrapped, which drops less."""
        super().attach(model)
        for module, rate in _dropping(self._teacher.module):
            setattr(module, rate, self.dropping * getattr(module, rate))
            module.train()

    def _check_model(self, model: BaseModel) -> None:
        if not hasattr(getattr(model, "head", None), "scores_in_space"):
            raise ValueError(
                f"{self._owner} needs a classifier whose head is a mmwood.CAMHead or a "
                f"mmwood.WOoDHead, but the model is {type(model).__name__}"
            )
        if not _dropping(model):
            raise ValueError(
                f"{self._owner}: nothing of the network is dropped in training, so "
                "that the teacher would see what it sees: set for instance "
                "model.backbone.drop_path_rate=0.3"
            )

    def _changed(self, inputs: Tensor, samples: list) -> list:
        teacher = self._teacher.module
        scores = teacher.head.scores_in_space(teacher.extract_feat(inputs))
        changed = []
        for sample, own in zip(samples, scores):
            changed.append(sample.clone())
            changed[-1].set_field(own, "teacher_scores", dtype=Tensor)
        return changed


def _dropping(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """The modules that drop at random, and the name of their rate."""
    return [
        (module, name)
        for module in model.modules()
        for name in _RATES
        if "Drop" in type(module).__name__ and _is_rate(getattr(module, name, None))
    ]


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0
