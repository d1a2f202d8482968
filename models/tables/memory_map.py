"""Memory-mapped arrays: beyond a size they lie in an unnamed file, which the system pages in and out as needed.

    with in_memory(up_to=2**30):
        rows = empty((10_000_000, 64), np.float32)     # a temporary file, gone with the array

So tables may be larger than the machine's memory: the rows in use stay in memory, the rest on disk. The directory is
that of ``tempfile`` (``TMPDIR``); one that itself lives in memory (tmpfs) wins nothing.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALL = 64
"""An array of less than one part in so many of the memory there is does not count, and needs no file of its own.
Segments are each at least twice as long as the next, so such arrays are few."""

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Bytes of memory that a container may use (cgroup v2)."""

_limit: int | None = None
"""Bytes of arrays in memory, in this process; None for a quarter of what there is."""

_allocated = 0
"""Bytes of the arrays in memory that count."""

_lock = threading.RLock()  # an array may be freed, and its bytes with it, while another is allocated


def limit() -> int:
    """Bytes of arrays in memory, beyond which they go to files: by :func:`in_memory`, or a quarter of what there is."""
    return available(CONTAINER_LIMIT) // 4 if _limit is None else _limit


@cache
def available(container_limit: Path) -> int:
    """Bytes of memory that the machine has, or that its container may use by the file ``container_limit``."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(container_limit.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return machine


@contextmanager
def in_memory(*, up_to: int) -> Iterator[None]:
    """Inside, arrays made by :func:`empty` in this process stay in memory up to ``up_to`` bytes in all."""
    global _limit
    before, _limit = _limit, up_to
    try:
        yield
    finally:
        _limit = before


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An uninitialised array, in memory up to the limit, else in a file.

    Raises ``OSError`` where the disk is full: better now than a fault in the middle of a merge.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size * SMALL <= limit():
        return np.empty(shape, dtype)
    with _lock:
        if _allocated + size <= limit():
            array = np.empty(shape, dtype)
            count(size)
            weakref.finalize(array, count, -size)
            return array
    with tempfile.TemporaryFile(prefix="millrace-rows-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{tempfile.gettempdir()} has no space for {size} bytes of rows: set TMPDIR to a larger disk",
            ) from error
        # A plain array: the mapping lives as long as any view of it, and the file's space as long as the mapping.
        return np.asarray(np.memmap(file, dtype, "r+", shape=shape))


def count(size: int) -> None:
    """Add to the bytes in memory; a negative ``size`` takes away."""
    global _allocated
    with _lock:
        _allocated += size
