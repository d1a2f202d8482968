"""A team's own views as requests read them: as of now, with the same rule as a training frame."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import psycopg
from numpy.typing import NDArray

from features.declare.views import TeamView, ViewRefused, view_columns
from features.identity.canonical import canonical
from features.team_views.reading import ViewReader, inspect
from infra.backoff import Backoff
from models.serving.durable.database import AWAY, Database, close_quietly
from models.serving.telemetry import LOG


@dataclass(frozen=True)
class ViewValues:
    """The views' values for N candidates."""

    values: NDArray[np.float32]
    """(N, V), NaN where nothing is known."""
    complete: bool
    """False where they could not be read."""


class LiveViews:
    """The views of one surface. Any thread may read; each has a connection of its own."""

    def __init__(self, views: Sequence[TeamView], database: Database) -> None:
        self._views = tuple(views)
        self._width = len(view_columns(views))
        self._database = database
        self._reader: ViewReader | None = None
        self._changing = threading.Lock()
        self._own = threading.local()
        self._connections: list[psycopg.Connection] = []
        self._backoff = Backoff()
        self._not_before = 0.0
        """By the monotonic clock: a view that cannot be read is not tried with every request."""

    @property
    def any(self) -> bool:
        return bool(self._views)

    def read(
        self,
        user: str,
        items: Sequence[str],
        values: Sequence[Mapping[str, object]],
        context: Mapping[str, object],
        at: float,
    ) -> ViewValues:
        """The values of the candidates ``items`` for one user, ``at`` seconds since 1970. ``values``: what the request
        brings of each item."""
        if not self._views:
            return ViewValues(np.zeros((len(items), 0), np.float32), complete=True)
        if self._database.available and time.monotonic() >= self._not_before:
            known: dict[str, Sequence[str | None]] = {name: [canonical(value)] for name, value in context.items()}
            for name in {name for own in values for name in own}:
                known[name] = [canonical(own.get(name, context.get(name))) for own in values]
            known |= {"user_id": [user], "item_id": items}
            connection: psycopg.Connection | None = getattr(self._own, "connection", None)
            try:
                if connection is None or connection.closed:
                    connection = self._own.connection = self._database.connect()
                    with self._changing:
                        self._connections = [*(each for each in self._connections if not each.closed), connection]
                reader = self._reader or self._inspected(connection)
                found = reader.read(connection, known, datetime.fromtimestamp(at, UTC))
                if self._backoff.failures:
                    with self._changing:
                        self._backoff.reset()
                return ViewValues(found, complete=True)
            except AWAY as error:
                self._database.mark_away(error)
            except ViewRefused as error:
                with self._changing:
                    wait_s = self._backoff.next_s()
                    self._not_before = time.monotonic() + wait_s
                LOG.warning("a team's view cannot be read, next attempt in %.1f s: %s", wait_s, error)
            close_quietly(connection)
            self._own.connection = None
        return ViewValues(np.full((len(items), self._width), np.nan, np.float32), complete=False)

    def close(self) -> None:
        """Close the connections; nobody reads any more."""
        for connection in self._connections:
            close_quietly(connection)

    def _inspected(self, connection: psycopg.Connection) -> ViewReader:
        """The reader, made once the tables can be inspected."""
        with self._changing:
            if self._reader is None:
                self._reader = ViewReader(inspect(connection, self._views))
            return self._reader
