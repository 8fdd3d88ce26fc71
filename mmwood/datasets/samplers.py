"""Batches with a fixed number of in-distribution and of OoD images."""

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmwood.datasets.ood_mix import OoDMixDataset
from mmwood.registry import DATA_SAMPLERS
from mmwood.utils.check import at_least


def ratio_indices(
    num_in: int,
    num_ood: int,
    in_per_batch: int | Fraction,
    ood_per_batch: int | Fraction,
    epoch: int,
    rank: int,
    world: int,
    seed: int,
    shuffle: bool = True,
) -> np.ndarray:
    """The indices of one process in one epoch, batch after batch.

    An epoch has ``num_in // (in_per_batch * world)`` steps. Its in-distribution images
    are those that mmengine's ``DefaultSampler`` gives the process with the same random
    seed, without the last ones that fill no step. The OoD images are a stream of
    permutations that continues from one epoch to the next: each image comes once before
    any comes again, in all processes together.

    Step t of ``world`` processes has the same images as step t of one process with
    ``world`` times as many of each kind in its batch.

    Numbers of images in a batch may be fractions with a whole sum: 4/5 OoD images are
    one in four steps of five. Over n steps from the start of the training they are
    floor(n · ``ood_per_batch`` · ``world``) in all processes together, whose numbers
    differ by one at most in any step.

    Returns:
        Indices, those of OoD images from ``num_in`` on; every row is a batch,
        in-distribution images first.

    Shape:
        - (steps, in_per_batch + ood_per_batch) int64
    """
    steps = num_in // (in_per_batch * world)
    batch = int(in_per_batch + ood_per_batch)
    order = np.arange(num_in)
    if shuffle:
        generator = torch.Generator().manual_seed(seed + epoch)
        order = torch.randperm(num_in, generator=generator).numpy()
    # OoD images in all processes before each step and after the last; then in each.
    ood = Fraction(ood_per_batch) * world
    places = np.arange(epoch * steps, (epoch + 1) * steps + 1)
    before = places * ood.numerator // ood.denominator
    start, size = int(before[0]), int(before[-1] - before[0])
    of_rank = np.diff((before[:, None] + np.arange(world)) // world, axis=0)
    is_ood = np.arange(batch)[:, None] >= batch - of_rank[:, None, :]
    indices = np.empty(is_ood.shape, dtype=np.int64)
    indices[~is_ood] = order[: indices.size - size]
    indices[is_ood] = num_in + _ood_stream(num_ood, start, size, seed, shuffle)
    return indices[:, :, rank]


def _ood_stream(
    num_ood: int, start: int, size: int, seed: int, shuffle: bool
) -> np.ndarray:
    """Places ``start`` to ``start + size`` of the endless permutations."""
    if not size:
        return np.empty(0, dtype=np.int64)
    first, last = start // num_ood, (start + size - 1) // num_ood
    # Not torch's generator: equal numbers of both kinds would be shuffled alike.
    rounds = [
        np.random.default_rng((seed, number)).permutation(num_ood)
        if shuffle
        else np.arange(num_ood)
        for number in range(first, last + 1)
    ]
    offset = start - first * num_ood
    return np.concatenate(rounds)[offset : offset + size]


@DATA_SAMPLERS.register_module()
class OoDRatioSampler(Sampler):
    """Fill every batch with so many in-distribution and so many OoD images.

    The dataloader's ``batch_size`` must be ``in_per_batch + ood_per_batch``, for each
    process. An epoch is one pass over the in-distribution images; the OoD images are
    continued from epoch to epoch. The order depends on random seed and epoch alone, so
    that a resumed training meets the images that an undisturbed one does. See
    :func:`ratio_indices`.

    Args:
        dataset: A :class:`mmwood.OoDMixDataset`.
        in_per_batch: In-distribution images in a batch.
        ood_per_batch: OoD images in a batch; 0 trains without them, with the same
            in-distribution batches.
        seed: Random seed, the same in all processes. None: mmengine's shared one.
        shuffle: Whether the order is random.

    Raises:
        ValueError: The data set is another one; ``in_per_batch`` is below 1 or
            ``ood_per_batch`` below 0; too few images for one step.

    Example:
        >>> train_dataloader = dict(
        ...     batch_size=32,
        ...     sampler=dict(type='mmwood.OoDRatioSampler', in_per_batch=16,
        ...                  ood_per_batch=16))
    """

    def __init__(
        self,
        dataset: OoDMixDataset,
        in_per_batch: int | Fraction = 16,
        ood_per_batch: int | Fraction = 16,
        seed: int | None = None,
        shuffle: bool = True,
    ) -> None:
        if not hasattr(dataset, "num_in"):
            raise ValueError(
                "mmwood.OoDRatioSampler needs the dataloader's dataset to be a "
                f"mmwood.OoDMixDataset, it is a {type(dataset).__name__}"
            )
        at_least("sampler.in_per_batch", ceil(in_per_batch), 1)
        at_least("sampler.ood_per_batch", floor(ood_per_batch), 0)
        self.rank, self.world_size = get_dist_info()
        self.num_in = dataset.num_in
        self.num_ood = len(dataset) - self.num_in
        if len(getattr(dataset, "ood", ())) > max(self.num_ood, 0):
            raise ValueError(
                "mmwood.OoDRatioSampler cannot cut epochs short: leave out "
                "train_dataloader.num_batch_per_epoch, or set indices of the "
                "in-distribution data set"
            )
        if self.num_in < in_per_batch * self.world_size:
            raise ValueError(
                f"sampler.in_per_batch: {self.num_in} in-distribution images cannot "
                f"fill one step of {self.world_size} x {float(in_per_batch):g} = "
                f"{float(self.world_size * in_per_batch):g} (processes x in_per_batch)"
            )
        if ood_per_batch and self.num_ood < 1:
            raise ValueError(
                f"sampler.ood_per_batch is {float(ood_per_batch):g}, but the data set "
                "has no OoD image"
            )
        self.in_per_batch = in_per_batch
        self.ood_per_batch = ood_per_batch
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.epoch = 0
        self._skipped_epochs = 0
        self._skipped = 0

    @property
    def batch_size(self) -> int:
        """Images of a batch of this process."""
        return int(self.in_per_batch + self.ood_per_batch)

    def __iter__(self) -> Iterator[int]:
        """The indices of the epoch, or what is left of it after :meth:`skip`."""
        indices = ratio_indices(
            self.num_in,
            self.num_ood,
            self.in_per_batch,
            self.ood_per_batch,
            self.epoch + self._skipped_epochs,
            self.rank,
            self.world_size,
            self.seed,
            self.shuffle,
        )
        start, self._skipped = self._skipped, 0
        return iter(indices.flatten()[start:].tolist())

    def __len__(self) -> int:
        """Indices of this process in an epoch."""
        steps = self.num_in // (self.in_per_batch * self.world_size)
        return steps * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0; after :meth:`skip` it counts from where that led."""
        self.epoch = epoch

    def skip(self, num_samples: int) -> None:
        """Let the next iteration begin within the training, for resuming.

        The loop that resumes by iterations (``IterBasedTrainLoop`` of OneDL) counts the
        epochs anew from 0, and so does :meth:`set_epoch` afterwards.

        Args:
            num_samples: Indices of this process to leave out, from the start of the
                training; may be more than an epoch.

        Raises:
            ValueError: The number is negative.
        """
        at_least("num_samples", num_samples, 0)
        self._skipped_epochs, self._skipped = divmod(num_samples, len(self))
        self.epoch = 0


@DATA_SAMPLERS.register_module()
class OoDFractionSampler(OoDRatioSampler):
    """Let a fraction of all images be OoD, for segmentation networks.

    Of batches of 8 with a fraction of 0.1, four in five have one OoD image, and the
    fifth has none. Everything else is as in :class:`OoDRatioSampler`: random seed,
    epochs, several processes, resuming.

    Args:
        dataset: A :class:`mmwood.OoDMixDataset`.
        batch_size: Of a process, the dataloader's.
        fraction: Of the images that are OoD; 0 trains without them. More than 0.2 is
            for experiments.
        seed, shuffle: As in :class:`OoDRatioSampler`.

    Raises:
        ValueError: ``fraction`` is not in [0, 1), ``batch_size`` is below 1; as
            :class:`OoDRatioSampler`.

    Example:
        >>> train_dataloader = dict(
        ...     batch_size=8,
        ...     sampler=dict(type='mmwood.OoDFractionSampler', batch_size=8,
        ...                  fraction=0.1))
    """

    def __init__(
        self,
        dataset: OoDMixDataset,
        batch_size: int,
        fraction: float = 0.1,
        seed: int | None = None,
        shuffle: bool = True,
    ) -> None:
        at_least("sampler.batch_size", batch_size, 1, integer=True)
        at_least("sampler.fraction", fraction, 0, below=1)
        ood = Fraction(fraction).limit_denominator(10**6) * batch_size
        super().__init__(dataset, batch_size - ood, ood, seed, shuffle)
