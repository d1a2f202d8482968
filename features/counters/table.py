"""The counters of one family, by key: records in one array, found through an open-addressing hash table."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from features.identity.keys import Keys

Float = NDArray[np.float64]

COUNTER_TIMES = 3
FIRST, LAST, LAST_CLICK = range(COUNTER_TIMES)
"""Columns of a counter's times: first and last add, last add with a click; NaN where there was none."""


@dataclass
class Counters:
    """The state of one family: a record a key.

    A record lies in one piece, since a look-up in a large table costs what it costs to fetch the memory.
    """

    half_lives: Float
    size: int
    slots: Keys  # (2^n, 2): key and its record, side by side; key 0 = free
    keys: Keys  # (capacity,)
    records: Float  # (capacity, 3 + 2 * half-lives): times, then sums
    dirty: NDArray[np.bool_]  # (capacity,) added to since the last checkpoint

    @classmethod
    def empty(cls, half_lives: tuple[float, ...]) -> "Counters":
        return cls(
            half_lives=np.array(half_lives, dtype=np.float64),
            size=0,
            slots=np.zeros((64, 2), dtype=np.int64),
            keys=np.zeros(48, dtype=np.int64),
            records=np.zeros((48, COUNTER_TIMES + 2 * len(half_lives))),
            dirty=np.zeros(48, dtype=np.bool_),
        )

    @property
    def times(self) -> Float:
        """Seconds since the epoch (capacity, 3): FIRST, LAST and LAST_CLICK."""
        return self.records[:, :COUNTER_TIMES]

    @property
    def sums(self) -> Float:
        """Clicks, then impressions (capacity, 2 * half-lives), decayed to LAST."""
        return self.records[:, COUNTER_TIMES:]

    def reserve(self, more: int) -> None:
        """Grow to hold ``more`` new keys."""
        need = self.size + more
        if need <= len(self.keys):
            return
        places = 2 * len(self.slots)
        while 3 * places // 4 < need:
            places *= 2
        self.slots = np.zeros((places, 2), dtype=np.int64)
        # memory that is not written to stays unused: no concatenate
        self.keys, self.records, self.dirty = (
            _grown(rows, self.size, 3 * places // 4) for rows in (self.keys, self.records, self.dirty)
        )
        _index(self.slots, self.keys, self.size)

    def load(self, keys: Keys, times: Float, sums: Float) -> None:
        """Put stored rows in, replacing those of the same key."""
        self.reserve(len(keys))
        self.size = _load(self.slots, self.keys, self.size, self.records, keys, np.concatenate([times, sums], axis=1))


@numba.njit(cache=True)
def find(slots, key):  # type: ignore[no-untyped-def]
    """The record of a key, or -1 - place in the table where it would go."""
    mask = len(slots) - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    place = np.int64((mixed >> np.uint64(20)) & np.uint64(mask))
    while slots[place, 0] != 0:
        if slots[place, 0] == key:
            return slots[place, 1]
        place = (place + 1) & mask
    return -1 - place


def _grown(rows: NDArray[Any], size: int, capacity: int) -> NDArray[Any]:
    """A larger array whose first ``size`` rows are these."""
    larger = np.zeros((capacity, *rows.shape[1:]), dtype=rows.dtype)
    larger[:size] = rows[:size]
    return larger


@numba.njit(cache=True)
def _index(slots, keys, size):  # type: ignore[no-untyped-def]
    for row in range(size):
        place = -1 - find(slots, keys[row])
        slots[place, 0] = keys[row]
        slots[place, 1] = row


@numba.njit(cache=True)
def _load(slots, keys, size, records, new_keys, new_records):  # type: ignore[no-untyped-def]
    for i in range(len(new_keys)):
        row = find(slots, new_keys[i])
        if row < 0:
            slots[-1 - row, 0] = new_keys[i]
            slots[-1 - row, 1] = size
            keys[size] = new_keys[i]
            row = size
            size += 1
        records[row] = new_records[i]
    return size
