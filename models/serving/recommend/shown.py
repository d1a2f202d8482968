"""What was shown lately: how often each item, and what to whom.

shown.count(items, places_and_counts)
shown.add(user, places, now)
shown.to(user, since)           # places
"""

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.serving.follow.catalogue import FIRST_ROOM, Places

MOST_USERS = 50_000
"""Users of whom is remembered what was shown to them; those shown something longest ago go first."""

MOST_SHOWN = 500
"""Items of one user."""


class Shown:
    """One thread follows the log; any may add and read."""

    def __init__(self) -> None:
        self._counts = np.zeros(FIRST_ROOM, np.int64)
        self._of_users: OrderedDict[int, dict[int, float]] = OrderedDict()

    def counts(self, count: int) -> NDArray[np.int64]:
        """[count]; impressions of the items at the first places of the catalogue."""
        counts = self._counts
        if len(counts) >= count:
            return counts[:count]
        return np.concatenate([counts, np.zeros(count - len(counts), np.int64)])

    def count(self, places: Places, counts: NDArray[np.int64]) -> None:
        """So many more impressions of the items at these places, each once."""
        room = int(places.max(initial=-1)) + 1
        if room > len(self._counts):
            self._counts = self.counts(max(room, 2 * len(self._counts)))
        self._counts[places] += counts

    def add(self, user: int, places: Iterable[int], at: float) -> None:
        """Items that were shown to a user, by its key."""
        before = self._of_users.pop(user, {})
        added = {place: max(at, before.get(place, at)) for place in places}
        own = {**{place: when for place, when in before.items() if place not in added}, **added}
        for place in list(own)[: max(0, len(own) - MOST_SHOWN)]:
            del own[place]
        self._of_users[user] = own
        while len(self._of_users) > MOST_USERS:
            self._of_users.popitem(last=False)

    def to(self, user: int, since: float) -> list[int]:
        """Places of what was shown to a user since."""
        return [place for place, at in self._of_users.get(user, {}).items() if at > since]
