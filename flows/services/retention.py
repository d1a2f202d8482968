"""Retention: the log's partitions are made ahead, and dropped once they are old and every champion has trained on them.

``MILLRACE_RETENTION_DAYS`` is how old, counted back from the newest impression of the log: an imported history is as
old as its own events, and a log without new events loses nothing. A partition is dropped only when every event in it
is folded into the features, and every surface's champion has trained beyond it.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

import psycopg

from features.log import partitions
from flows import ledger
from infra.follower import follow, log_failure
from infra.postgres.connections import connect
from models.versions import promotions

log = logging.getLogger("millrace.partitions")

EVERY_S = 3600.0

LOGGED = "SELECT surface, max(day) FROM event_days WHERE events = 'impressions' GROUP BY surface"

FOLDED = "SELECT surface, seq FROM fold_positions"


def upkeep(url: str, days: int | None, stopping: threading.Event, now: Callable[[], datetime]) -> None:
    """Make and drop partitions every hour until ``stopping`` is set. ``days``: the retention; None: nothing is dropped.

    A thread of ``flows.services.fold`` runs it.
    """
    follow(
        lambda connection: make_and_drop(connection, days, now()),
        opening=partial(connect, url, autocommit=True),
        every_s=EVERY_S,
        stopping=stopping,
        failed=partial(log_failure, log, "the upkeep of the partitions"),
    )


def make_and_drop(connection: psycopg.Connection, days: int | None, now: datetime) -> list[str]:
    """Make the partitions of the next days, and drop those past the retention; the names of the latter."""
    partitions.make_ahead(connection, now)
    return [] if days is None else drop_old(connection, timedelta(days=days))


@dataclass(frozen=True)
class Droppable:
    """The partitions that may be dropped: those that end by ``before``, with no event beyond the places ``folded``."""

    before: date
    folded: dict[str, int]


def droppable(connection: psycopg.Connection, retention: timedelta) -> Droppable | None:
    """None where nothing may be dropped: the log is empty, or one of its surfaces has no champion trained on it."""
    newest: dict[str, date] = dict(connection.execute(LOGGED).fetchall())
    if not newest:
        return None
    before = max(newest.values()) - retention
    for surface in newest:
        champion = promotions.current(connection, surface)
        line = None if champion is None else ledger.reached(connection, surface, champion.version)
        if line is None:
            log.info("nothing is dropped: %s has no champion yet, and its first trains on all of the log", surface)
            return None
        before = min(before, line.trained_to.astimezone(UTC).date())
    return Droppable(before, dict(connection.execute(FOLDED).fetchall()))


def drop_old(connection: psycopg.Connection, retention: timedelta) -> list[str]:
    """Drop the partitions past the retention; their names."""
    limit = droppable(connection, retention)
    if limit is None:
        return []
    names, before = [], limit.before
    # Impressions come first: where those stay, what belongs to them stays.
    for table in partitions.TABLES:
        for partition in partitions.existing(connection, table):
            if partition.end > before:
                continue
            try:
                dropped = partitions.drop(connection, partition, limit.folded)
                why = "the features lack some of its events"
            except psycopg.errors.LockNotAvailable:
                dropped, why = False, "it is in use"
            if dropped:
                names.append(partition.name)
                log.info("dropped %s: events of %s up to %s", partition.name, partition.start, partition.end)
            else:
                before = min(before, partition.start)
                log.info("%s is dropped another time: %s", partition.name, why)
    return names
