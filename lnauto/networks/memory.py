"""Memory that a training step gives back and asks for again a moment later, kept within the process."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
MOST = 2**31 - 1
SPARE = 64 * 2**20  # bytes asked for at a time, beyond what is needed


def keep_freed_memory() -> bool:
    """Whether this process keeps what it frees from now on, which Linux's C library can be told to.

    As it comes, it maps large tensors anew each time, and the system fills 24,000 pages a step with zeros: a sixth of a step
    on a CPU (documentation/benchmarks.md). The most that is held at one time stays the same.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        adjust = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library than glibc
        return False
    wanted = {MMAP_THRESHOLD: MOST, TRIM_THRESHOLD: MOST, TOP_PAD: SPARE}
    refused = [what for what, size in wanted.items() if adjust(what, size) != 1]
    return not refused
