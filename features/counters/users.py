"""The state of each user: session, counts, last items clicked; exact to the event, never as of a tick.

Events are taken in order of time; at one instant every read comes before any write, so no row reads its own instant.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from features.counters.user_rows import UserRows
from features.identity.keys import Keys

Float = NDArray[np.float64]

USER_NUMBERS = 6
SESSION_START, LAST_SEEN, LAST_CLICK, SESSION_CLICKS, CLICKS, SHOWN = range(USER_NUMBERS)
"""Columns of a user's numbers: three times in seconds since the epoch (NaN: never), three counts."""


@dataclass
class Users:
    """The state of every known user: numbers (capacity, 6), the last items clicked, what is remembered beside them."""

    history: int
    """How many items are remembered, newest first."""

    columns: int = 0
    """R: of how many columns the values are remembered with them."""

    rows: UserRows = field(default_factory=UserRows)
    numbers: Float = field(default_factory=lambda: np.empty((0, USER_NUMBERS)))
    dirty: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    items: Keys = field(init=False)
    remembered: Keys = field(init=False)
    """(capacity, R, history)."""

    def __post_init__(self) -> None:
        self.items = np.zeros((0, self.history), dtype=np.int64)
        self.remembered = np.zeros((0, self.columns, self.history), dtype=np.int64)

    def row_of(self, keys: Keys) -> NDArray[np.int64]:
        """Rows (N,) of users, made where they are new."""
        before, found = len(self.rows), self.rows.of(keys)
        now = len(self.rows)
        if now > len(self.numbers):
            capacity = max(now, 3 * len(self.numbers) // 2, 64)
            # memory that is not written to stays unused: no concatenate
            self.numbers, self.dirty, self.items, self.remembered = (
                _grown(rows, before, capacity) for rows in (self.numbers, self.dirty, self.items, self.remembered)
            )
        self.numbers[before:now, [SESSION_START, LAST_SEEN, LAST_CLICK]] = np.nan
        return found

    @property
    def bytes_used(self) -> int:
        """Of memory."""
        arrays = (self.numbers, self.dirty, self.items, self.remembered)
        return self.rows.bytes_used + len(self.rows) * sum(rows[:1].nbytes for rows in arrays)

    def alone(self, key: int) -> "Users":
        """A copy of one user's state, in its row 0; blank where the user is new."""
        one, row = Users(self.history, self.columns), self.rows.get(key)
        one.row_of(np.array([key]))
        if row is None:
            return one
        names = ("numbers", "dirty", "items", "remembered")
        one.numbers, one.dirty, one.items, one.remembered = (
            getattr(self, name)[row : row + 1].copy() for name in names
        )
        return one

    def some(self, keys: Keys) -> "Users":
        """A copy of the state of these users; blank where one is new. As if none had changed."""
        some = Users(self.history, self.columns)
        distinct = np.unique(keys)
        to = some.row_of(distinct)
        found = np.array([self.rows.get(key, -1) for key in distinct.tolist()], dtype=np.int64)
        known = found >= 0
        some._put(to[known], self, found[known])
        return some

    def take(self, others: "Users") -> None:
        """Put the state of others' users that have changed in the place of this one's."""
        changed = np.flatnonzero(others.dirty[: len(others.rows)])
        rows = self.row_of(others.rows.keys_in_order[changed])
        self._put(rows, others, changed)
        self.dirty[rows] = True

    def _put(self, rows: NDArray[np.int64], others: "Users", theirs: NDArray[np.int64]) -> None:
        self.numbers[rows], self.items[rows] = others.numbers[theirs], others.items[theirs]
        self.remembered[rows] = others.remembered[theirs]

    def put(self, key: int, numbers: Float, items: Keys, remembered: Keys) -> None:
        """Restore one user."""
        row = self.row_of(np.array([key]))[0]
        self.numbers[row], self.items[row], self.remembered[row] = numbers, items, remembered


def _grown(rows: NDArray[Any], size: int, capacity: int) -> NDArray[Any]:
    """A larger array whose first ``size`` rows are these."""
    larger = np.zeros((capacity, *rows.shape[1:]), dtype=rows.dtype)
    larger[:size] = rows[:size]
    return larger


@dataclass(frozen=True)
class UserEvents:
    """Events of users, in order of time. A row is an impression, a click, or neither (a pure read)."""

    user: NDArray[np.int64]  # (N,) rows in Users
    time: Float  # (N,) seconds, not falling
    shown: NDArray[np.bool_]  # (N,)
    click: NDArray[np.bool_]  # (N,)
    item: Keys  # (N,)
    remembered: Keys  # (N, R)


@dataclass(frozen=True)
class UserReads:
    """The state of each row's user just before its own instant."""

    numbers: Float  # (N, 6)
    items: Keys  # (N, history), newest first, 0 = none
    remembered: Keys  # (N, R, history), of the columns beside them


def follow(users: Users, events: UserEvents, session_gap: float) -> UserReads:
    """Read and move the users' state through the events. ``session_gap``: seconds of silence that end a session."""
    assert not np.any(np.diff(events.time) < 0), "events must be in order of time"
    count = len(events.time)
    numbers = np.zeros((count, USER_NUMBERS))
    items = np.zeros((count, users.history), dtype=np.int64)
    remembered = np.zeros((count, users.columns, users.history), dtype=np.int64)
    if count:
        _follow(
            users.numbers,
            users.dirty,
            users.items,
            users.remembered,
            session_gap,
            events.user,
            events.time,
            events.shown,
            events.click,
            events.item,
            events.remembered,
            numbers,
            items,
            remembered,
        )
    return UserReads(numbers, items, remembered)


@numba.njit(cache=True)
def _follow(  # type: ignore[no-untyped-def]
    numbers,
    dirty,
    items,
    remembered,
    session_gap,
    user,
    time,
    shown,
    click,
    item,
    value,
    out_numbers,
    out_items,
    out_remembered,
):
    first = 0
    while first < len(time):
        end = first
        while end < len(time) and time[end] == time[first]:
            row = user[end]
            out_numbers[end] = numbers[row]
            out_items[end] = items[row]
            out_remembered[end] = remembered[row]
            # a session that has gone silent is over, though nothing has been written since
            if not (time[end] - numbers[row, LAST_SEEN] <= session_gap):
                out_numbers[end, SESSION_START] = np.nan
                out_numbers[end, SESSION_CLICKS] = 0.0
            end += 1
        for i in range(first, end):
            if not (shown[i] or click[i]):
                continue
            row = user[i]
            dirty[row] = True
            if not (time[i] - numbers[row, LAST_SEEN] <= session_gap):
                numbers[row, SESSION_START] = time[i]
                numbers[row, SESSION_CLICKS] = 0.0
            numbers[row, LAST_SEEN] = time[i]
            if shown[i]:
                numbers[row, SHOWN] += 1.0
            if click[i]:
                numbers[row, LAST_CLICK] = time[i]
                numbers[row, SESSION_CLICKS] += 1.0
                numbers[row, CLICKS] += 1.0
                for h in range(items.shape[1] - 1, 0, -1):
                    items[row, h] = items[row, h - 1]
                items[row, 0] = item[i]
                for column in range(remembered.shape[1]):
                    for h in range(items.shape[1] - 1, 0, -1):
                        remembered[row, column, h] = remembered[row, column, h - 1]
                    remembered[row, column, 0] = value[i, column]
        first = end
