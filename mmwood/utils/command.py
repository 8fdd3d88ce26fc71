"""What the scripts of tools/ share."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mmwood.utils.distribution import check_distribution

__all__ = ["run"]

_PACKAGE = Path(__file__).parents[1]
#: What a user can mend.
_MENDABLE = (ValueError, OSError, ImportError)


def run(main: Callable[[], object], needs: Sequence[str] = ()) -> None:
    """Run a script's main function; what its user can mend ends it in one line.

    That is an error that mmwood raises itself, or that the system does (a file that may
    not be read, a full disk). Any other keeps its traceback: it may be a fault of ours.

    Args:
        main: The function.
        needs: Packages of OpenMMLab without which it cannot run, by import names.
    """
    try:
        if needs:
            check_distribution(tuple(needs))
        main()
    except _MENDABLE as error:
        message = _message(error)
        if message is None:
            raise
        sys.exit(message)


def _message(error: BaseException) -> str | None:
    """What to say instead of a traceback, if anything."""
    # mmengine's registries wrap what a constructor raises, and lose its cause.
    for item in _chain(error):
        if isinstance(item, OSError) or (
            isinstance(item, _MENDABLE) and _is_ours(item)
        ):
            return str(item)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_ours(error: BaseException) -> bool:
    """Whether a line of mmwood, or of the script itself, raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    file = Path(trace.tb_frame.f_code.co_filename).resolve()
    return _PACKAGE in file.parents or file == Path(sys.argv[0]).resolve()
