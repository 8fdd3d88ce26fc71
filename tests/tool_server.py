"""Starts tools from a process that has imported what they import: seconds for each.

Every tool runs in a process of its own, forked before any of mmwood is imported. A line
of JSON asks for one, its exit status answers.
"""

import atexit
import json
import os
import runpy
import sys
import threading
import traceback
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

IMPORTED = (
    *("torch", "mmengine.runner", "mmcv.transforms", "mmpretrain.models"),
    *("mmpretrain.datasets", "mmseg.models", "mmseg.datasets", "matplotlib.pyplot"),
    *("sklearn.cluster", "timm", "tqdm", "prettytable", "cv2"),
)


def run(request: dict) -> NoReturn:
    """Become a tool: as ``python tool arguments`` in a folder, with an environment."""
    tool, *_ = request["command"]
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    inside = os.open(os.devnull, os.O_RDONLY)
    outside = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for target, source in enumerate((inside, outside, outside)):
        os.dup2(source, target)
    sys.argv = request["command"]
    places = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [os.path.dirname(tool), *map(os.path.abspath, places)]
    status = 0
    try:
        runpy.run_path(tool, run_name="__main__")
    except SystemExit as error:
        status = error.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    # As the interpreter ends.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    # Some of what is imported prints.
    os.dup2(2, 1)
    for name in IMPORTED:
        with suppress(ImportError):
            import_module(name)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            run(json.loads(line))
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    main()
