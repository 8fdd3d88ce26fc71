"""A test that leaves out images, and has them all again afterwards."""

from collections.abc import Iterable

from mmengine.runner import Runner
from torch.utils.data import DataLoader

__all__ = ["all_batches", "take_batches"]


def all_batches(runner: Runner) -> DataLoader:
    """Give the test back what :func:`take_batches` left out.

    For a hook's ``before_test``, since a test may have ended by an error, and its
    ``after_test``.

    Returns:
        The dataloader that the config states.
    """
    loader = runner.test_loop.dataloader
    runner.test_loop.dataloader = getattr(loader, "all_batches", loader)
    return runner.test_loop.dataloader


def take_batches(runner: Runner, batches: Iterable[list[int]]) -> None:
    """Make the test one of these batches of its images.

    Args:
        runner: Its test has all batches, see :func:`all_batches`.
        batches: Of the data set's indices; with a length.
    """
    loader = runner.test_loop.dataloader
    shortened = DataLoader(
        loader.dataset,
        batch_sampler=batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
    )
    shortened.all_batches = loader
    runner.test_loop.dataloader = shortened
