"""Where the rows of a model's id tables lie in memory: for an id the address of the row it uses, its own or a shared.

    tables = Addresses.of(model.tables, width).tables
    row = floats(row_address(tables, k, wanted), width)       # in compiled code

A table has as many segments as its history made, and compiled code takes a fixed number of arrays: so it is given their
addresses. Nothing of the rows is copied, and those of a memory-mapped segment stay on disk until they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import DTypeLike, NDArray

from features.compiled import numba
from models.examples import EMPTY
from models.tables.id_table import IdTable
from models.tables.log_structured import TOMBSTONE


class TableAddresses(NamedTuple):
    """The tables, as compiled code takes them."""

    tables: NDArray[np.int64]
    """[tables, 5]: the first of its segments, the one after its last, its frequency filter, how many shared rows it
    has, and their address."""

    segments: NDArray[np.int64]
    """[segments, 4]: how many ids, and the addresses of the ids, the counts and the weights."""

    empty: NDArray[np.float32]
    """[width], the row of ``EMPTY``: zeros."""


@dataclass(frozen=True, eq=False)
class Addresses:
    """The tables' addresses, with what lies there."""

    tables: TableAddresses
    kept: tuple[NDArray[Any], ...]
    """The arrays pointed at, in memory for as long as this is."""

    @staticmethod
    def of(tables: Sequence[IdTable], width: int) -> Addresses:
        """Those of tables whose rows are ``width`` floats."""
        kept = list[NDArray[Any]]()

        def address(array: NDArray[Any], dtype: DTypeLike) -> int:
            kept.append(np.require(array, dtype, ["C", "A"]))  # as they are, all segments being so
            return kept[-1].ctypes.data

        described, segments = list[list[int]](), list[list[int]]()
        for table in tables:
            first = len(segments)
            for one in table.segments:
                places = [address(one.ids, np.int64), address(one.counts, np.int64), address(one.weights, np.float32)]
                segments.append([len(one), *places])
            shared = address(table.shared.weights, np.float32)
            described.append([first, len(segments), table.frequency_filter, table.oov_rows, shared])
        found = TableAddresses(
            tables=np.array(described, np.int64).reshape(-1, 5),
            segments=np.array(segments, np.int64).reshape(-1, 4),
            empty=np.zeros(width, np.float32),
        )
        return Addresses(found, tuple(kept))


@intrinsic
def pointer(context, address):  # type: ignore[no-untyped-def]
    """An address as a pointer, for ``carray``."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@numba.njit(cache=True, nogil=True)
def floats(address, count):  # type: ignore[no-untyped-def]
    """The float32 [count] at an address."""
    return carray(pointer(address), (count,), np.float32)  # type: ignore[call-arg]  # an intrinsic's first is not for callers


@numba.njit(cache=True, nogil=True)
def integers(address, count):  # type: ignore[no-untyped-def]
    """The int64 [count] at an address."""
    return carray(pointer(address), (count,), np.int64)  # type: ignore[call-arg]  # an intrinsic's first is not for callers


@numba.njit(cache=True, nogil=True)
def index_in(ids, wanted):  # type: ignore[no-untyped-def]
    """Where an id is among ascending ids, of which there is at least one; -1 where it is not."""
    low, left = 0, len(ids)
    while left > 1:
        half = left >> 1
        low = low + half if ids[low + half] <= wanted else low
        left -= half
    return low if ids[low] == wanted else -1


@numba.njit(cache=True, nogil=True)
def scrambled(number):  # type: ignore[no-untyped-def]
    """``models.tables.hashing.scramble`` of one number."""
    mixed = np.uint64(number) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def row_address(addresses, table, wanted):  # type: ignore[no-untyped-def]
    """Of the row that an id uses: what ``IdTable.rows_of`` gives."""
    if wanted == EMPTY:
        return addresses.empty.ctypes.data
    row_bytes = 4 * len(addresses.empty)
    first, end, frequency_filter, oov_rows, shared = addresses.tables[table]
    for k in range(first, end):
        length, ids, counts, weights = addresses.segments[k]
        at = index_in(integers(ids, length), wanted)
        if at >= 0:
            count = integers(counts, length)[at]
            if count != TOMBSTONE and count >= frequency_filter:
                return weights + row_bytes * at
            break
    return shared + row_bytes * np.int64(scrambled(wanted) % np.uint64(oov_rows))
