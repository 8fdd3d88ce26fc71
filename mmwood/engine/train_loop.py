"""Epochs that have a step."""

from mmengine.runner import EpochBasedTrainLoop

from mmwood.engine.hooks.start_check_hook import refuse_empty_epoch
from mmwood.registry import LOOPS


@LOOPS.register_module()
class EpochTrainLoop(EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop``, which refuses epochs without a step.

    Schedules that count iterations are built from the loop, before any hook is called,
    and say ``epoch_length`` then. ``tools/train.py`` lets it take mmengine's place.

    Args:
        *args, **kwargs: As in ``EpochBasedTrainLoop``.

    Raises:
        ValueError: There are fewer images than a batch, and ``drop_last``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        refuse_empty_epoch(self.dataloader)
