"""Following the items of the log: what is put, withdrawn or expires counts in every serving process within a second.

One thread for all surfaces. It is notified of changes, and looks once a second beside that: poolers drop notifications.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg

from features.log.items import CHANNEL, read_changes
from infra.follower import follow
from models.serving.durable.database import Database, backoff, wait_for_notice
from models.serving.follow.catalogue import Catalogue
from models.serving.follow.entity_attributes import EntityAttributes
from models.serving.follow.live_texts import LiveTexts

CHANGES_READ = 20_000
"""Items read at once."""

LONGEST_POLL_S = 1.0


@dataclass(frozen=True)
class FollowedItems:
    """What of one surface is kept up."""

    catalogue: Catalogue
    attributes: EntityAttributes
    texts: LiveTexts | None = None
    """Of a surface that reads them."""


class ItemFollower:
    """Follows the items of these surfaces; one thread follows, any may ask."""

    def __init__(
        self,
        surfaces: Mapping[str, FollowedItems],
        database: Database,
        clock: Callable[[], float],
        follow_s: float,
    ) -> None:
        self._surfaces = surfaces
        self._database = database
        self._clock = clock
        self._poll_s = min(follow_s, LONGEST_POLL_S)
        self._after = dict.fromkeys(surfaces, 0)
        self._followed_at: float | None = None
        self.ready = threading.Event()
        """Set once all items were read, or the database was found to be away."""

    def lag_s(self) -> float:
        """Seconds since the items were last followed; infinite while they never were."""
        return math.inf if self._followed_at is None else max(0.0, self._clock() - self._followed_at)

    def follow(self, stopping: threading.Event) -> None:
        """Follow the items until ``stopping`` is set."""
        follow(
            partial(self._look, stopping),
            opening=self._listening,
            every_s=self._poll_s,
            stopping=stopping,
            failed=self._failed,
            backoff=backoff(),
            wait=partial(wait_for_notice, stopping),
        )

    @contextmanager
    def _listening(self) -> Iterator[psycopg.Connection]:
        with self._database.connection(patient=True) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            yield connection

    def _look(self, stopping: threading.Event, connection: psycopg.Connection) -> None:
        for surface, followed in self._surfaces.items():
            while self._take_in(connection, surface, followed) and not stopping.is_set():
                pass
        self._followed_at = self._clock()
        self.ready.set()

    def _take_in(self, connection: psycopg.Connection, surface: str, followed: FollowedItems) -> bool:
        """Take in the next changes of a surface. True when there may be more."""
        changes = read_changes(connection, surface, self._after[surface], CHANGES_READ)
        if len(changes):
            if followed.texts is not None:  # before the items can be found: their words are indexed as they stand
                followed.texts.take(changes)
            packed = followed.catalogue.take(changes)
            followed.attributes.change(changes, packed)
            self._after[surface] = int(changes["change"][-1])
        return len(changes) == CHANGES_READ

    def _failed(self, error: Exception, wait_s: float) -> None:
        self._database.report("following the items", error, wait_s)
        self.ready.set()
