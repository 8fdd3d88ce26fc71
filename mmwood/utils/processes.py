"""Processes that end with the one that started them, however that ended."""

import ctypes
import os
import signal
import sys

__all__ = ["end_children_with_this", "end_with_parent"]

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
