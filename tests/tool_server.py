"""Starts tools from a process that has imported what they import: seconds for each.

A line of JSON asks for one, its exit status answers.
"""

import json
import os
import sys

from mmwood.pipeline.launch import can_fork, fork_tool


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    # Some of what is imported prints.
    os.dup2(2, 1)
    can_fork()
    for line in sys.stdin:
        process = fork_tool(**json.loads(line))
        process.join()
        print(process.exitcode, file=answers, flush=True)


if __name__ == "__main__":
    main()
