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
        """Close the bar, that of a training that ended by an error, too."""
        self._close("train")

    after_train = before_train

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Start the bar where the training starts or is resumed."""
        # Not before_train, where other hooks have bars of their own.
        if "train" not in self._bars:
            self._start(runner, "train", runner.max_iters, runner.iter)

    def _before_epoch(self, runner: Runner, mode: str = "train") -> None:
        # Hooks that shorten a test have done so in before_test.
        if mode != "train":
            self._start(runner, mode, len(getattr(runner, f"{mode}_dataloader")))

    def _after_iter(self, *args, mode: str = "train", **kwargs) -> None:
        self._bars[mode].update()

    def _after_epoch(self, runner: Runner, mode: str = "train") -> None:
        if mode != "train":
            self._close(mode)

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
