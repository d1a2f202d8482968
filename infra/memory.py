"""Memory that a process frees and soon needs again stays with it.

The C library gives large arrays back to the system as they are freed, and asks for them anew; each page of 4 kB then
costs a fault, on a virtual machine as much as filling it. A process that makes the same arrays again and again, as the
fold and an update do, spends a twentieth of its time on that.
"""

import ctypes
import sys

MOST_FREED = 256 * 2**20
"""Freed bytes that stay with the process, at most, at the end of its heap."""

LARGE = 32 * 2**20
"""From so many bytes on, an array is the system's as soon as it is freed; the most that every glibc takes."""

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of the two in glibc's ``malloc.h``."""


def keep_freed() -> None:
    """Let this process keep what it frees. Nothing changes where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, MOST_FREED)
        mallopt(MMAP_THRESHOLD, LARGE)
