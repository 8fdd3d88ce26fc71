"""Processes of tools, forked from one that has imported what tools import.

To import torch and OpenMMLab takes seconds, as long as some stages take to run.
"""

import atexit
import gc
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

from mmwood.utils.processes import end_with_parent

#: What most tools import, as far as it is installed.
_IMPORTED = (
    *("mmengine.runner", "mmcv.transforms", "mmpretrain.models"),
    *("mmpretrain.datasets", "mmseg.models", "mmseg.datasets", "matplotlib.pyplot"),
    *("sklearn.cluster", "timm", "tqdm", "prettytable", "cv2", "setuptools"),
    *("yapf.yapflib.yapf_api", "mmwood.engine", "mmwood.evaluation"),
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
    # mmengine collects garbage for every data set that it builds. To look through what
    # is imported, which is none, takes a quarter of a second.
    gc.freeze()
    # Or nanobind, in triton, would say at the end that everything is leaked.
    atexit.register(gc.unfreeze)
    return True


def fork_tool(
    command: Sequence[str],
    output: str | os.PathLike,
    environment: Mapping[str, str],
    folder: str | os.PathLike = ".",
) -> BaseProcess:
    """Start a tool as ``python -W ignore command >output`` does.

    Returns:
        The process, which has been started and ends with this one.
    """
    process = multiprocessing.get_context("fork").Process(
        target=_become,
        args=(command, os.path.abspath(output), environment, folder),
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
) -> None:
    end_with_parent()
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
    _reset_libraries(environment.get("OMP_NUM_THREADS"))
    sys.argv = [*command]
    places = environment.get("PYTHONPATH", "").split(os.pathsep)
    places = [os.path.dirname(command[0]), *filter(None, places)]
    sys.path[:0] = map(os.path.abspath, places)
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit:
        # What started this function ends the process so.
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)


def _reset_libraries(threads: str | None) -> None:
    """Give libraries that were loaded before the fork what they get at their start."""
    import numpy as np
    import torch
    from threadpoolctl import threadpool_limits

    # Two processes without a seed draw different numbers; of Python's own this holds.
    np.random.seed()
    torch.seed()
    if threads:
        torch.set_num_threads(int(threads))
        threadpool_limits(int(threads))
