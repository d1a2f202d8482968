"""What users did that is in the log and not folded yet: read with the user's state, never written into it."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.identity.keys import Keys

NEVER_CAME_S = 3600.0
"""Seconds after which a pending event that was never folded is taken as one that the log did not accept."""


@dataclass(frozen=True, eq=False)
class Moment:
    """What one user did at one instant: N impressions, as of one request, or N clicks."""

    names: Sequence[str]
    """(N,) ids of the impressions."""

    shown: bool
    """True: impressions; False: clicks."""

    user: int
    items: Keys  # (N,)
    remembered: Keys
    """(N, R): their values of the columns that the user's state remembers."""

    time: float

    def __len__(self) -> int:
        return len(self.names)

    def only(self, places: Sequence[int] | NDArray[np.intp]) -> "Moment":
        """These of them."""
        at = np.asarray(places, dtype=np.intp)
        names = [self.names[place] for place in at]
        return Moment(names, self.shown, self.user, self.items[at], self.remembered[at], self.time)


@dataclass(frozen=True, eq=False)
class UserPending:
    """The pending events of one user (N,), in order of time."""

    time: NDArray[np.float64]
    shown: NDArray[np.bool_]
    items: Keys
    remembered: Keys  # (N, R)


@dataclass(eq=False)
class _Held:
    """A moment, some of which may be folded."""

    moment: Moment
    left: NDArray[np.bool_]
    """(N,)"""


class PendingEvents:
    """Of every user, each once."""

    def __init__(self, columns: int) -> None:
        """``columns``: R, how many the users' state remembers."""
        self._columns = columns
        self._of: defaultdict[int, list[_Held]] = defaultdict(list)
        self._places: dict[bool, dict[str, tuple[_Held, int]]] = {True: {}, False: {}}
        """Of impressions, and of clicks, by name: where they are held."""

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def add(self, moment: Moment) -> None:
        places = self._places[moment.shown]
        new = [place for place, name in enumerate(moment.names) if name not in places]
        if len(new) < len(moment):
            moment = moment.only(new)
        if len(moment):
            held = _Held(moment, np.ones(len(moment), dtype=np.bool_))
            self._of[moment.user].append(held)
            places.update((name, (held, place)) for place, name in enumerate(moment.names))

    def moments(self) -> Iterator[Moment]:
        """All that is pending."""
        for of_user in self._of.values():
            for held in of_user:
                yield held.moment if held.left.all() else held.moment.only(np.flatnonzero(held.left))

    def before(self, user: int, at: float) -> UserPending:
        """A user's of before ``at``."""
        some = sorted((held for held in self._of.get(user, ()) if held.moment.time < at), key=lambda h: h.moment.time)
        counts = [int(held.left.sum()) for held in some]
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros((0, self._columns), dtype=np.int64)
        return UserPending(
            time=np.repeat([held.moment.time for held in some], counts).astype(np.float64),
            shown=np.repeat([held.moment.shown for held in some], counts).astype(np.bool_),
            items=np.concatenate([none, *(held.moment.items[held.left] for held in some)]),
            remembered=np.concatenate([nothing, *(held.moment.remembered[held.left] for held in some)]),
        )

    def forget(self, shown: Collection[str], clicked: Collection[str], time: float) -> None:
        """Drop the impressions and the clicks of these names, and what never came by ``time``."""
        for kind, names in ((True, shown), (False, clicked)):
            for name in names:
                found = self._places[kind].pop(name, None)
                if found is not None:
                    held, row = found
                    held.left[row] = False
        oldest = time - NEVER_CAME_S
        for user, some in list(self._of.items()):
            for held in some:
                if held.moment.time <= oldest:
                    for place in np.flatnonzero(held.left).tolist():
                        del self._places[held.moment.shown][held.moment.names[place]]
                    held.left[:] = False
            left = [held for held in some if held.left.any()]
            if left:
                self._of[user] = left
            else:
                del self._of[user]
