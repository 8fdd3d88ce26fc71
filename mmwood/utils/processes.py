"""How processes end: with the one that started them, and with their group left."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Looked up before any fork: between fork and exec little is allowed.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None


def end_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """Let this process receive a signal when its parent ends, killed or not.

    Linux only; elsewhere nothing happens.
    """
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, how)


def end_children_with_this() -> None:
    """Let every process that this one forks from now on end with it.

    A DataLoader's workers otherwise outlive a killed training: they wait for somebody
    to take their batches.
    """
    os.register_at_fork(after_in_child=end_with_parent)


def leave_process_group() -> None:
    """End this process's part of a distributed job, before the interpreter ends.

    The threads of a group that is still there release Python objects, and one that does
    so while the interpreter ends aborts the process, after its work is done.
    """
    distributed = sys.modules.get("torch.distributed")
    if (
        distributed is not None
        and distributed.is_available()
        and distributed.is_initialized()
    ):
        distributed.destroy_process_group()
