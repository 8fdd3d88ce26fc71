"""Where the configs and tools of mmwood are: in a clone, or in what pip installed.

A wheel holds them in ``mmwood/.mim/``, as those of MMSegmentation and MMPretrain do, so
that OpenMMLab's ``mim`` finds them too. Only to read a config is mmengine needed.
"""

import os
import shlex
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config

_PACKAGE = Path(__file__).resolve().parents[1]
_MIM = _PACKAGE / ".mim"
#: Whether this is an installed wheel. Beside a clone, .mim leads to its folders.
_IN_WHEEL = (_MIM / "tools").is_dir() and not (_MIM / "tools").is_symlink()
#: Folder of ``configs/`` and ``tools/``.
ROOT = _MIM if _IN_WHEEL else _PACKAGE.parent
TOOLS = ROOT / "tools"
#: Tools whose command has another name than their file.
_VERBS = dict(run_pipeline="run", mine_ood="mine", review_ood="review")


def find_config(path: str | os.PathLike) -> Path:
    """A config's file: as it is named, or else the one of this name of mmwood.

    Args:
        path: A file; ``configs/...`` may be one that comes with mmwood. Taking that is
            said on the standard error stream, once a process.

    Returns:
        The file; ``path`` itself where there is neither.

    Example:
        >>> find_config("configs/pipelines/demo.py")
        PosixPath('configs/pipelines/demo.py')
    """
    found = Path(path)
    return found if found.exists() else _shipped(found) or found


def read_config(path: str | os.PathLike) -> "Config":
    """As mmengine's ``Config.fromfile``, with the configs of mmwood from anywhere.

    What is said of :func:`find_config` holds for ``path`` and for every ``_base_``.

    Raises:
        FileNotFoundError: There is no such config, or none that a ``_base_`` names.
        ValueError: One of them is no Python; the message names file and line.
    """
    from mmengine.config import Config

    path = find_config(path)
    if not path.is_file():
        raise FileNotFoundError(f"config: there is no file {path}")
    stock = vars(Config)["_get_cfg_path"]
    files = [path]

    def get_cfg_path(name: str, filename: str) -> tuple[str, str | None]:
        base, scope = stock.__func__(name, filename)
        if scope is None and not os.path.exists(base):
            base = str(_shipped(Path(name)) or base)
            if not os.path.exists(base):
                raise FileNotFoundError(f"{filename}: _base_: there is no file {base}")
        files.append(Path(base))
        return base, scope

    Config._get_cfg_path = staticmethod(get_cfg_path)
    try:
        return Config.fromfile(path)
    except SyntaxError as error:
        # mmengine does not say in which of the files.
        raise _named(error, files) from error
    finally:
        Config._get_cfg_path = stock


def _named(error: SyntaxError, files: Iterable[Path]) -> ValueError:
    for file in files:
        try:
            compile(file.read_bytes(), file, "exec")
        except SyntaxError as found:
            return ValueError(f"{file}:{found.lineno}: {found.msg}")
    return ValueError(f"config: {error}")


def _shipped(path: Path) -> Path | None:
    """The config of mmwood of this name."""
    own = ROOT / path
    if path.parts[:1] != ("configs",) or ".." in path.parts or not own.is_file():
        return None
    _say(path, own)
    return own


@cache
def _say(path: Path, own: Path) -> None:
    print(f"{path}: not here, taken from mmwood: {own}", file=sys.stderr)


def verb(tool: str | os.PathLike) -> str:
    """How a tool is called after ``mmwood``.

    Example:
        >>> verb("tools/mine_ood.py")
        'mine'
    """
    stem = Path(tool).stem
    return _VERBS.get(stem, stem)


def tool_command(tool: str | os.PathLike, arguments: Iterable[str] = ()) -> str:
    """A tool and its arguments as a person types them.

    Example:
        >>> tool_command("review_ood.py", ["ood.csv"])  # in a clone
        'python tools/review_ood.py ood.csv'
    """
    path = TOOLS / tool
    if _IN_WHEEL and TOOLS in path.parents:
        return shlex.join(["mmwood", verb(path), *arguments])
    return shlex.join(["python", os.path.relpath(path), *arguments])


def pip_install(extra: str) -> str:
    """The command that installs one of mmwood's extras."""
    what = f'"mmwood[{extra}]"' if _IN_WHEEL else f'-e ".[{extra}]"'
    return f"pip install {what}"
