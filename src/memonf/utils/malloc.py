"""How the C library hands memory out: kept for the next step instead of given back after each."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

#: Options of mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
#: Arrays up to this size, in bytes, come from the heap: the most that glibc allows.
LARGEST = 32 << 20
#: Free memory at the end of the heap, in bytes, above which it is given back.
KEPT = 64 << 20


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of its last step; whether that could be arranged.

    A step of training or rendering makes the same arrays of a few megabytes as the one before. By
    default glibc returns each to the system when it is freed and has it cleared page by page when
    it is asked for again: a fifth of a training step. Programs should ask for this once at their
    start; a library should not, so only the command line and the workers do.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    return bool(mallopt(MMAP_THRESHOLD, LARGEST)) and bool(mallopt(TRIM_THRESHOLD, KEPT))
