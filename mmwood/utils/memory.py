"""Memory that is freed and taken again."""

import ctypes
import sys

# Of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it allocates next.

    By default glibc returns each large block to the system and asks for it anew, page
    by page: on a CPU that is half the time of a training step, whose activations are
    such blocks (benchmarks/memory.py). Linux with glibc only; elsewhere nothing
    happens.
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, _NEVER)
