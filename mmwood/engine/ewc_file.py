"""The file that EWC's two tasks share: Fisher information and weights of the first."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmwood.fileio.files import atomic_write

#: The one key of the metadata: safetensors writes several in an arbitrary order.
_KEY = "mmwood"
_FORMAT = "mmwood EWC 1"
_KINDS = ("fisher", "anchor")


class ConsolidatedTask(NamedTuple):
    """What is kept of a task.

    Attributes:
        fisher: F by parameter name.
        anchor: The weights theta* by parameter name, of the same shapes.
        about: What it was made from: plain numbers, texts and lists.
    """

    fisher: dict[str, Tensor]
    anchor: dict[str, Tensor]
    about: dict


def save_task(path: str | os.PathLike, task: ConsolidatedTask) -> None:
    """Write a ``.safetensors`` file, atomically.

    Its tensors are ``fisher.NAME`` and ``anchor.NAME``; its metadata has one key,
    ``mmwood``, with ``about`` as JSON. Equal tasks give equal bytes.

    Raises:
        OSError: It cannot be written.
    """
    tensors = {
        f"{kind}.{name}": tensor.detach().cpu().contiguous()
        for kind in _KINDS
        for name, tensor in getattr(task, kind).items()
    }
    about = json.dumps(dict(format=_FORMAT, **task.about))
    with atomic_write(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={_KEY: about})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_task(path: str | os.PathLike) -> ConsolidatedTask:
    """Read what :func:`save_task` wrote, to the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, or damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            if about.pop("format", None) != _FORMAT:
                raise ValueError(f"{path} was not written by mmwood.EWCHook")
            found: dict[str, dict[str, Tensor]] = {kind: {} for kind in _KINDS}
            for key in file.keys():  # noqa: SIM118 (no iterator)
                kind, _, name = key.partition(".")
                found.setdefault(kind, {})[name] = file.get_tensor(key)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no safetensors file, or damaged: {error}"
        ) from error
    shapes = [{n: t.shape for n, t in found[kind].items()} for kind in _KINDS]
    if set(found) != set(_KINDS) or shapes[0] != shapes[1]:
        raise ValueError(
            f"{path} must hold fisher.NAME and anchor.NAME of the same names and shapes"
        )
    return ConsolidatedTask(**found, about=about)
