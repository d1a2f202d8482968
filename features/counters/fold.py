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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from features.identity.keys import Keys

Float = NDArray[np.float64]
Int = NDArray[np.int64]

TIMES = 3
FIRST, LAST, LAST_CLICK = range(TIMES)
"""Columns of a counter's times: first and last add, last add with a click; NaN where there was none."""

AHEAD = 256
"""Keys looked up at once."""


@dataclass
class Counters:
    """The state of one family: a record a key, found through an open-addressing table.

    A record is one stretch of memory, since a look-up in a large table costs what it costs to fetch the memory.
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
            records=np.zeros((48, TIMES + 2 * len(half_lives))),
            dirty=np.zeros(48, dtype=np.bool_),
        )

    @property
    def times(self) -> Float:
        """Seconds since the epoch (capacity, 3): FIRST, LAST and LAST_CLICK."""
        return self.records[:, :TIMES]

    @property
    def sums(self) -> Float:
        """Clicks, then impressions (capacity, 2 * half-lives), decayed to LAST."""
        return self.records[:, TIMES:]

    def reserve(self, more: int) -> None:
        """Make room for ``more`` new keys."""
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

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which keys (N,) are there."""
        return np.asarray(_find_all(self.slots, keys) >= 0)

    def rows(self, keys: Keys) -> tuple[Float, Float]:
        """Times (N, 3) and sums (N, 2H) of keys that are there."""
        found = _find_all(self.slots, keys)
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


def fold(counters: Counters, reads: Reads, adds: Adds, *, each: bool = False) -> tuple[Float, Float]:
    """Read and add in order of ticks; return sums (N, 2H) and times (N, 3) as each row of ``reads`` saw them.

    ``each``: the sums of a row's keys are not added up but side by side, (N, M * 2H). Times are those of the row's
    first key. Both inputs are sorted by tick.
    """
    for tick in (reads.tick, adds.tick):
        assert not np.any(tick[1:] < tick[:-1]), "rows must be in order of ticks"
    sums = np.empty((len(reads.time), 2 * len(counters.half_lives) * (reads.keys.shape[1] if each else 1)))
    times = np.empty((len(reads.time), TIMES))
    assert reads.keys.shape[1] == adds.keys.shape[1], "rows that read and rows that add have as many keys"
    found = np.empty(reads.keys.shape, dtype=np.int64)
    read, add = 0, 0
    while True:
        counters.size, read, add = _fold(
            counters.slots,
            counters.keys,
            counters.size,
            counters.records,
            counters.dirty,
            counters.half_lives,
            reads.keys,
            reads.time,
            reads.tick,
            adds.keys,
            adds.time,
            adds.tick,
            adds.click,
            adds.shown,
            read,
            add,
            found,
            sums,
            times,
        )
        if add == len(adds.time):
            return sums, times
        counters.reserve(adds.keys.shape[1])


def _grown(rows: NDArray[Any], size: int, capacity: int) -> NDArray[Any]:
    """A larger array whose first ``size`` rows are these."""
    larger = np.zeros((capacity, *rows.shape[1:]), dtype=rows.dtype)
    larger[:size] = rows[:size]
    return larger


@numba.njit(cache=True)
def _find(slots, key):  # type: ignore[no-untyped-def]
    """The record of a key, or -1 - place in the table where it would go."""
    mask = len(slots) - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    place = np.int64((mixed >> np.uint64(20)) & np.uint64(mask))
    while slots[place, 0] != 0:
        if slots[place, 0] == key:
            return slots[place, 1]
        place = (place + 1) & mask
    return -1 - place


@numba.njit(cache=True)
def _find_all(slots, wanted):  # type: ignore[no-untyped-def]
    found = np.empty(len(wanted), dtype=np.int64)
    for i in range(len(wanted)):
        found[i] = _find(slots, wanted[i])
    return found


@numba.njit(cache=True)
def _index(slots, keys, size):  # type: ignore[no-untyped-def]
    for row in range(size):
        place = -1 - _find(slots, keys[row])
        slots[place, 0] = keys[row]
        slots[place, 1] = row


@numba.njit(cache=True)
def _load(slots, keys, size, records, new_keys, new_records):  # type: ignore[no-untyped-def]
    for i in range(len(new_keys)):
        row = _find(slots, new_keys[i])
        if row < 0:
            slots[-1 - row, 0] = new_keys[i]
            slots[-1 - row, 1] = size
            keys[size] = new_keys[i]
            row = size
            size += 1
        records[row] = new_records[i]
    return size


@numba.njit(cache=True)
def _look_ahead(slots, records, keys, first, end, found, touched):  # type: ignore[no-untyped-def]
    """Find the records of rows ``first`` to ``end``, as far as they are there, and fetch them: the processor waits for
    many far places of memory at once where nothing else is done between."""
    for i in range(first, end):
        for m in range(keys.shape[1]):
            found[i, m] = -1 if keys[i, m] == 0 else _find(slots, keys[i, m])
    for i in range(first, end):
        for m in range(keys.shape[1]):
            if found[i, m] >= 0:
                touched[i, 0] = records[found[i, m], LAST] + records[found[i, m], records.shape[1] - 1]


@numba.njit(cache=True)
def _fold(  # type: ignore[no-untyped-def]
    slots,
    keys,
    size,
    records,
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
    read,
    add,
    found,
    out_sums,
    out_times,
):
    """Go on from rows ``read`` and ``add``; return the size, and the rows got to: short of the end of the adds when
    there is no room for the next one's keys."""
    lives = len(half_lives)
    many = add_keys.shape[1]
    apart = 2 * lives if out_sums.shape[1] > 2 * lives else 0
    ahead = read
    while True:
        first = read
        # every read of ticks up to the next add's own
        while read < len(read_time) and (add == len(add_time) or read_tick[read] <= add_tick[add]):
            if read == ahead:
                ahead = min(read + max(AHEAD // many, 1), len(read_time))
                _look_ahead(slots, records, read_keys, read, ahead, found, out_sums)
            for h in range(out_sums.shape[1]):
                out_sums[read, h] = 0.0
            for t in range(TIMES):
                out_times[read, t] = np.nan
            for m in range(many):
                if read_keys[read, m] == 0:
                    continue
                row = found[read, m]
                if row < 0:  # or it was added since
                    row = _find(slots, read_keys[read, m])
                    found[read, m] = row
                if row < 0:
                    continue
                age = max(read_time[read] - records[row, LAST], 0.0)
                for h in range(lives):
                    decay = 2.0 ** (-age / half_lives[h])
                    out_sums[read, m * apart + h] += records[row, TIMES + h] * decay
                    out_sums[read, m * apart + lives + h] += records[row, TIMES + lives + h] * decay
                if m == 0:
                    for t in range(TIMES):
                        out_times[read, t] = records[row, t]
            read += 1
        if add == len(add_time):
            return size, read, add
        tick, began = add_tick[add], add_time[add]
        while add < len(add_time) and add_tick[add] == tick:
            if size + many > len(keys):
                return size, read, add
            # most rows that add have just read: what was found then need not be looked up again
            same = first < read
            for m in range(many):
                same = same and add_keys[add, m] == read_keys[first, m]
            # and its sums, decayed to now, are what was read, unless this tick has added to them already
            told = same and (many == 1 or apart > 0) and read_time[first] == add_time[add]
            for m in range(many):
                key = add_keys[add, m]
                if key == 0:
                    continue
                row = found[first, m] if same else -1
                decayed = told and row >= 0
                if row < 0:
                    row = _find(slots, key)
                if row < 0:
                    slots[-1 - row, 0] = key
                    slots[-1 - row, 1] = size
                    keys[size] = key
                    row = size
                    size += 1
                    records[row, FIRST] = add_time[add]
                    records[row, LAST_CLICK] = np.nan
                elif decayed and records[row, LAST] < began:
                    for h in range(2 * lives):
                        records[row, TIMES + h] = out_sums[first, m * apart + h]
                else:
                    age = max(add_time[add] - records[row, LAST], 0.0)
                    if age > 0.0:
                        for h in range(lives):
                            decay = 2.0 ** (-age / half_lives[h])
                            records[row, TIMES + h] *= decay
                            records[row, TIMES + lives + h] *= decay
                dirty[row] = True
                records[row, LAST] = add_time[add]
                if add_click[add] > 0:
                    records[row, LAST_CLICK] = add_time[add]
                for h in range(lives):
                    records[row, TIMES + h] += add_click[add]
                    records[row, TIMES + lives + h] += add_shown[add]
            if same:
                first += 1
            add += 1
