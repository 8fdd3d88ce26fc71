"""Batches: those that a sampler makes, and a test that leaves out images."""

from collections.abc import Iterable

from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmwood.datasets import OoDRatioSampler


def refuse_other_batches(loader: DataLoader) -> None:
    """Refuse a training whose sampler makes batches of another size than the loader.

    Raises:
        ValueError: It does.
    """
    sampler = loader.sampler
    if not isinstance(sampler, OoDRatioSampler):
        return
    if sampler.batch_size != loader.batch_size:
        raise ValueError(
            f"train_dataloader.batch_size is {loader.batch_size}, but its sampler "
            f"makes batches of {sampler.batch_size} images (in_per_batch + "
            "ood_per_batch)"
        )


def all_batches(runner: Runner) -> DataLoader:
    """Give the test back what :func:`take_batches` left out.

    For a hook's ``before_test``, since a test may have ended by an error, and its
    ``after_test``.
    """
    loader = runner.test_loop.dataloader
    runner.test_loop.dataloader = getattr(loader, "all_batches", loader)
    return runner.test_loop.dataloader


def take_batches(runner: Runner, batches: Iterable[list[int]]) -> None:
    """Make the test one of these batches of indices, which have a length."""
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
