"""The scores of a test for TensorBoard and its like."""

from numbers import Number

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmwood.registry import HOOKS


@HOOKS.register_module()
class TestScoresHook(Hook):
    """Hand the metrics of a test to the visualizer's back-ends.

    mmengine does so with those of validation only. ``tools/test.py`` adds this hook to
    any config. Metrics that are lists or dictionaries stay in the log and in its JSON.
    """

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Add the numbers at step 0: a test has one."""
        scores = {
            key: value
            for key, value in (metrics or {}).items()
            if isinstance(value, Number)
        }
        if scores:
            runner.visualizer.add_scalars(scores, step=0)
