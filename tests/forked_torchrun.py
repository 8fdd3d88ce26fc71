"""torchrun whose processes are forked from it: they need not import everything anew.

Its arguments, its supervision of the processes and what it prints are torchrun's own.
"""

import os
import runpy
import signal
import sys

from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args


def run(script: str, *arguments: str) -> None:
    # Those of the process that was forked would wait for what it waits for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    config, _, arguments = config_from_args(parse_args(sys.argv[1:]))
    config.start_method = "fork"
    # Before the script stands -u.
    elastic_launch(config, run)(*arguments[1:])
