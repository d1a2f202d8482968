"""The fold: the only definition of a decaying counter.

Given the state of a family and rows of (key, time, click weight, impression weight, tick), each row reads what was
folded in ticks before its own, then adds its weights; weights of zero make a pure read. It is called every couple of
seconds with one tick, with hours of ticks, or with the whole log, and gives the same numbers to the bit: a counter is
a plain recurrence in time, ``s <- s * 2^(-dt / half_life) + w``, done key by key in the order of the rows, so where
the rows are cut does not matter. What has faded (``features.counters.table``) is 0, whether its memory is still there
or not.

    counters = Counters.empty((300.0, 3600.0), ages=True)
    seen = fold(counters, reads, adds)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from features.counters.table import (
    CLICK_AT,
    COUNTER_TIMES,
    FADED,
    FIRST,
    FIRST_AT,
    LAST,
    LAST_AT,
    LAST_CLICK,
    Counters,
    enter,
    find,
)
from features.identity.keys import Keys

Float = NDArray[np.float64]
Int = NDArray[np.int64]

KEYS_AT_ONCE = 256
"""Keys looked up at once."""


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


def fold(counters: Counters, reads: Reads, adds: Adds, *, per_key: bool = False) -> tuple[Float, Float]:
    """Read and add in order of ticks; return sums (N, 2H) and times (N, 3) as each row of ``reads`` saw them.

    ``per_key``: the sums of a row's keys are not added up but side by side, (N, M * 2H). Times are those of the row's
    first key. Both inputs are sorted by tick.
    """
    for tick in (reads.tick, adds.tick):
        assert not np.any(tick[1:] < tick[:-1]), "rows must be in order of ticks"
    sums = np.empty((len(reads.time), 2 * len(counters.half_lives) * (reads.keys.shape[1] if per_key else 1)))
    times = np.empty((len(reads.time), COUNTER_TIMES))
    assert reads.keys.shape[1] == adds.keys.shape[1], "rows that read and rows that add have as many keys"
    found = np.empty(reads.keys.shape, dtype=np.int64)
    read, add = 0, 0
    while True:
        counters.size, read, add = _fold(
            counters.slots,
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
        counters.reserve(adds.keys.shape[1], float(adds.time[add]))


@numba.njit(cache=True)
def _look_ahead(slots, records, keys, first, end, found, touched):  # type: ignore[no-untyped-def]
    """Find the records of rows ``first`` to ``end``, as far as they are there, and touch them: the processor fetches
    many cache lines at once where nothing else is done between."""
    known = records.view(np.int64)
    for i in range(first, end):
        for m in range(keys.shape[1]):
            found[i, m] = -1 if keys[i, m] == 0 else find(slots, known, keys[i, m])
    for i in range(first, end):
        for m in range(keys.shape[1]):
            if found[i, m] >= 0:
                touched[i, 0] = records[found[i, m], LAST_AT] + records[found[i, m], records.shape[1] - 1]


@numba.njit(cache=True)
def _left(records, row, half_lives, longest, at):  # type: ignore[no-untyped-def]
    """What is left of one of its events at ``at``, by the longest half-life; 0 where it has faded."""
    lives = len(half_lives)
    first = records.shape[1] - 2 * lives
    left = 2.0 ** (-max(at - records[row, LAST_AT], 0.0) / half_lives[longest])
    if first <= CLICK_AT and (records[row, first + longest] + records[row, first + lives + longest]) * left < FADED:
        return 0.0
    return left


@numba.njit(cache=True)
def _read(records, half_lives, longest, found, time, i, stride, sums, times):  # type: ignore[no-untyped-def]
    """What row ``i`` reads of the records found for its keys; those of a key lie ``stride`` behind the last one's."""
    lives = len(half_lives)
    first = records.shape[1] - 2 * lives
    for h in range(sums.shape[1]):
        sums[i, h] = 0.0
    for t in range(COUNTER_TIMES):
        times[i, t] = np.nan
    for m in range(found.shape[1]):
        row = found[i, m]
        if row < 0:
            continue
        left = _left(records, row, half_lives, longest, time[i])
        if left == 0.0 and first <= CLICK_AT:
            continue
        age = max(time[i] - records[row, LAST_AT], 0.0)
        for h in range(lives):
            decay = left if h == longest else 2.0 ** (-age / half_lives[h])
            sums[i, m * stride + h] += records[row, first + h] * decay
            sums[i, m * stride + lives + h] += records[row, first + lives + h] * decay
        if m == 0:
            times[i, LAST] = records[row, LAST_AT]
            if first > CLICK_AT:
                times[i, FIRST], times[i, LAST_CLICK] = records[row, FIRST_AT], records[row, CLICK_AT]


@numba.njit(cache=True)
def read_all(slots, records, half_lives, keys, time, sums, times):  # type: ignore[no-untyped-def]
    """What :func:`fold` reads where nothing is added: of everything folded, at ``time`` (N,)."""
    found = np.empty(keys.shape, dtype=np.int64)
    longest = half_lives.argmax()
    stride = 2 * len(half_lives) if sums.shape[1] > 2 * len(half_lives) else 0
    ahead = 0
    for i in range(len(time)):
        if i == ahead:
            ahead = min(i + max(KEYS_AT_ONCE // keys.shape[1], 1), len(time))
            _look_ahead(slots, records, keys, i, ahead, found, sums)
        _read(records, half_lives, longest, found, time, i, stride, sums, times)


@numba.njit(cache=True, nogil=True)
def _fold(  # type: ignore[no-untyped-def]
    slots,
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
    the table is too small for the next one's keys."""
    lives, longest = len(half_lives), half_lives.argmax()
    first_sum = records.shape[1] - 2 * lives
    width = add_keys.shape[1]
    stride = 2 * lives if out_sums.shape[1] > 2 * lives else 0
    ahead, known = read, records.view(np.int64)
    while True:
        first = read
        # every read of ticks up to the next add's own
        while read < len(read_time) and (add == len(add_time) or read_tick[read] <= add_tick[add]):
            if read == ahead:
                ahead = min(read + max(KEYS_AT_ONCE // width, 1), len(read_time))
                _look_ahead(slots, records, read_keys, read, ahead, found, out_sums)
            for m in range(width):
                if found[read, m] < 0 and read_keys[read, m] != 0:  # or it was added since
                    found[read, m] = find(slots, known, read_keys[read, m])
            _read(records, half_lives, longest, found, read_time, read, stride, out_sums, out_times)
            read += 1
        if add == len(add_time):
            return size, read, add
        tick, began = add_tick[add], add_time[add]
        while add < len(add_time) and add_tick[add] == tick:
            if size + width > len(records):
                return size, read, add
            # most rows that add have just read: what was found then need not be looked up again
            same = first < read
            for m in range(width):
                same = same and add_keys[add, m] == read_keys[first, m]
            # and its sums, decayed to now, are what was read, unless this tick has added to them already
            just_read = same and (width == 1 or stride > 0) and read_time[first] == add_time[add]
            for m in range(width):
                key = add_keys[add, m]
                if key == 0:
                    continue
                row = found[first, m] if same else -1
                decayed = just_read and row >= 0
                if row < 0:
                    row = find(slots, known, key)
                if row < 0:
                    enter(slots, records, row, key, size)
                    row = size
                    size += 1
                    if first_sum > CLICK_AT:
                        records[row, FIRST_AT] = add_time[add]
                        records[row, CLICK_AT] = np.nan
                elif decayed and records[row, LAST_AT] < began:
                    for h in range(2 * lives):
                        records[row, first_sum + h] = out_sums[first, m * stride + h]
                else:
                    age = max(add_time[add] - records[row, LAST_AT], 0.0)
                    if age > 0.0:
                        left = _left(records, row, half_lives, longest, add_time[add])
                        faded = left == 0.0
                        for h in range(lives):
                            decay = 0.0 if faded else left if h == longest else 2.0 ** (-age / half_lives[h])
                            records[row, first_sum + h] *= decay
                            records[row, first_sum + lives + h] *= decay
                dirty[row] = True
                records[row, LAST_AT] = add_time[add]
                if first_sum > CLICK_AT and add_click[add] > 0:
                    records[row, CLICK_AT] = add_time[add]
                for h in range(lives):
                    records[row, first_sum + h] += add_click[add]
                    records[row, first_sum + lives + h] += add_shown[add]
            if same:
                first += 1
            add += 1
