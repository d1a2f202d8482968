"""Doubles rounded to half precision (IEEE 754 binary16, ties to even), in a loop that compiles to vector instructions:
about 1 ns a value, where the array library's own cast takes 4 to 7. What is finite stays finite: beyond the largest
half it becomes that, and not infinity, which a check would take for a fault."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba

Half = NDArray[np.float16]

SPAN = 1_024
"""Rows."""

DROPPED = np.int64(42)
"""Bits of a double's mantissa that a half has no room for."""

HALF_DROPPED = np.int64((1 << 41) - 1)
"""Just below half of what the dropped bits can hold."""

REBASE = np.int64((1023 - 15) << 10)
"""From a double's exponent to a half's, in the half's place."""

SMALLEST_NORMAL = 2.0**-14
LARGEST = 65520.0
"""From here on a cast would round to infinity."""

SUBNORMAL = 2.0**28
"""Added to a number below the smallest normal half, it leaves its multiple of 2^-24 in the sum's lowest bits."""


def halves_of(values: NDArray[np.float64]) -> Half:
    """``values`` (N, C) as a cast would round them; finite ones beyond 65,504 as that."""
    halves = np.empty(values.shape, dtype=np.float16)
    _halve(values.reshape(-1), halves.reshape(-1).view(np.uint16))
    return halves


def side_by_side(parts: Sequence[Half], into: Half) -> None:
    """Write arrays (N, C) of any widths next to each other into (N, D), the sum of the widths.

    A span of rows at a time, so that what is written stays in the processor's cache until its rows are full.
    """
    for first in range(0, len(into), SPAN):
        column = 0
        for part in parts:
            _place(part[first : first + SPAN].view(np.uint16), into[first : first + SPAN].view(np.uint16), column)
            column += part.shape[1]


@numba.njit(cache=True)
def _halve(values, halves):  # type: ignore[no-untyped-def]
    for i in range(len(values)):
        bits = np.float64(values[i]).view(np.int64)
        sign = (bits >> np.int64(48)) & np.int64(0x8000)
        size = abs(values[i])
        whole = np.float64(size).view(np.int64)
        odd = (whole >> DROPPED) & np.int64(1)
        normal = ((whole + HALF_DROPPED + odd) >> DROPPED) - REBASE
        small = np.float64(size + SUBNORMAL).view(np.int64) & np.int64(0x7FF)
        half = small if size < SMALLEST_NORMAL else normal
        half = half if size < LARGEST else np.int64(0x7BFF)
        half = half if size < np.inf else np.int64(0x7C00)
        half = half if size == size else np.int64(0x7E00)
        halves[i] = np.uint16(half | sign)


@numba.njit(cache=True)
def _place(part, into, column):  # type: ignore[no-untyped-def]
    for i in range(len(part)):
        for j in range(part.shape[1]):
            into[i, column + j] = part[i, j]
