"""Starts tools from a process that has imported what they import: seconds for each.

A line of JSON asks for a tool, whose process id answers, or for the exit status of one
that was started, within some seconds.
"""

import json
import os
import sys

from yapf.yapflib import yapf_api

from mmwood.pipeline.launch import can_fork, fork_tool


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    # Some of what is imported prints.
    os.dup2(2, 1)
    can_fork()
    # Half a second a tool, for copies of configs that nobody reads here.
    yapf_api.FormatCode = lambda text, **_: (text, True)
    started = {}
    for line in sys.stdin:
        task = json.loads(line)
        if "command" in task:
            process = fork_tool(**task)
            started[process.pid] = process
            answer = process.pid
        else:
            process = started[task["pid"]]
            process.join(task["seconds"])
            answer = process.exitcode
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
