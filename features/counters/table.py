"""The counters of one family, by key: records in one array, found through an open-addressing hash table.

A record that has faded is forgotten: what its events still weigh at the family's longest half-life has come below
``FADED``. It reads as one that never was, and the next add begins it anew, so its memory can be given back at any time
and nothing that is read depends on when that is done: the table is as large as what happens in some half-lives, however
long the log. Families that give ages (``Family.ages``) forget nothing: they say when a key was first seen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from features.identity.keys import Keys

Float = NDArray[np.float64]
Slots = NDArray[np.uint64]

COUNTER_TIMES = 3
FIRST, LAST, LAST_CLICK = range(COUNTER_TIMES)
"""Columns of the times that are read of a counter: first and last add, last add with a click; NaN where there was
none."""

KEY, LAST_AT, FIRST_AT, CLICK_AT = range(4)
"""Columns of a record before its sums: the key, by its bits; time of the last add; and where the family gives ages, of
the first one, and of the last with a click."""

FADED = 1 / 64
"""Of an impression: beside pseudo-counts of 5 it moves a rate by a third of a percent."""

FILLED = 0.75
"""Of the slots, at most."""


@dataclass
class Counters:
    """The state of one family: a record a key.

    A record lies in one piece, since a look-up in a large table costs what it costs to fetch the memory. A slot has the
    place of its record and half of what the key is hashed to, so that few records of other keys are fetched.
    """

    half_lives: Float
    size: int
    slots: Slots  # (2^n,): upper half of the key's hash, then its record's place + 1; 0 = free
    records: Float  # (capacity, 2 or 4, + 2 * half-lives): key and times, then clicks and impressions, as of LAST_AT
    dirty: NDArray[np.bool_]  # (capacity,) added to since the last checkpoint

    @classmethod
    def empty(cls, half_lives: tuple[float, ...], *, ages: bool) -> "Counters":
        """``ages``: all three times are kept, and nothing is forgotten."""
        return cls(
            half_lives=np.array(half_lives, dtype=np.float64),
            size=0,
            slots=np.zeros(64, dtype=np.uint64),
            records=np.zeros((48, (4 if ages else 2) + 2 * len(half_lives))),
            dirty=np.zeros(48, dtype=np.bool_),
        )

    @property
    def keys(self) -> Keys:
        """(size,)"""
        return self.records[: self.size, KEY].view(np.int64)

    @property
    def ages(self) -> bool:
        return bool(self.records.shape[1] - 2 * len(self.half_lives) > CLICK_AT)

    @property
    def bytes_used(self) -> int:
        """Of memory; what was reserved and never written to takes none."""
        return int(self.slots.nbytes + self.size * (self.records.itemsize * self.records.shape[1] + 1))

    def reserve(self, more: int, at: float) -> None:
        """Have room for ``more`` new keys. Nothing will be read or added as of before ``at``."""
        larger = self.with_room(more, at)
        self.size, self.slots, self.records, self.dirty = larger.size, larger.slots, larger.records, larger.dirty

    def with_room(self, more: int, at: float) -> "Counters":
        """These, where they have room for ``more`` new keys; else a larger copy. Nothing will be read or added as of
        before ``at``."""
        if self.size + more <= len(self.records):
            return self
        kept = self._remembered(self.records[: self.size], at)
        size = self.size if kept is None else int(np.count_nonzero(kept))
        places = len(self.slots)
        while FILLED * places < size + more + size // 8:  # or it would be full again soon
            places *= 2
        slots = np.zeros(places, dtype=np.uint64)
        chosen = slice(0, self.size) if kept is None else np.flatnonzero(kept)
        # memory that is not written to stays unused: no concatenate
        records, dirty = (_moved(rows, chosen, size, int(FILLED * places)) for rows in (self.records, self.dirty))
        _index(slots, records, size)
        return Counters(self.half_lives, size, slots, records, dirty)

    def load(self, records: Float, at: float) -> None:
        """Put stored records in, replacing those of the same key, but for what has faded at ``at``."""
        kept = self._remembered(records, at)
        records = records.copy() if kept is None else records[kept]
        self.reserve(len(records), at)
        self.size = _put(self.slots, self.records, self.dirty, self.size, records, False)

    def bring(self, others: "Counters", keys: Keys) -> None:
        """Have a copy of what others have of these keys (N, M), where there is none here yet; 0 is none."""
        self.reserve(keys.size, 0.0)
        self.size = _bring(self.slots, self.records, self.size, others.slots, others.records, keys)

    @property
    def changed(self) -> Float:
        """The records that were added to."""
        return self.records[: self.size][self.dirty[: self.size]]

    def take(self, changed: Float) -> None:
        """Put records that were added to elsewhere in the place of these; there is room for them."""
        self.size = _put(self.slots, self.records, self.dirty, self.size, changed, True)

    def _remembered(self, records: Float, at: float) -> NDArray[np.bool_] | None:
        """Which have not faded at ``at`` (N,), by half of ``FADED``: rounding does less than that. None: all."""
        if self.ages or not len(records):
            return None
        longest, lives = int(self.half_lives.argmax()), len(self.half_lives)
        first = records.shape[1] - 2 * lives + longest
        age = np.maximum(at - records[:, LAST_AT], 0.0)
        weight = (records[:, first] + records[:, first + lives]) * 2.0 ** (-age / self.half_lives[longest])
        kept = weight >= FADED / 2
        return None if kept.all() else kept


def _moved(rows: NDArray[Any], chosen: slice | NDArray[np.intp], size: int, capacity: int) -> NDArray[Any]:
    """A new array that begins with the ``size`` rows chosen of these."""
    other = np.zeros((capacity, *rows.shape[1:]), dtype=rows.dtype)
    other[:size] = rows[chosen]
    return other


HASHED = np.uint64(0x9E3779B97F4A7C15)
UPPER, LOWER = np.uint64(0xFFFFFFFF00000000), np.uint64(0xFFFFFFFF)


@numba.njit(cache=True)
def find(slots, keys, key):  # type: ignore[no-untyped-def]
    """The record of a key, or -1 - place in the table where it would go. ``keys`` (capacity, W) are the records as
    integers, which begin with their keys; to look at them so takes longer than to find one."""
    mask = len(slots) - 1
    mixed = np.uint64(key) * HASHED
    place = np.int64((mixed >> np.uint64(20)) & np.uint64(mask))
    while slots[place] != np.uint64(0):
        if (slots[place] ^ mixed) & UPPER == np.uint64(0):
            row = np.int64(slots[place] & LOWER) - 1
            if keys[row, KEY] == key:
                return row
        place = (place + 1) & mask
    return -1 - place


@numba.njit(cache=True)
def enter(slots, records, found, key, row):  # type: ignore[no-untyped-def]
    """Let ``row`` be the record of a key that was not ``found``."""
    slots[-1 - found] = ((np.uint64(key) * HASHED) & UPPER) | np.uint64(row + 1)
    records.view(np.int64)[row, KEY] = key


@numba.njit(cache=True, nogil=True)
def _index(slots, records, size):  # type: ignore[no-untyped-def]
    keys = records.view(np.int64)
    for row in range(size):
        enter(slots, records, find(slots, keys, keys[row, KEY]), keys[row, KEY], row)


@numba.njit(cache=True, nogil=True)
def _put(slots, records, dirty, size, new, changed):  # type: ignore[no-untyped-def]
    keys, known = new.view(np.int64), records.view(np.int64)
    for i in range(len(new)):
        row = find(slots, known, keys[i, KEY])
        if row < 0:
            enter(slots, records, row, keys[i, KEY], size)
            row = size
            size += 1
        for column in range(1, new.shape[1]):
            records[row, column] = new[i, column]
        dirty[row] |= changed
    return size


@numba.njit(cache=True, nogil=True)
def _bring(slots, records, size, other_slots, other_records, keys):  # type: ignore[no-untyped-def]
    known, others = records.view(np.int64), other_records.view(np.int64)
    for i in range(keys.shape[0]):
        for m in range(keys.shape[1]):
            found = -1 if keys[i, m] == 0 else find(other_slots, others, keys[i, m])
            row = 0 if found < 0 else find(slots, known, keys[i, m])
            if row < 0:
                enter(slots, records, row, keys[i, m], size)
                records[size] = other_records[found]
                size += 1
    return size
