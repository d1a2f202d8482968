"""A team's own views as requests read them: as of now, with the same rule as a training frame."""

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import psycopg
from numpy.typing import NDArray

from features.declare.views import TeamView, ViewRefused, view_columns
from features.identity.values import canonical
from features.team_views.reading import ViewReader, inspect
from infra.backoff import Backoff
from models.serving.durable.database import AWAY, Database, give_up
from models.serving.telemetry import LOG


class Views:
    """The views of one surface. Any thread may read; each has a connection of its own."""

    def __init__(self, views: Sequence[TeamView], database: Database) -> None:
        self._views = tuple(views)
        self._width = len(view_columns(views))
        self._database = database
        self._reader: ViewReader | None = None
        self._looking = threading.Lock()
        self._own = threading.local()
        self._opened: list[psycopg.Connection] = []
        self._trouble = Backoff()
        self._not_before = 0.0
        """By the monotonic clock: a view that cannot be read is not asked for with every request."""

    def read(
        self, user: str, items: Sequence[str], context: Mapping[str, object], at: float
    ) -> tuple[NDArray[np.float32], bool]:
        """Values (N, V) of N candidates, NaN where nothing is known; and whether they could be asked for."""
        if not self._views:
            return np.zeros((len(items), 0), np.float32), True
        if self._database.available and time.monotonic() >= self._not_before:
            known: dict[str, Sequence[str | None]] = {name: [canonical(value)] for name, value in context.items()}
            known |= {"user_id": [user], "item_id": items}
            connection = getattr(self._own, "connection", None)
            try:
                if connection is None or connection.closed:
                    connection = self._own.connection = self._database.connect(autocommit=True)
                    with self._looking:
                        self._opened = [*(each for each in self._opened if not each.closed), connection]
                reader = self._reader or self._looked(connection)
                values = reader.read(connection, known, datetime.fromtimestamp(at, UTC))
                if self._trouble.failures:
                    with self._looking:
                        self._trouble.reset()
                return values, True
            except AWAY as error:
                self._database.lost(error)
            except ViewRefused as error:
                with self._looking:
                    wait_s = self._trouble.next_s()
                    self._not_before = time.monotonic() + wait_s
                LOG.warning("a team's view cannot be read, and is not asked for during %.1f s: %s", wait_s, error)
            give_up(connection)
            self._own.connection = None
        return np.full((len(items), self._width), np.nan, np.float32), False

    def close(self) -> None:
        """Close the connections; nobody reads any more."""
        for connection in self._opened:
            give_up(connection)

    def _looked(self, connection: psycopg.Connection) -> ViewReader:
        """The reader, made once the tables can be looked at."""
        with self._looking:
            if self._reader is None:
                self._reader = ViewReader(inspect(connection, self._views))
            return self._reader
