"""What the scripts of tools/ share."""

import argparse
import errno
import linecache
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmwood.utils.config import leaf_datasets, without_names
from mmwood.utils.distribution import check_distribution
from mmwood.utils.locations import TOOLS, read_config, verb
from mmwood.utils.memory import keep_freed_memory
from mmwood.utils.processes import (
    end_children_with_this,
    end_with_parent,
    leave_process_group,
)

if TYPE_CHECKING:
    from mmengine.config import Config

_PACKAGE = Path(__file__).resolve().parents[1]
#: What a user can mend where a statement of ours raises it.
_MENDABLE = (ValueError, OSError, ImportError)
#: The system's errors about files; others name theirs, or are of a full disk.
_FILE_ERRORS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Where mmengine builds what configs name.
_REGISTRY = "mmengine/registry/*.py"
#: How torch hands over an error of a DataLoader's worker: its traceback as a text, here
#: from its last frame on.
_IN_WORKER = re.compile(
    r'Caught \w+ in DataLoader worker .*\n  File "([^"]+)", line (\d+)[^\n]*\n'
    r"(?:    [^\n]*\n)*[\w.]+: (.*)",
    re.DOTALL,
)


def script_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a script's text with its line breaks.

    Run as ``mmwood COMMAND``, the text's examples are written so, too.
    """
    if description and Path(sys.argv[0]).name.startswith("mmwood "):
        script = re.compile(r"python tools/([\w/]+)\.py")
        description = script.sub(lambda match: f"mmwood {verb(match[1])}", description)
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_decoding_options(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, default: str = ""
) -> None:
    """Add the options that say how images are read.

    Args:
        parser: What takes ``--levels`` and ``--bands``.
        default: What is said of images of more than 8 bits without ``--levels``.
    """
    parser.add_argument(
        "--levels",
        nargs="+",
        type=float,
        metavar="VALUE",
        help="the two values that are black and white where images have more than 8 "
        f"bits, such as 0 4095, or two for each band{default}",
    )
    parser.add_argument(
        "--bands",
        nargs="+",
        type=int,
        metavar="BAND",
        help="the bands that networks see, from 1, such as 4 3 2 8; people see the "
        "first three as red, green and blue (default: an image's colours)",
    )


def add_input_channels(parser: argparse.ArgumentParser) -> None:
    """Add the option of converters that makes weights for images of other bands."""
    parser.add_argument(
        "--in-channels",
        type=int,
        default=3,
        choices=range(1, 1025),
        metavar="N",
        help="bands of the images: the first convolution's weights are repeated and "
        "scaled (default: 3)",
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that stock OpenMMLab's train.py and test.py share."""
    parser.add_argument(
        "--work-dir", help="folder of logs and results (default: work_dirs/CONFIG)"
    )
    add_cfg_options(
        parser,
        "as in model.head.thr=0.4; lists as "
        'key="[a,b]" or key=a,b; nested ones as key="[(a,b),(c,d)]", with the '
        "quotation marks and without white space",
    )
    parser.add_argument(
        "--amp", action="store_true", help="use automatic mixed precision"
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how the processes of a distributed job were started",
    )
    # torchrun sets the environment variable, torch.distributed.launch the option.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)


def add_cfg_options(
    parser: argparse.ArgumentParser, how: str = "as for tools/train.py"
) -> None:
    """Add ``--cfg-options``, for a script of one process that reads a config."""
    # Here, since --help must not wait for torch, nor this module need mmengine.
    from mmengine.config import DictAction

    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help=f"override settings of the config, {how}",
    )
    # What load_config reads beside these.
    parser.set_defaults(launcher="none", local_rank=0, work_dir=None)


def load_config(
    args: argparse.Namespace,
    needs: Sequence[str] = (),
    config: "Config | None" = None,
) -> "Config":
    """Read the config and merge the common options into it, without torch.

    From here on what this process starts ends with it.

    Args:
        args: Of a parser with :func:`add_common_arguments` or :func:`add_cfg_options`.
        needs: Fields that the config must have.
        config: What to take in place of the file ``args.config``, which still names
            the default work dir.

    Raises:
        FileNotFoundError: There is no such config, or none that a ``_base_`` names.
        ValueError: It is no Python; a field is missing; a step of a pipeline has a
            name, but no type.
    """
    end_children_with_this()
    if args.launcher == "pytorch":
        # torchrun ends them too, unless it is killed itself.
        end_with_parent()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = config or read_config(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    missing = [name for name in needs if cfg.get(name) is None]
    if missing:
        raise ValueError(f"{args.config}: the config has no {' and no '.join(missing)}")
    _list_pipelines(cfg)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs", Path(args.config).stem))
    return cfg


def _list_pipelines(cfg: "Config") -> None:
    """Make pipelines whose steps have names lists, as everything else reads them."""
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader") or {}
        for dataset in leaf_datasets(loader.get("dataset") or {}):
            if isinstance(dataset.get("pipeline"), dict):
                dataset.pipeline = without_names(dataset.pipeline, "pipeline")


def add_figure_option(
    parser: argparse.ArgumentParser, numbers: str = "its numbers go to a JSON"
) -> None:
    """Add ``--out``, the figure of a script that writes its numbers beside it."""
    parser.add_argument(
        "--out",
        type=png_path,
        required=True,
        help=f"figure (PNG) to write; {numbers} file of the same name",
    )


def refuse_below(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    names: Sequence[str],
    least: int = 1,
) -> None:
    """End a script whose options of these names are numbers below ``least``."""
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            option = name.replace("_", "-")
            parser.error(f"--{option} must be at least {least}, got {value}")


def png_path(text: str) -> Path:
    """The type of a command line's argument that names a figure to write.

    Raises:
        argparse.ArgumentTypeError: It does not end in .png.
    """
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(
            f"figures are .png files (their numbers get another suffix), got {text!r}"
        )
    return path


def named_path(text: str) -> tuple[str, str]:
    """The type of a command line's argument NAME=PATH.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, path


def run(main: Callable[[], object], needs: Sequence[str] = ()) -> None:
    """Run a script's main function; what its user can mend ends it in one line.

    That is an error that a ``raise`` of mmwood or of the script makes, that the system
    does (a file that may not be read, a full disk), or that mmengine's registries do
    where a config names a class or a field that does not exist; in a DataLoader's
    worker, too. Any other keeps its traceback: it may be a fault of ours.

    Args:
        main: The function.
        needs: Packages of OpenMMLab without which it cannot run, by import names.
    """
    try:
        if needs:
            check_distribution(tuple(needs))
            keep_freed_memory()
        main()
        leave_process_group()
    except Exception as error:
        message = _message(error)
        if not message:
            raise
        sys.exit(message)


def _message(error: BaseException) -> str | None:
    """What to say instead of a traceback, if anything."""
    in_worker = _IN_WORKER.match(str(error))
    if isinstance(error, OSError) and not in_worker:
        of_files = isinstance(error, _FILE_ERRORS) or error.filename
        if of_files or error.errno in _FULL:
            return str(error)
    chain = [*_chain(error)]
    for item in chain:
        if isinstance(item, _MENDABLE):
            file, line, message = *_origin(item), str(item)
            if worker := _IN_WORKER.match(message):
                file, line, message = Path(worker[1]), int(worker[2]), worker[3]
            # A worker's OSError is its text alone.
            if _is_raised_by_us(file, line) or (worker and isinstance(item, OSError)):
                return message.rstrip()
    root = chain[-1]
    # A call with a field that nothing takes fails in the line that calls.
    if isinstance(root, (KeyError, TypeError)) and _origin(root)[0].match(_REGISTRY):
        return str(root.args[0])
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes."""
    while error is not None:
        yield error
        cause = error.__cause__
        # Registries raise what a constructor did anew, and lose its cause. Any other
        # error that was being handled may have nothing to do with this one.
        if cause is None and type(error.__context__) is type(error):
            cause = error.__context__
        error = cause


def _origin(error: BaseException) -> tuple[Path, int]:
    """File and number of the line that raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return Path(), 0
    return Path(frames[-1].filename), frames[-1].lineno or 0


def _is_raised_by_us(file: Path, line: int) -> bool:
    """Whether a line is a ``raise`` of mmwood or of the script itself."""
    places = {_PACKAGE, TOOLS.resolve(), Path(sys.argv[0]).resolve()}
    resolved = file.resolve()
    if places.isdisjoint([resolved, *resolved.parents]):
        return False
    return linecache.getline(str(file), line).lstrip().startswith("raise ")
