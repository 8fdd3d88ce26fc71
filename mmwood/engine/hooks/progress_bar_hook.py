"""A bar with rate and time left, on a terminal."""

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmwood.registry import HOOKS

__all__ = ["ProgressBarHook"]


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show training and testing as a progress bar on standard error.

    It shows on terminals only, and on the main process only; the log is mmengine's
    as ever.

    Args:
        label: What stands before the bar.
    """

    def __init__(self, label: str = "") -> None:
        self.label = label
        self._bar: tqdm | None = None

    def before_train(self, runner: Runner) -> None:
        """Start the bar where the training starts or goes on."""
        self._start(self.label or "train", runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """One iteration further."""
        self._bar.update()

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self._bar.close()

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the bar; hooks that shorten the test have done so in before_test."""
        self._start(self.label or "test", len(runner.test_dataloader), 0)

    def after_test_iter(self, runner: Runner, *args, **kwargs) -> None:
        """One batch further."""
        self._bar.update()

    def after_test(self, runner: Runner) -> None:
        """Close the bar."""
        self._bar.close()

    def _start(self, label: str, total: int, initial: int) -> None:
        # disable=None: tqdm is silent where standard error is no terminal.
        disable = None if is_main_process() else True
        self._bar = tqdm(desc=label, total=total, initial=initial, disable=disable)
