"""The Fisher information of a model's loss over a data set, by one process or many."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import all_reduce, broadcast, broadcast_object_list, get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset

from mmwood.engine.features import shard_loader
from mmwood.functional.ewc import squared_gradient_sums
from mmwood.utils.activations import without_checkpointing
from mmwood.utils.progress import progress


def measure_fisher(
    model: BaseModel,
    dataset: BaseDataset,
    params: Mapping[str, Tensor],
    images: int | None = None,
    seed: int = 0,
    num_workers: int = 2,
    collate_fn: Callable | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Mean over images of the squared gradient of a model's loss, one image at a time.

    Its layers are in evaluation mode, its size-balanced losses are plain cross-entropy,
    and a ``loss_ewc`` does not count; afterwards all is as it was, ``.grad`` and random
    numbers too, except that one of NumPy's is drawn. Every process of a distributed job
    must call it; each works on its share of the images, and all get the whole result.

    Args:
        model: A model of mmengine's interface, not wrapped.
        dataset: Of training images; its transforms may be random.
        params: The parameters by name, as in
            :func:`mmwood.functional.ewc.fisher_diagonal`.
        images: Take this many images, evenly chosen; None is all.
        seed: Random seed: random transforms depend on it and the image alone. That of
            the main process counts.
        num_workers: Loading processes.
        collate_fn: That of the training's dataloader.

    Returns:
        F by name in float32, and the number of images.

    Raises:
        ValueError: Some gradient is not finite; names the parameter.
    """
    seeds = [seed]
    broadcast_object_list(seeds)
    count = len(dataset) if images is None else min(images, len(dataset))
    dataset = _SeededImages(dataset, count, seeds[0])
    loader = shard_loader(dataset, 1, num_workers, collate_fn=collate_fn)
    # The loader draws a random number too.
    with _as_measured(model), without_checkpointing(model), _seeded(seeds[0]):
        sums, _ = squared_gradient_sums(_image_losses(model, loader), params)
    fisher = {}
    for name, total in sums.items():
        all_reduce(total)
        fisher[name] = (total / count).float()
        if not torch.isfinite(fisher[name]).all():
            raise ValueError(
                f"the gradient of {name} is not finite for some image: the training "
                "has diverged"
            )
    return fisher, count


class RunningFisher:
    """Running mean of a training's squared gradients, F <- 0.9 g^2 + 0.1 F, from 1 on.

    g is what the optimizer's step sees: the gradient of the batch's loss, over all
    processes and accumulated batches, unscaled under AMP, after clipping. Source: the
    authors' program of Mun et al., WACV 2024, which updates at each of two
    half-batches.

    Attributes:
        values: F by name, float32.
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        values: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._params = params
        self.values = {
            name: torch.ones_like(param, dtype=torch.float32, requires_grad=False)
            if values is None
            else values[name].to(param.device)
            for name, param in params.items()
        }
        self._handle = optimizer.register_step_pre_hook(self._update)

    def _update(self, *_: Any) -> None:
        for name, param in self._params.items():
            self.values[name].mul_(0.1)
            if param.grad is not None:
                self.values[name].add_(param.grad.float().square(), alpha=0.9)

    def stop(self) -> None:
        """Update no more."""
        self._handle.remove()


def size_balanced_losses(model: nn.Module) -> Iterator[Any]:
    """Every :class:`mmwood.SizeBalancedCELoss`, or other loss that can be plain."""
    return (m for m in model.modules() if hasattr(m, "size_balanced"))


def set_size_balanced(model: nn.Module, value: bool) -> None:
    """Make all of them size-balanced, or plain cross-entropy."""
    for module in size_balanced_losses(model):
        module.size_balanced = value


class _SeededImages(Dataset):
    """Evenly chosen images of a data set, random in the same way each time."""

    def __init__(self, dataset: BaseDataset, count: int, seed: int) -> None:
        self.dataset = dataset
        self.count = count
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        with _seeded(self.seed + 1 + index):
            return self.dataset[index * len(self.dataset) // self.count]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the random numbers of the CPU, and put them back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # Not torch.manual_seed, which would seed the GPUs as well.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def _as_measured(model: nn.Module) -> Iterator[None]:
    """The network of the checkpoint, with its layers fixed and task A's loss."""
    training: list[tuple[Any, bool]] = [(m, m.training) for m in model.modules()]
    # By name, since a network may put another tensor in a buffer's place.
    own = {name: buffer.clone() for name, buffer in model.named_buffers()}
    balanced = [(m, m.size_balanced) for m in size_balanced_losses(model)]
    # Some networks compute their loss in training mode only (K-Net, PIDNet, DDRNet): it
    # is their layers, as batch norm and dropout, that are in evaluation mode. timm's
    # batch norm has its activation inside.
    layers = nn.MultiheadAttention, _BatchNorm
    model.train()
    for module in model.modules():
        if isinstance(module, layers) or not list(module.children()):
            module.eval()
    set_size_balanced(model, False)
    # Statistics of batch norm differ between processes; the main one's are saved.
    if get_world_size() > 1:
        for buffer in model.buffers():
            broadcast(buffer)
    try:
        yield
    finally:
        # What a network's own train() does, and then what was set by hand.
        model.train(training[0][1])
        for module, value in training:
            module.training = value
        for loss, value in balanced:
            loss.size_balanced = value
        for name, buffer in model.named_buffers():
            buffer.copy_(own[name])


def _image_losses(model: BaseModel, loader: DataLoader) -> Iterator[Tensor]:
    for batch in progress(loader, "Fisher information"):
        # As in training, where images are padded to what the network needs.
        data = model.data_preprocessor(batch, True)
        losses = model(**data, mode="loss")
        losses.pop("loss_ewc", None)
        yield model.parse_losses(losses)[0]
