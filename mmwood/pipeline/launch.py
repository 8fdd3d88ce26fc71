"""Processes of tools, forked from one that has imported what tools import.

To import torch and OpenMMLab takes seconds, as long as some stages take to run.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib import import_module
from io import FileIO, StringIO, TextIOWrapper
from multiprocessing.process import BaseProcess
from typing import NoReturn

from mmwood.utils.processes import end_with_parent

__all__ = ["can_fork", "fork_tool"]

#: What most tools import, as far as it is installed.
_IMPORTED = (
    *("mmengine.runner", "mmcv.transforms", "mmpretrain.models"),
    *("mmpretrain.datasets", "mmseg.models", "mmseg.datasets", "matplotlib.pyplot"),
    *("sklearn.cluster", "timm", "tqdm", "prettytable", "cv2"),
)


@cache
def can_fork() -> bool:
    """Whether tools can be forked from this process, which then imports what they do.

    On Linux they can, unless there is a GPU: what CUDA holds is of one process.
    """
    if not sys.platform.startswith("linux"):
        return False
    from mmengine.device import get_device

    if get_device() != "cpu":
        return False
    # Some of what is imported prints.
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _IMPORTED:
            with suppress(ImportError):
                import_module(name)
    return True


def fork_tool(
    command: Sequence[str],
    output: str | os.PathLike,
    environment: Mapping[str, str],
    folder: str | os.PathLike = ".",
    end: signal.Signals = signal.SIGKILL,
) -> BaseProcess:
    """Start a tool as ``python -W ignore command`` does.

    Args:
        command: The tool and its arguments.
        output: File of what it prints; it is replaced.
        environment: Its environment variables.
        folder: Its working directory.
        end: What it receives when this process ends.

    Returns:
        The process, which has been started.
    """
    process = multiprocessing.get_context("fork").Process(
        target=_become,
        args=(command, os.path.abspath(output), environment, folder, end),
    )
    with warnings.catch_warnings():
        # NumPy's threads are no threads of Python.
        warnings.simplefilter("ignore")
        process.start()
    return process


def _become(
    command: Sequence[str],
    output: str,
    environment: Mapping[str, str],
    folder: str | os.PathLike,
    end: signal.Signals,
) -> NoReturn:
    end_with_parent(end)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    with open(output, "wb") as file:
        for target in (1, 2):
            os.dup2(file.fileno(), target)
    # As python -u has them.
    sys.stdout, sys.stderr = (
        TextIOWrapper(FileIO(number, "w", closefd=False), write_through=True)
        for number in (1, 2)
    )
    os.chdir(folder)
    warnings.simplefilter("ignore")
    _take_libraries(environment.get("OMP_NUM_THREADS"))
    places = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = [*command]
    places = [os.path.dirname(command[0]), *filter(None, places)]
    sys.path[:0] = map(os.path.abspath, places)
    status: str | int | None = 0
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.exit(status)


def _take_libraries(threads: str | None) -> None:
    """Give libraries that were loaded before the fork what they get at their start."""
    import numpy as np

    # Two processes without a seed draw different numbers; of Python's own this holds.
    np.random.seed()
    with suppress(ImportError):
        import torch

        torch.seed()
        if threads:
            torch.set_num_threads(int(threads))
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        if threads:
            threadpool_limits(int(threads))
