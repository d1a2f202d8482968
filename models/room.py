"""Room for large arrays: beyond a size they lie in a file without a name, which the system reads and writes as needed.

    with in_memory(up_to=2**30):
        rows = empty((10_000_000, 64), np.float32)     # a temporary file, gone with the array

So a table may be larger than the machine's memory: the rows in use stay in memory, the rest on disk. The directory is
that of ``tempfile`` (``TMPDIR``); one that itself lives in memory (tmpfs) wins nothing.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

_largest: int | None = None
"""Bytes of the largest array kept in memory, in this process; None for a quarter of the machine's."""


def largest_in_memory() -> int:
    """Bytes up to which an array is kept in memory: what :func:`in_memory` set, or a quarter of the machine's."""
    if _largest is not None:
        return _largest
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


@contextmanager
def in_memory(*, up_to: int) -> Iterator[None]:
    """Inside, arrays made by :func:`empty` in this process stay in memory up to ``up_to`` bytes."""
    global _largest
    before, _largest = _largest, up_to
    try:
        yield
    finally:
        _largest = before


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array with nothing in it yet, in memory or in a file according to its size.

    Raises ``OSError`` where the disk has no room for it: better now than a fault in the middle of a merge.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size or size <= largest_in_memory():
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="millrace-rows-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{tempfile.gettempdir()} has no room for {size} bytes of rows: set TMPDIR to a larger disk",
            ) from error
        # A plain array: the mapping lives as long as any view of it, and the file's space as long as the mapping.
        return np.asarray(np.memmap(file, dtype, "r+", shape=shape))


def mapped(file: BinaryIO, dtype: DTypeLike, offset: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Part of an open file as an array that cannot be written; nothing is read until it is used."""
    return np.asarray(np.memmap(file, dtype, "r", offset, shape))
