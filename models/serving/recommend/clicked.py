"""What is made of a surface's clicks as they come: what trends, and what is clicked together.

    clicked.take(clicks)
    clicked.settle(items)           # after some clicks: what trends now, in order
    places = clicked.trending(allowed, 100)
    places = clicked.together([last, before], allowed, 50)

Both are counts that decay, kept as if each click were of a fixed moment: a later one counts for more, by 2 to the
half-lives between (forward decay, Cormode et al. 2009), so nothing is touched but what a click is of. Of each item the
counts of ``NEIGHBOURS`` others are kept; where another comes, it takes the place and the count of the least
(Space-Saving, Metwally et al. 2005).
"""

import threading

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from models.serving.follow.catalogue import FIRST_ROOM, Items, Mask, Places
from models.serving.follow.click_memory import Clicks

NEIGHBOURS = 32
"""Others that are counted with an item."""

SESSION = 5
"""Last clicks of a user that another one is counted with, and that candidates are found by."""

MOST_USERS = 100_000
"""Users whose last clicks are in memory; where there are more, all are forgotten: a session is short."""

LONGEST_DECAY = 60.0
"""Half-lives after which all counts are brought to a later moment: float32 holds 2^127."""

NOBODY = -1


class Clicked:
    """One thread takes clicks, any may read."""

    def __init__(self, trending_half_life: float, together_half_life: float, session_gap: float) -> None:
        self._half_lives = trending_half_life, together_half_life
        self._gap = float(session_gap)
        self._since = 0.0
        """The moment that counts are of, seconds since 1970; 0 before the first click."""
        self._counts = np.zeros(FIRST_ROOM)
        self._order: tuple[Places, int] = np.zeros(0, np.int64), 0
        """All items, the most clicked first and of those that nobody clicked the newest, and how many were clicked."""
        self._neighbours = np.full((FIRST_ROOM, NEIGHBOURS), NOBODY, np.int32)
        self._weights = np.zeros((FIRST_ROOM, NEIGHBOURS), np.float32)
        self._users: dict[int, int] = {}
        self._last = np.zeros((0, SESSION), np.int64)
        self._last_at = np.zeros((0, SESSION))
        self._pairing = threading.Lock()
        nothing = np.zeros(0, np.int64)  # it is compiled here, not while requests wait
        _count_pairs(
            *(nothing, nothing, np.zeros(0), np.zeros(0, np.float32)),
            *(self._last, self._last_at, self._gap, self._neighbours, self._weights),
        )

    # --- on the path of a request -----------------------------------------------------------------------------------

    def trending(self, allowed: Mask, most: int) -> Places:
        """At most so many of the allowed, the most clicked first."""
        order, clicked = self._order
        return _first(order[:clicked], allowed, most)

    def all(self, allowed: Mask, most: int) -> Places:
        """The same, and behind them those that nobody clicked, the newest first."""
        order, _ = self._order
        since = np.arange(len(allowed) - 1, len(order) - 1, -1)  # what came since they were put in order
        return _first(np.concatenate([order, since]), allowed, most)

    def together(self, last: list[int], allowed: Mask, most: int) -> Places:
        """At most so many of the allowed, those first that are clicked most together with these, the latest first."""
        with self._pairing:
            some = [place for place in last[:SESSION] if place < len(self._neighbours)]
            near, weights = self._neighbours[some].astype(np.int64), self._weights[some].astype(np.float64)
        weights /= np.arange(1, len(some) + 1)[:, None]
        usable = (near >= 0) & (near < len(allowed))
        usable[usable] = allowed[near[usable]]
        places, at = np.unique(near[usable], return_inverse=True)
        sums = np.bincount(at, weights=weights[usable], minlength=len(places))
        return np.asarray(places[np.argsort(-sums, kind="stable")[:most]])

    # --- following the clicks ---------------------------------------------------------------------------------------

    def take(self, clicks: Clicks) -> None:
        """Count clicks, in the order of the log."""
        if not len(clicks):
            return
        self._since = self._since or float(clicks.times[0])
        latest = float(clicks.times.max())
        if latest - self._since > LONGEST_DECAY * min(self._half_lives):
            self._move(latest)
        of_trend, of_pairs = (np.exp2((clicks.times - self._since) / half_life) for half_life in self._half_lives)
        room = int(clicks.places.max()) + 1
        if room > len(self._counts):
            self._make_room(max(room, 2 * len(self._counts)))
        np.add.at(self._counts, clicks.places, of_trend)
        users = self._rows_of(clicks.users.tolist())
        with self._pairing:
            _count_pairs(
                *(users, clicks.places, clicks.times, of_pairs.astype(np.float32)),
                *(self._last, self._last_at, self._gap, self._neighbours, self._weights),
            )

    def settle(self, items: Items) -> None:
        """What trends now, of all items that are known."""
        counts = np.zeros(len(items))
        common = min(len(items), len(self._counts))
        counts[:common] = self._counts[:common]
        self._order = np.lexsort((-items.arrived_at, -counts)), int((counts > 0).sum())

    def _move(self, to: float) -> None:
        """Bring the counts to a later moment."""
        of_trend, of_pairs = (np.exp2((self._since - to) / half_life) for half_life in self._half_lives)
        self._counts *= of_trend
        with self._pairing:
            self._weights *= np.float32(of_pairs)
        self._since = to

    def _rows_of(self, users: list[int]) -> NDArray[np.int64]:
        if len(self._users) > MOST_USERS:
            self._users.clear()
            self._last, self._last_at = np.zeros((0, SESSION), np.int64), np.zeros((0, SESSION))
        rows = np.array([self._users.setdefault(user, len(self._users)) for user in users], np.int64)
        count = len(self._users)
        if count > len(self._last):
            more = max(count - len(self._last), len(self._last))
            self._last = np.concatenate([self._last, np.full((more, SESSION), NOBODY)])
            self._last_at = np.concatenate([self._last_at, np.full((more, SESSION), -np.inf)])
        return rows

    def _make_room(self, room: int) -> None:
        more = room - len(self._counts)
        self._counts = np.concatenate([self._counts, np.zeros(more)])
        with self._pairing:
            nobody = np.full((more, NEIGHBOURS), NOBODY, np.int32)
            self._neighbours = np.concatenate([self._neighbours, nobody])
            self._weights = np.concatenate([self._weights, np.zeros((more, NEIGHBOURS), np.float32)])


def _first(order: Places, allowed: Mask, most: int) -> Places:
    """The first so many of an order of places that are allowed."""
    end = 8 * most  # mostly the first part has enough
    while True:
        some = order[:end]
        some = some[some < len(allowed)]
        found = some[allowed[some]]
        if len(found) >= most or end >= len(order):
            return found[:most]
        end *= 8


@numba.njit(cache=True, nogil=True)
def _count_pairs(users, places, times, weights, last, last_at, gap, neighbours, counts):  # type: ignore[no-untyped-def]
    """Count each click with the last ones of its user within ``gap`` seconds, and make it the user's last."""
    for i in range(len(users)):
        user, place, time = users[i], places[i], times[i]
        for k in range(last.shape[1]):
            other = last[user, k]
            if other >= 0 and other != place and time - last_at[user, k] <= gap:
                _count(neighbours[place], counts[place], other, weights[i])
                _count(neighbours[other], counts[other], place, weights[i])
        if last[user, 0] != place:
            for k in range(last.shape[1] - 1, 0, -1):
                last[user, k], last_at[user, k] = last[user, k - 1], last_at[user, k - 1]
        last[user, 0], last_at[user, 0] = place, time


@numba.njit(cache=True, nogil=True)
def _count(neighbours, counts, other, weight):  # type: ignore[no-untyped-def]
    least = 0
    for k in range(len(neighbours)):
        if neighbours[k] == other:
            counts[k] += weight
            return
        if counts[k] < counts[least]:
            least = k
    neighbours[least] = other
    counts[least] += weight
