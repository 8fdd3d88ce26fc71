"""A bar with rate and time left, on a terminal."""

from contextlib import ExitStack

from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mmwood.registry import HOOKS
from mmwood.utils.progress import progress


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show training, validation and testing as a progress bar on standard error.

    It shows on terminals only, and on the main process only; the log is mmengine's
    as ever, and its lines stand above the bar.

    Args:
        label: What stands before the bar.
    """

    # Closed before hooks with bars of their own go to work after the training.
    priority = "ABOVE_NORMAL"

    def __init__(self, label: str = "") -> None:
        self.label = label
        self._bars: dict[str, tqdm] = {}
        self._open: dict[str, ExitStack] = {}

    def before_train(self, runner: Runner) -> None:
        """Forget the bar of a training that ended by an error."""
        self._close("train")

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Start the bar where the training starts or is resumed."""
        # Not before_train, where other hooks have bars of their own.
        if "train" not in self._bars:
            self._start(runner, "train", runner.max_iters, runner.iter)

    def after_train_iter(self, *args, **kwargs) -> None:
        """One iteration further."""
        self._bars["train"].update()

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self._close("train")

    def before_val_epoch(self, runner: Runner) -> None:
        """Start a bar below that of the training, if there is one."""
        self._start(runner, "val", len(runner.val_dataloader))

    def after_val_iter(self, *args, **kwargs) -> None:
        """One batch further."""
        self._bars["val"].update()

    def after_val_epoch(self, *args, **kwargs) -> None:
        """Close the bar."""
        self._close("val")

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the bar; hooks that shorten the test have done so in before_test."""
        self._start(runner, "test", len(runner.test_dataloader))

    def after_test_iter(self, *args, **kwargs) -> None:
        """One batch further."""
        self._bars["test"].update()

    def after_test_epoch(self, *args, **kwargs) -> None:
        """Close the bar."""
        self._close("test")

    def _start(self, runner: Runner, kind: str, total: int, initial: int = 0) -> None:
        self._close(kind)
        stack = self._open[kind] = ExitStack()
        label = f"{self.label} {kind}".lstrip() if kind == "val" else self.label or kind
        bar = progress(None, label, total=total, initial=initial)
        self._bars[kind] = stack.enter_context(bar)
        if not bar.disable:
            # A line of the log would begin where the bar ends.
            stack.enter_context(logging_redirect_tqdm([runner.logger]))

    def _close(self, kind: str) -> None:
        if self._bars.pop(kind, None) is not None:
            self._open.pop(kind).close()
