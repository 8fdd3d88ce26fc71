"""A device that is not there: tensors that say ``cuda:0`` and lie in the CPU's memory.

Within :func:`second_device` a tensor that was made on 'cuda', or moved or computed
there, is marked, and every function of torch that is called from Python refuses what a
GPU refuses. The numbers, the gradients and their hooks are those of the CPU: the
objects are ordinary tensors. What torch calls by itself (inside of its own functions,
in backward passes) is not watched.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda:0")
#: Functions that take tensors of several devices, or move them.
ANY_DEVICE = {"copy_", "result_type", "_has_compatible_shallow_copy_type"}
#: Functions that refuse scalars of the CPU too. Pointwise ones take them.
NO_SCALARS = {
    *("cat", "stack", "hstack", "vstack", "equal", "quantile", "searchsorted"),
    *("gather", "index_select", "take", "take_along_dim", "repeat_interleave"),
    *("scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce"),
    *("index_add", "index_add_", "index_copy", "index_copy_", "masked_select"),
}
MOVES = {"to", "cuda", "cpu", "type_as"}
_MARK = "_is_on_second_device"


def is_on_second_device(tensor: Tensor) -> bool:
    return _MARK in vars(tensor)


def _device(tensor: Tensor) -> torch.device:
    return CUDA if is_on_second_device(tensor) else tensor.device


@contextmanager
def second_device() -> Iterator[None]:
    """Let torch, and what asks mmengine for a device, work on a device ``cuda:0``.

    Skips the test where torch (2.1) does not let itself be watched.
    """
    if not _indexing_is_announced():
        pytest.skip(f"torch {torch.__version__} says nothing of indexing to modes")
    # It compares signatures with the patched function's when it is imported.
    import_module("torch._dynamo")
    from mmengine.device import utils

    with (
        mock.patch.object(utils, "DEVICE", "cuda"),
        mock.patch.object(torch, "Generator", _Generator),
        # By which parameters are made of tensors. torch does not announce it.
        mock.patch.object(
            Tensor, "_make_subclass", staticmethod(_make_subclass), create=True
        ),
        _SecondDevice(),
    ):
        yield


@cache
def _indexing_is_announced() -> bool:
    names = set()

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            names.add(func.__name__)
            return func(*args, **(kwargs or {}))

    with Mode():
        torch.zeros(2)[0]
    return "__getitem__" in names


class _SecondDevice(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func.__name__
        if name in ("__get__", "__set__"):
            return _property(func, args)
        if name in ("register_hook", "register_post_accumulate_grad_hook"):
            return func(args[0], _watched(args[1], is_on_second_device(args[0])))
        there = [t for t in _tensors((args, kwargs)) if is_on_second_device(t)]
        if name in ("numpy", "__array__") and there:
            raise TypeError(
                f"can't convert {CUDA} device type tensor to numpy. Use Tensor.cpu() "
                "to copy the tensor to host memory first."
            )
        if name == "get_device" and there:
            return CUDA.index
        if name in ("__reduce_ex__", "__deepcopy__") and there:
            # A file, and a copy's attributes, say nothing of marks.
            with mock.patch.dict(vars(args[0])):
                del vars(args[0])[_MARK]
                result = func(*args, **kwargs)
            return _marked(result) if name == "__deepcopy__" else result
        if name in MOVES:
            return _move(func, args, kwargs)
        device = kwargs.pop("device", None)
        if device is not None:
            target = torch.device(device).type
        elif name in ("tensor", "as_tensor", "asarray"):
            # A list of tensors becomes one on the CPU.
            target = "cuda" if isinstance(args[0], Tensor) and there else "cpu"
        elif name in ("__getitem__", "__setitem__"):
            _check_index(*args)
            target = "cuda" if is_on_second_device(args[0]) else "cpu"
        else:
            _check_devices(name, args, kwargs)
            target = "cuda" if there else "cpu"
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != target:
            raise RuntimeError(
                f"Expected a '{target}' device type for generator but found "
                f"'{generator.device.type}'"
            )
        if device is not None:
            kwargs["device"] = "cpu" if target == "cuda" else device
        result = func(*args, **kwargs)
        of_data = name in ("as_tensor", "asarray")
        if of_data and is_on_second_device(result) != (target == "cuda"):
            result = result.clone()
        return _marked(result, (args, kwargs)) if target == "cuda" else result


class _Generator(torch.Generator):
    """Generators of any device draw what the CPU's draw."""

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        made = super().__new__(cls)
        made.where = CUDA if torch.device(device).type == "cuda" else "cpu"
        return made

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device(self.where)


def _make_subclass(cls: type, data: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    made = Tensor.__base__._make_subclass(cls, data, *args, **kwargs)
    return _marked(made) if is_on_second_device(data) else made


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors([*values.values()])


def _marked(result: Any, given: Any = ()) -> Any:
    """Mark the tensors of a result, but those that were given."""
    old = {id(tensor) for tensor in _tensors(given)}
    for tensor in _tensors(result):
        if id(tensor) not in old:
            setattr(tensor, _MARK, True)
    return result


def _watched(hook: Callable, marked: bool) -> Callable:
    """A hook of a gradient, which torch calls outside of the mode."""

    def call(gradient: Tensor) -> Any:
        with _SecondDevice():
            return hook(_marked(gradient) if marked else gradient)

    return call


def _property(func: Any, args: tuple) -> Any:
    name, tensor = func.__self__.__name__, args[0]
    there = is_on_second_device(tensor)
    if func.__name__ == "__set__":
        (value,) = args[1:]
        if name == "data":
            # It may be the tensor itself.
            there = is_on_second_device(value)
            vars(tensor).pop(_MARK, None)
            if there:
                _marked(tensor)
        elif name == "grad" and value is not None:
            _check_devices(name, args, {}, scalars=False)
        return func(*args)
    if there and name in ("device", "is_cuda", "is_cpu"):
        return {"device": CUDA, "is_cuda": True, "is_cpu": False}[name]
    return _marked(func(*args)) if there else func(*args)


def _move(func: Callable, args: tuple, kwargs: dict) -> Tensor:
    """Run ``to``, ``cuda``, ``cpu`` or ``type_as``."""
    tensor, *rest = args
    target, dtypes = _device(tensor), []
    if func.__name__ in ("cuda", "cpu"):
        target, rest = torch.device(func.__name__), []
    given = (*rest, *(kwargs.pop(name, None) for name in ("device", "other", "dtype")))
    for value in given:
        if isinstance(value, Tensor):
            target, value = _device(value), value.dtype
        if isinstance(value, torch.dtype):
            dtypes.append(value)
        elif isinstance(value, (str, torch.device)):
            target = torch.device(value)
    kwargs["copy"] = kwargs.get("copy", False) or target.type != _device(tensor).type
    # Flags that were given by their place change nothing.
    kwargs.pop("non_blocking", None)
    there = target.type == "cuda"
    moved = Tensor.to(tensor, "cpu" if there else target, *dtypes, **kwargs)
    return _marked(moved) if there else moved


def _check_index(tensor: Tensor, index: Any, value: Any = None) -> None:
    """Indices of the CPU serve everywhere, those of a GPU there alone."""
    arrays = [part for part in _tensors(index) if part.ndim]
    there = is_on_second_device(tensor)
    if not there and any(map(is_on_second_device, arrays)):
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed "
            "tensor (cpu)"
        )
    # Slices are copied, across devices too.
    if arrays and isinstance(value, Tensor) and value.ndim:
        _check_devices("index_put_", (tensor, value), {})


def _check_devices(name: str, args: tuple, kwargs: dict, scalars: bool = True) -> None:
    """Refuse tensors of both devices, but scalars of the CPU."""
    given = [*_tensors((args, kwargs))]
    if name in ANY_DEVICE or not any(map(is_on_second_device, given)):
        return
    scalars = scalars and name not in NO_SCALARS
    written = [*_tensors(kwargs.get("out"))]
    in_place = name.endswith("_") and (not name.startswith("__") or name[2] == "i")
    if in_place and args:
        written += _tensors(args[0])
    for tensor in given:
        if is_on_second_device(tensor):
            continue
        if tensor.ndim or not scalars or any(tensor is one for one in written):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {name} got one "
                f"of shape {tuple(tensor.shape)} on cpu and another on {CUDA}"
            )
