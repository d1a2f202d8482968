"""Fold the log up to where it stands: events in, served rows and state out, position moved, all in one transaction.

The fold's service calls it every couple of seconds; an update, a backtest and a back-fill call it on a whole log.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import psycopg

from features.counters import checkpoint
from features.counters.engine import Engine
from features.declare.features import Features
from features.log.reading import read_events
from features.served import rows as served_rows
from infra.backoff import Backoff
from infra.postgres.connections import connect

MOST_EVENTS_AT_ONCE = 200_000
FIRST_EVENTS = 4_000
"""Events of the first batch; twice as many each time that more are due. Most folds are of a tick, or of an hour."""
LOCK = "SELECT pg_try_advisory_lock(hashtextextended('millrace.fold.' || %s, 0))"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('millrace.fold.' || %s, 0))"

FOLD_PATIENCE_S = 600.0
"""How long an update waits for another process that folds the log."""

Progress = Callable[[int], None]


class Folder:
    """The one process that folds a surface's log at present. Use as a context manager; others wait their turn.

    ``ours`` is False while another process holds the surface.
    """

    def __init__(self, connection: psycopg.Connection, surface: str, declared: Features) -> None:
        assert connection.autocommit, "the folder's lock outlives its transactions"
        self.connection = connection
        self.surface = surface
        self.declared = declared
        self.engine: Engine | None = None
        self.ours = False

    def __enter__(self) -> "Folder":
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        if self.ours and not self.connection.closed:
            self.connection.execute(UNLOCK, [self.surface])
        self.ours = False

    def take(self) -> bool:
        """Try to become the surface's folder."""
        if not self.ours:
            found = self.connection.execute(LOCK, [self.surface]).fetchone()
            self.ours = bool(found and found[0])
            self.engine = None
        return self.ours

    def fold(self, closed_at: datetime, *, progress: Progress | None = None, touched: set[str] | None = None) -> None:
        """Fold every event whose tick is over at ``closed_at``; users whose state changes are added to ``touched``.

        Those of a batch are added before it is committed: one whose commit was not confirmed is there. Raises
        psycopg.Error when the database goes away: the batch under way is rolled back, and the state is loaded from the
        last checkpoint at the next call.
        """
        assert self.ours, f"another process folds {self.surface}"
        if self.engine is None:
            with self.connection.transaction():
                self.engine = self._loaded()
        folded, size = 0, FIRST_EVENTS
        try:
            while True:
                with self.connection.transaction():
                    events, more = whole_ticks(self.connection, self.surface, self.engine, closed_at, size)
                    if not len(events):
                        break
                    keys = served_rows.served_keys(self.connection, self.surface, self.engine.schema)
                    rows = self.engine.fold(events, served_keys=keys)
                    served_rows.write(self.connection, self.surface, self.engine.schema, rows)
                    checkpoint.save(self.connection, self.surface, self.engine)
                    if touched is not None:
                        touched.update(events["user_id"])
                checkpoint.saved(self.engine)
                if progress:
                    progress(len(events))
                folded += len(events)
                if not more:
                    break
                size = min(2 * size, MOST_EVENTS_AT_ONCE)
        except BaseException:
            self.engine = None
            raise
        if folded >= MOST_EVENTS_AT_ONCE:
            self.connection.execute("ANALYZE served")  # a bulk load leaves the planner guessing until autovacuum comes

    def _loaded(self) -> Engine:
        """The engine of the last checkpoint. With another schema version the log is folded again from its start."""
        stood = checkpoint.position(self.connection, self.surface)
        if stood is not None and stood.schema_version != self.declared.schema.version:
            checkpoint.clear(self.connection, self.surface)
        return checkpoint.load(self.connection, self.surface, self.declared)


def whole_ticks(
    connection: psycopg.Connection, surface: str, engine: Engine, closed_at: datetime, batch: int
) -> tuple[pl.DataFrame, bool]:
    """The next events whose ticks are over at ``closed_at``, no tick cut in two; and whether more may follow."""
    while True:
        events = read_events(connection, surface, engine.seq, batch)
        if not len(events):
            return events, False
        full = len(events) == batch
        times = np.maximum(np.maximum.accumulate(events["known_at"].to_numpy()), engine.time)
        ticks = np.floor(times / engine.declared.tick)
        due = int(np.searchsorted(ticks, np.floor(closed_at.timestamp() / engine.declared.tick)))
        more = full and due == batch
        whole = int(np.searchsorted(ticks, ticks[-1])) if more else due
        if whole or not more:
            return events[:whole], more
        batch *= 2


def ensure_folded(url: str, surface: str, declared: Features, through: datetime) -> None:
    """Wait until everything up to ``through`` is folded, folding it here when nobody else does.

    Raises TimeoutError when another process holds the fold and does not get there.
    """
    closed_at = through + timedelta(seconds=declared.tick)
    deadline, pause = time.monotonic() + FOLD_PATIENCE_S, Backoff(first_s=0.2, most_s=5.0)
    while time.monotonic() < deadline:
        with connect(url, autocommit=True) as connection:
            reached = checkpoint.position(connection, surface)
            ours = reached is not None and reached.schema_version == declared.schema.version
            if ours and reached is not None and reached.folded_to >= through:
                return
            with Folder(connection, surface, declared) as folder:
                if folder.ours:
                    folder.fold(closed_at)
                    return
        time.sleep(pause.next_s())
    raise TimeoutError(f"the log of {surface} is not folded to {through} after {FOLD_PATIENCE_S:.0f} s")
