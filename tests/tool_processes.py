"""Tools in processes of their own, started in no time."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

TESTS = Path(__file__).parent


class Tool:
    """One of tools/ that runs in a process of its own; as ``subprocess.Popen``."""

    def __init__(
        self, server: "ToolServer", folder: Path, path: Path, *arguments: object
    ) -> None:
        command = [str(path), *map(str, arguments)]
        if path.suffix == ".sh":
            command = script_command(command, folder)
        self._server = server
        # On its own, so that nothing of it is among the files of the test.
        self._output = NamedTemporaryFile("r")  # noqa: SIM115
        self.pid = server.ask(
            command=command,
            output=self._output.name,
            environment=tool_environment(),
            folder=str(folder),
        )

    def poll(self) -> int | None:
        return self._server.ask(pid=self.pid, seconds=0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._server.ask(pid=self.pid, seconds=timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a tool", timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def read(self) -> str:
        """What it has printed so far, errors too."""
        self._output.seek(0)
        return self._output.read()


class ToolServer:
    """A process that has imported what tools import, from which they are forked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", TESTS / "tool_server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=tool_environment(),
            text=True,
        )

    def __enter__(self) -> "ToolServer":
        return self

    def __exit__(self, *_: object) -> None:
        # Closing its input need not end it: what this process has forked may hold it.
        self._process.kill()
        self._process.communicate()

    def ask(self, **task: object) -> int | None:
        print(json.dumps(task), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def script_command(command: list[str], folder: Path) -> list[str]:
    """What one of the shell scripts starts, with processes that are forked."""
    with TemporaryDirectory() as programs:
        python, given = Path(programs, "python"), Path(programs, "arguments")
        python.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" >{given}\n")
        python.chmod(0o755)
        environment = tool_environment()
        environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
        subprocess.run(["bash", *command], cwd=folder, env=environment, check=True)
        module, name, *options = given.read_text().split("\0")[:-1]
    assert (module, name) == ("-m", "torch.distributed.run")
    return [str(TESTS / "forked_torchrun.py"), *options]


def tool_environment() -> dict[str, str]:
    """One thread, this repository's mmwood, and a free port for shell scripts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return dict(
        os.environ,
        # And modules that a config imports from the test's folder.
        PYTHONPATH=f"{TESTS.parent}{os.pathsep}.",
        OMP_NUM_THREADS="1",
        # The shell scripts call `python`.
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        PORT=str(port),
    )
