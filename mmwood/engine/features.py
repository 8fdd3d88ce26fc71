"""What networks make of whole data sets, by one process or by many."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmengine.dataset import BaseDataset, Compose, DefaultSampler, pseudo_collate
from mmengine.dist import all_gather
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmwood.models.utils.batches import step_by_shape
from mmwood.utils.progress import progress


class Features(NamedTuple):
    """What a classifier makes of N images, on the CPU.

    Attributes:
        z: Pooled features. Shape: (N, D) float32.
        scores: Probability of each class. Shape: (N, C) float32.
        labels: Image-level labels. Shape: (N, C) uint8.
        images: Paths of the images.
    """

    z: Tensor
    scores: Tensor
    labels: Tensor
    images: list[str]


@torch.no_grad()
def extract_features(
    model: BaseModel,
    dataset: BaseDataset,
    pipeline: list | None = None,
    batch_size: int = 16,
    num_workers: int = 2,
    label: str = "features",
) -> Features:
    """The features z of all images of a data set, in evaluation mode.

    Every process of a distributed job must call it; each works on its share of the
    images, and all get the whole result.

    Args:
        model: A classifier of mmpretrain's interface, not wrapped. Its head has
            ``pre_logits`` and scores of several labels.
        dataset: An mmengine data set, wrapped (``ConcatDataset``, ...) or not.
        pipeline: Transforms in place of the data set's own, which may be random.
        batch_size: Images of each process that are loaded together. Those of one size
            go through the network together.
        num_workers: Loading processes.
        label: What stands before the progress bar.

    Returns:
        The features, in the order of the data set.
    """
    if pipeline is not None:
        dataset = with_pipeline(dataset, Compose(pipeline))
    loader = shard_loader(dataset, batch_size, num_workers, round_up=True)
    classes = model.head.num_classes
    with as_in_tests(model):
        batches = [_batch_features(model, batch) for batch in progress(loader, label)]
    # Rank r of w has the images r, r + w, ...; the last ones repeat the first.
    shares = all_gather(torch.cat(batches))
    both = torch.stack(shares, dim=1).flatten(0, 1)[: len(dataset)].cpu()
    z, scores = both.split([both.shape[1] - classes, classes], dim=1)
    labels = torch.zeros(len(dataset), classes, dtype=torch.uint8)
    images = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        labels[index, info.get("gt_label", [])] = 1
        images.append(info["img_path"])
    return Features(z, scores.sigmoid(), labels, images)


def _batch_features(model: BaseModel, batch: dict) -> Tensor:
    """(B, D + C) float32 features and scores of a batch of images of any sizes."""

    def step(data: dict) -> list[Tensor]:
        feats = model.extract_feat(model.data_preprocessor(data, False)["inputs"])
        both = torch.cat([model.head.pre_logits(feats), model.head(feats)], dim=1)
        return list(both.float())

    return torch.stack(step_by_shape(step, batch))


def shard_loader(
    dataset: BaseDataset,
    batch_size: int,
    num_workers: int,
    round_up: bool = False,
    collate_fn: Callable | None = pseudo_collate,
    generator: torch.Generator | None = None,
) -> DataLoader:
    """Load this process's shard of the images, which may be of any sizes, in order.

    With ``round_up`` all processes get equally many, so that some are given twice. One
    of NumPy's random numbers is drawn, as by every mmengine sampler without a seed.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=DefaultSampler(dataset, shuffle=False, round_up=round_up),
        num_workers=num_workers,
        collate_fn=collate_fn,
        generator=generator,
    )


@contextmanager
def as_in_tests(model: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def with_pipeline(dataset: BaseDataset, pipeline: Compose) -> BaseDataset:
    """The data set, and those it wraps, with another pipeline; images are shared."""
    dataset = copy.copy(dataset)
    if hasattr(dataset, "datasets"):
        dataset.datasets = [with_pipeline(d, pipeline) for d in dataset.datasets]
    elif hasattr(dataset, "dataset"):
        dataset.dataset = with_pipeline(dataset.dataset, pipeline)
    else:
        dataset.pipeline = pipeline
    return dataset
