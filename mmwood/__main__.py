"""The command ``mmwood``: the scripts of ``tools/`` from any folder.

``mmwood run ...`` is ``python tools/run_pipeline.py ...``, wherever the tools are.
"""

import ast
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from mmwood import __version__
from mmwood.utils.locations import TOOLS, verb

#: In the order of the work; the help lists them first.
_FIRST = ("run", "predict", "export", "mine", "review", "train", "test")


def main() -> None:
    """Run the tool that the command line names, as if it had been started itself.

    Raises:
        SystemExit: There is no such command, or only help was asked for.
    """
    tools = {verb(path): path for path in sorted(TOOLS.rglob("*.py"))}
    first = {name: tools.pop(name) for name in _FIRST if name in tools}
    tools = first | tools
    command, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command in ("-h", "--help"):
        print(_help(tools))
    elif command == "--version":
        print(f"mmwood {__version__}")
    elif command in tools:
        _become(tools[command], [f"mmwood {command}", *arguments])
    elif not command:
        _end(f"usage: mmwood {{{','.join(first)},...}} ...; `mmwood --help` lists all")
    else:
        close = get_close_matches(command, tools, n=1)
        hint = f"did you mean `mmwood {close[0]}`? " if close else ""
        _end(f"mmwood: no command {command!r}; {hint}`mmwood --help` lists all")


def _end(message: str) -> None:
    print(message, file=sys.stderr)
    # As argparse does.
    sys.exit(2)


def _help(tools: dict[str, Path]) -> str:
    """Every command with the first line of its script."""
    width = max(map(len, tools))
    lines = ["usage: mmwood COMMAND ...   (`mmwood COMMAND --help` says more)", ""]
    for name, path in tools.items():
        text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        lines.append(f"  {name:<{width}}  {text.partition(chr(10))[0]}")
    return "\n".join(lines)


def _become(path: Path, argv: list[str]) -> None:
    """Run a script in this process.

    Unlike :func:`runpy.run_path` this lets ``argv[0]`` be what the script calls itself
    in its help and errors.
    """
    sys.argv = argv
    module = ModuleType("__main__")
    module.__file__ = str(path)
    # Where a DataLoader's worker that is not forked finds it.
    sys.modules["__main__"] = module
    exec(compile(path.read_bytes(), path, "exec"), module.__dict__)


if __name__ == "__main__":
    main()
