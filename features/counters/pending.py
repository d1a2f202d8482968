"""What users did that is in the log and not folded yet: read with the user's state, never written into it."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

NEVER_CAME_S = 3600.0
"""Seconds after which a pending event that was never folded is taken as one that the log did not accept."""


@dataclass(frozen=True)
class PendingEvent:
    """An impression or a click of one user that is in the log and may not be folded yet."""

    impression_id: str
    shown: bool
    """True: an impression; False: a click."""

    user: int
    item: int
    remembered: tuple[int, ...]
    """Its values of the columns that the user's state remembers."""

    time: float


class PendingEvents:
    """Of every user."""

    def __init__(self) -> None:
        self._of: defaultdict[int, list[PendingEvent]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def add(self, events: Sequence[PendingEvent]) -> None:
        for event in events:
            of_user = self._of[event.user]
            if event not in of_user:
                of_user.append(event)

    def before(self, user: int, at: float) -> list[PendingEvent]:
        """A user's, in order of time."""
        return sorted((event for event in self._of.get(user, ()) if event.time < at), key=lambda event: event.time)

    def forget(self, folded: Collection[tuple[str, bool]], time: float) -> None:
        """Drop those that were ``folded`` (impression, and whether shown), and those that never came by ``time``."""
        for user, events in list(self._of.items()):
            left = [
                event
                for event in events
                if (event.impression_id, event.shown) not in folded and event.time > time - NEVER_CAME_S
            ]
            if left:
                self._of[user] = left
            else:
                del self._of[user]
