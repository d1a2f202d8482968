"""What the log keeps: partitions are made ahead, and whole ones dropped once they are old and have been learned.

``MILLRACE_RETENTION_DAYS`` says how old, counted back from the newest impression of the log: an imported history is as
old as it says, and a log that has stood still loses nothing. A partition goes only when every event in it is folded
into the features, and every surface's champion has learned beyond it.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import psycopg

from features.log import partitions
from flows import ledger
from infra.backoff import Backoff
from infra.postgres.connections import connect, explain
from models.versions import promotions

log = logging.getLogger("millrace.partitions")

EVERY_S = 3600.0

LOGGED = "SELECT surface, max(day) FROM event_days WHERE events = 'impressions' GROUP BY surface"

FOLDED = "SELECT surface, seq FROM fold_positions"


def keep(url: str, days: int | None, stopping: threading.Event, now: Callable[[], datetime]) -> None:
    """Look after the partitions until told to stop. ``days``: how many are kept; None: all."""
    trouble, wait_s = Backoff(), 0.0
    while not stopping.wait(wait_s):
        try:
            with connect(url, autocommit=True) as connection:
                look_after(connection, days, now())
            trouble.reset()
            wait_s = EVERY_S
        except psycopg.Error as error:
            wait_s = trouble.next_s()
            log.warning("the partitions could not be looked after, again in %.1f s: %s", wait_s, explain(error))


def look_after(connection: psycopg.Connection, days: int | None, now: datetime) -> list[str]:
    """Make what is lacking ahead, and drop what is no longer kept; the names of the partitions dropped."""
    partitions.make_ahead(connection, now)
    return [] if days is None else drop_old(connection, timedelta(days=days))


@dataclass(frozen=True)
class Bound:
    """What may go: partitions that end by ``before``, with no event beyond the places ``folded``."""

    before: date
    folded: dict[str, int]


def bound(connection: psycopg.Connection, kept: timedelta) -> Bound | None:
    """None where nothing may go: the log is empty, or one of its surfaces has no champion that has learned from it."""
    newest: dict[str, date] = dict(connection.execute(LOGGED).fetchall())
    if not newest:
        return None
    before = max(newest.values()) - kept
    for surface in newest:
        champion = promotions.current(connection, surface)
        line = None if champion is None else ledger.reached(connection, surface, champion.version)
        if line is None:
            log.info("nothing is dropped: %s has no champion yet, and its first learns from all of the log", surface)
            return None
        before = min(before, line.trained_to.astimezone(UTC).date())
    return Bound(before, dict(connection.execute(FOLDED).fetchall()))


def drop_old(connection: psycopg.Connection, kept: timedelta) -> list[str]:
    """Drop the partitions that the log no longer keeps; their names."""
    limit = bound(connection, kept)
    if limit is None:
        return []
    dropped, before = [], limit.before
    # Impressions come first: where those stay, what belongs to them stays.
    for table in partitions.TABLES:
        for partition in partitions.existing(connection, table):
            if partition.end > before:
                continue
            try:
                gone, why = partitions.drop(connection, partition, limit.folded), "the features lack some of its events"
            except psycopg.errors.LockNotAvailable:
                gone, why = False, "it is in use"
            if gone:
                dropped.append(partition.name)
                log.info("dropped %s: events of %s up to %s", partition.name, partition.start, partition.end)
            else:
                before = min(before, partition.start)
                log.info("%s is dropped another time: %s", partition.name, why)
    return dropped
