"""Which row has the state of which user: a dictionary of 64-bit keys in two arrays, at a sixth of its memory."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from features.counters.table import FILLED, Slots, enter, find
from features.identity.keys import Keys


class UserRows(Mapping[int, int]):
    """Rows by the users' keys, in the order in which they came."""

    def __init__(self) -> None:
        self._slots: Slots = np.zeros(8, dtype=np.uint64)
        self._keys: Keys = np.zeros((6, 1), dtype=np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        return iter(self.keys_in_order.tolist())

    def __getitem__(self, key: int) -> int:
        row: int = find(self._slots, self._keys, key)
        if row < 0:
            raise KeyError(key)
        return row

    @property
    def keys_in_order(self) -> Keys:
        """(size,), row by row."""
        return self._keys[: self._size, 0]

    @property
    def bytes_used(self) -> int:
        """Of memory."""
        return self._slots.nbytes + self._size * self._keys.itemsize

    def of(self, keys: Keys) -> NDArray[np.int64]:
        """Rows (N,) of users, given to them where they are new."""
        rows = np.empty(len(keys), dtype=np.int64)
        done = 0
        while True:
            done, self._size = _rows_of(self._slots, self._keys, self._size, keys, done, rows)
            if done == len(keys):
                return rows
            self._grow()

    def _grow(self) -> None:
        places = 2 * len(self._slots)
        larger = np.zeros((int(FILLED * places), 1), dtype=np.int64)
        larger[: self._size] = self._keys[: self._size]
        self._slots, self._keys = np.zeros(places, dtype=np.uint64), larger
        _index(self._slots, self._keys, self._size)


@numba.njit(cache=True)
def _rows_of(slots, known, size, keys, done, rows):  # type: ignore[no-untyped-def]
    """Go on from ``done``; stop where there is no room for a new key."""
    while done < len(keys):
        row = find(slots, known, keys[done])
        if row < 0:
            if size == len(known):
                break
            enter(slots, known, row, keys[done], size)
            row = size
            size += 1
        rows[done] = row
        done += 1
    return done, size


@numba.njit(cache=True)
def _index(slots, known, size):  # type: ignore[no-untyped-def]
    for row in range(size):
        enter(slots, known, find(slots, known, known[row, 0]), known[row, 0], row)
