"""Tools in the tests' own process."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def call_main(tmp_path, monkeypatch, capfd) -> Callable[..., str]:
    """As ``run_tool`` with the main function alone, in this process.

    What it raises comes after what it printed.
    """

    def call(tool: str, *arguments: object, fails: bool = False) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [tool, *map(str, arguments)])
        main = runpy.run_path(str(TOOLS / tool))["main"]
        raised = ""
        try:
            main()
        except (SystemExit, ValueError, OSError) as error:
            raised = str(error)
        assert bool(raised) == fails, raised
        return "".join(capfd.readouterr()) + raised

    return call
