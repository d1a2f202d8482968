"""The fold: the only definition of a decaying counter.

Given the state of a family and rows of (key, time, click weight, impression weight, tick), each row reads what was
folded in ticks before its own, then adds its weights; weights of zero make a pure read. It is called every couple of
seconds with one tick, with hours of ticks, or with the whole log, and gives the same numbers to the bit: a counter is
a plain recurrence in time, ``s <- s * 2^(-dt / half_life) + w``, done key by key in the order of the rows, so where
the rows are cut does not matter.

    counters = Counters.empty((300.0, 3600.0))
    seen = fold(counters, reads, adds)
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from features.keys import Keys

Float = NDArray[np.float64]
Int = NDArray[np.int64]

FIRST, LAST, LAST_CLICK = 0, 1, 2
"""Columns of a counter's times: first and last add, last add with a click; NaN where there was none."""


@dataclass
class Counters:
    """The state of one family: a row a key, found through an open-addressing table."""

    half_lives: Float
    size: int
    slots: NDArray[np.int32]  # open addressing, -1 = free
    keys: Keys  # (capacity,)
    times: Float  # (capacity, 3), seconds since the epoch
    sums: Float  # (capacity, 2 * half-lives): clicks, then impressions, decayed to LAST
    dirty: NDArray[np.bool_]  # (capacity,) added to since the last checkpoint

    @classmethod
    def empty(cls, half_lives: tuple[float, ...]) -> "Counters":
        return cls(
            half_lives=np.array(half_lives, dtype=np.float64),
            size=0,
            slots=np.full(64, -1, dtype=np.int32),
            keys=np.zeros(32, dtype=np.int64),
            times=np.full((32, 3), np.nan),
            sums=np.zeros((32, 2 * len(half_lives))),
            dirty=np.zeros(32, dtype=np.bool_),
        )

    def reserve(self, more: int) -> None:
        """Make room for ``more`` new keys."""
        need = self.size + more
        if need > len(self.keys):
            grown = max(need, 2 * len(self.keys))
            extra = grown - len(self.keys)
            self.keys = np.concatenate([self.keys, np.zeros(extra, dtype=np.int64)])
            self.times = np.concatenate([self.times, np.full((extra, 3), np.nan)])
            self.sums = np.concatenate([self.sums, np.zeros((extra, self.sums.shape[1]))])
            self.dirty = np.concatenate([self.dirty, np.zeros(extra, dtype=np.bool_)])
        if 2 * len(self.keys) > len(self.slots):
            table = np.full(1 << int(2 * len(self.keys)).bit_length(), -1, dtype=np.int32)
            _index(table, self.keys, self.size)
            self.slots = table

    def load(self, keys: Keys, times: Float, sums: Float) -> None:
        """Put stored rows in, replacing those of the same key."""
        self.reserve(len(keys))
        self.size = _load(self.slots, self.keys, self.size, self.times, self.sums, keys, times, sums)

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which keys (N,) are there."""
        return np.asarray(_find_all(self.slots, self.keys, keys) >= 0)

    def rows(self, keys: Keys) -> tuple[Float, Float]:
        """Times (N, 3) and sums (N, 2H) of keys that are there."""
        found = _find_all(self.slots, self.keys, keys)
        return self.times[found], self.sums[found]


@dataclass(frozen=True)
class Reads:
    """Rows that read: the sum over a row's keys of what earlier ticks left, decayed to the row's time."""

    keys: Keys  # (N, M), 0 = none
    time: Float  # (N,)
    tick: Int  # (N,), not falling


@dataclass(frozen=True)
class Adds:
    """Rows that add to each of their keys."""

    keys: Keys  # (N, M), 0 = none
    time: Float  # (N,), not falling
    tick: Int  # (N,), not falling
    click: Float  # (N,)
    shown: Float  # (N,)


def fold(counters: Counters, reads: Reads, adds: Adds) -> tuple[Float, Float]:
    """Read and add in order of ticks; return sums (N, 2H) and times (N, 3) as each row of ``reads`` saw them.

    Times are those of the row's first key. Both inputs are sorted by tick.
    """
    for rows in (reads.tick, adds.tick):
        assert not np.any(np.diff(rows) < 0), "rows must be in order of ticks"
    counters.reserve(adds.keys.size)
    sums = np.zeros((len(reads.time), counters.sums.shape[1]))
    times = np.full((len(reads.time), 3), np.nan)
    counters.size = _fold(
        counters.slots,
        counters.keys,
        counters.size,
        counters.times,
        counters.sums,
        counters.dirty,
        counters.half_lives,
        np.ascontiguousarray(reads.keys),
        reads.time,
        reads.tick,
        np.ascontiguousarray(adds.keys),
        adds.time,
        adds.tick,
        adds.click,
        adds.shown,
        sums,
        times,
    )
    return sums, times


@numba.njit(cache=True)
def _home(key, mask):  # type: ignore[no-untyped-def]
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(20)) & np.uint64(mask))


@numba.njit(cache=True)
def _find(slots, keys, key):  # type: ignore[no-untyped-def]
    """The row of a key, or -1 - place in the table where it would go."""
    mask = len(slots) - 1
    place = _home(key, mask)
    while slots[place] >= 0:
        if keys[slots[place]] == key:
            return np.int64(slots[place])
        place = (place + 1) & mask
    return -1 - place


@numba.njit(cache=True)
def _find_all(slots, keys, wanted):  # type: ignore[no-untyped-def]
    found = np.empty(len(wanted), dtype=np.int64)
    for i in range(len(wanted)):
        found[i] = _find(slots, keys, wanted[i])
    return found


@numba.njit(cache=True)
def _index(slots, keys, size):  # type: ignore[no-untyped-def]
    for row in range(size):
        slots[-1 - _find(slots, keys, keys[row])] = row


@numba.njit(cache=True)
def _load(slots, keys, size, times, sums, new_keys, new_times, new_sums):  # type: ignore[no-untyped-def]
    for i in range(len(new_keys)):
        row = _find(slots, keys, new_keys[i])
        if row < 0:
            slots[-1 - row] = size
            keys[size] = new_keys[i]
            row = size
            size += 1
        times[row] = new_times[i]
        sums[row] = new_sums[i]
    return size


@numba.njit(cache=True)
def _fold(  # type: ignore[no-untyped-def]
    slots,
    keys,
    size,
    times,
    sums,
    dirty,
    half_lives,
    read_keys,
    read_time,
    read_tick,
    add_keys,
    add_time,
    add_tick,
    add_click,
    add_shown,
    out_sums,
    out_times,
):
    lives = len(half_lives)
    read = 0
    add = 0
    while True:
        # every read of ticks up to the next add's own
        while read < len(read_time) and (add == len(add_time) or read_tick[read] <= add_tick[add]):
            for m in range(read_keys.shape[1]):
                if read_keys[read, m] == 0:
                    continue
                row = _find(slots, keys, read_keys[read, m])
                if row < 0:
                    continue
                age = max(read_time[read] - times[row, 1], 0.0)
                for h in range(lives):
                    decay = 2.0 ** (-age / half_lives[h])
                    out_sums[read, h] += sums[row, h] * decay
                    out_sums[read, lives + h] += sums[row, lives + h] * decay
                if m == 0:
                    out_times[read, 0] = times[row, 0]
                    out_times[read, 1] = times[row, 1]
                    out_times[read, 2] = times[row, 2]
            read += 1
        if add == len(add_time):
            return size
        tick = add_tick[add]
        while add < len(add_time) and add_tick[add] == tick:
            for m in range(add_keys.shape[1]):
                key = add_keys[add, m]
                if key == 0:
                    continue
                row = _find(slots, keys, key)
                if row < 0:
                    slots[-1 - row] = size
                    keys[size] = key
                    row = size
                    size += 1
                    times[row, 0] = add_time[add]
                else:
                    age = max(add_time[add] - times[row, 1], 0.0)
                    for h in range(lives):
                        decay = 2.0 ** (-age / half_lives[h])
                        sums[row, h] *= decay
                        sums[row, lives + h] *= decay
                dirty[row] = True
                times[row, 1] = add_time[add]
                if add_click[add] > 0:
                    times[row, 2] = add_time[add]
                for h in range(lives):
                    sums[row, h] += add_click[add]
                    sums[row, lives + h] += add_shown[add]
            add += 1
