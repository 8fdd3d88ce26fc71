"""The weights that a run trains, and those that it keeps and tests."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.model import BaseModel, BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor


def unwrap(runner: Runner, tta: bool = False) -> BaseModel:
    """The run's model without distributed wrappers and, if asked, test-time ones."""
    model = runner.model
    while is_model_wrapper(model) or (tta and isinstance(model, BaseTTAModel)):
        model = model.module
    return model


def is_averaged(runner: Runner) -> bool:
    """Whether mmengine's EMAHook, or one like it, averages the weights."""
    return bool(_averaging(runner))


def model_copies(runner: Runner) -> list[BaseModel]:
    """The model, not wrapped, and the copies of it that hold averaged weights."""
    return [unwrap(runner), *(hook.ema_model.module for hook in _averaging(runner))]


def checkpoint_state(runner: Runner) -> dict[str, Tensor]:
    """The ``state_dict`` that a checkpoint written now would hold.

    That is the model's own or, with mmengine's EMAHook, the averaged one. The tensors
    share memory with either.
    """
    checkpoint = dict(state_dict=unwrap(runner).state_dict())
    for hook in _averaging(runner):
        hook.before_save_checkpoint(runner, checkpoint)
    return checkpoint["state_dict"]


@contextmanager
def checkpoint_weights(runner: Runner) -> Iterator[BaseModel]:
    """The model, not wrapped, with the weights that a checkpoint would hold now.

    Afterwards it has those that are trained, and buffers, as before.
    """
    model = unwrap(runner)
    if not is_averaged(runner):
        yield model
        return
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _copy(checkpoint_state(runner), model)
    try:
        yield model
    finally:
        _copy(own, model)


def weights_sha256(runner: Runner) -> str:
    """SHA-256 of names and values of the main process's :func:`checkpoint_state`.

    Unlike a file's it knows of weights that were trained in this process or resumed.
    Every process of a distributed job must call it.
    """
    found = [state_sha256(checkpoint_state(runner)) if is_main_process() else ""]
    broadcast_object_list(found)
    return found[0]


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names and values of a ``state_dict``."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes: NumPy has no bfloat16.
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(values.numpy().data)
    return digest.hexdigest()


def _averaging(runner: Runner) -> list:
    return [hook for hook in runner.hooks if hasattr(hook, "ema_model")]


@torch.no_grad()
def _copy(state: dict[str, Tensor], model: BaseModel) -> None:
    for name, tensor in model.state_dict().items():
        tensor.copy_(state[name])


def with_input_channels(
    state: Mapping[str, Tensor], channels: int
) -> dict[str, Tensor]:
    """Weights of a backbone for red, green and blue, for another number of bands.

    Those of the first convolution are repeated, 3 / ``channels`` as large, so that
    bands that are alike give what colours that are alike gave. All others stay.

    Args:
        state: Names and weights. One convolution takes three channels.
        channels: Bands of the images.

    Raises:
        ValueError: No convolution takes three channels, or several do.

    Shape:
        - the first convolution: (D, 3, k, k) to (D, channels, k, k)
    """
    if channels == 3:
        return dict(state)
    first = [n for n, w in state.items() if w.ndim == 4 and w.shape[1] == 3]
    if len(first) != 1:
        raise ValueError(
            "expected weights of which one convolution takes three channels, found "
            f"{len(first)}: {', '.join(first) or 'none'}"
        )
    weight = state[first[0]]
    repeated = weight[:, torch.arange(channels) % 3] * (3 / channels)
    return {**state, first[0]: repeated}
