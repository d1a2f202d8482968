"""Memory that a process frees: what it soon needs again stays with it, what it does not is given back.

The C library gives large arrays back to the system as they are freed, and asks for them anew; each page of 4 kB then
costs a fault, on a virtual machine as much as filling it. A process that makes the same arrays again and again, as the
fold and an update do, spends a twentieth of its time on that.
"""

import ctypes
import sys
from collections.abc import Callable

TRIMMED_ABOVE = 256 * 2**20
"""Freed bytes that stay with the process, at most, at the end of its heap."""

MAPPED_FROM = 32 * 2**20
"""From so many bytes on, an array is the system's as soon as it is freed; the most that every glibc takes."""

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of the two in glibc's ``malloc.h``."""


def keep_freed() -> None:
    """Let this process keep what it frees. Nothing changes where there is no glibc."""
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, TRIMMED_ABOVE)
        mallopt(MMAP_THRESHOLD, MAPPED_FROM)


def give_back() -> None:
    """Give what this process has freed back to the system, once something large is over, as the loading of a state: a
    few bytes that are still in use keep the C library from giving back all that lies below them."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where that is another."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
