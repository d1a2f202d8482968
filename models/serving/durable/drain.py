"""Brings what the journal holds into the log, several times a second; and finds out for the whole process whether the
database is there."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import psycopg

from features.log.dead_letters import DeadLetter, dead_letter
from infra.follower import follow
from models.serving.durable.database import AWAY, Database, backoff, close_quietly
from models.serving.durable.entries import LogEntry
from models.serving.durable.into_log import SOURCE, commit, connect_durably, parts
from models.serving.durable.segments import Segments
from models.serving.telemetry import LOG, Metrics

LAST_S = 5.0
"""How long it goes on at the end of the process; what is left then is the next one's."""


@contextmanager
def _connection(database: Database) -> Iterator[psycopg.Connection]:
    connection = connect_durably(database, patient=True)
    try:
        yield connection
    finally:
        close_quietly(connection)


class Drain:
    """Follows the journal and the database's health; one thread runs it."""

    def __init__(
        self, database: Database, segments: Segments, metrics: Metrics, clock: Callable[[], float], every_s: float
    ) -> None:
        self._database = database
        self._segments = segments
        self._metrics = metrics
        self._clock = clock
        self._every_s = every_s

    def follow(self, stopping: threading.Event) -> None:
        """Until ``stopping`` is set; :meth:`Database.wake` ends its wait then. What waits in the end is brought once
        more, where the database is there."""
        follow(
            self._drain,
            opening=partial(_connection, self._database),
            every_s=self._every_s,
            stopping=stopping,
            failed=partial(self._database.report, "emptying the journal"),
            backoff=backoff(),
            wait=lambda _, wait_s: self._database.wait_until_away(wait_s),
        )
        if self._database.available and self._segments.waiting:
            try:
                with _connection(self._database) as connection:
                    self._drain(connection, LAST_S)
            except AWAY as error:
                self._database.mark_away(error)

    def _drain(self, connection: psycopg.Connection, within_s: float = math.inf) -> None:
        until = time.monotonic() + within_s
        self._segments.adopt()
        waiting = self._segments.closed()
        was_available = self._database.available
        if not waiting:
            connection.execute("SELECT")  # is it there
        for segment in waiting:
            if time.monotonic() > until:
                return
            self._bring(connection, segment)
        if not was_available:
            LOG.info("the database is back")
        if waiting or not was_available:  # what it lacks is logged once, until something went well
            self._database.mark_available()

    def _bring(self, connection: psycopg.Connection, segment: Path) -> None:
        """Bring a segment's entries into the log, then remove it. Killed in between, it is brought again: no harm."""
        content = self._segments.read(segment)
        entries: list[LogEntry] = []
        unreadable = content.damaged
        for text in content.entries:
            try:
                entries.append(LogEntry.decoded(text))
            except ValueError:  # of another version of this program
                unreadable += 1
        for part in parts(entries):
            try:
                self._commit(connection, part)
            except AWAY:
                raise
            except Exception:
                LOG.exception("the log refused entries of the journal; each is tried alone")
                for entry in part:
                    self._commit_or_dead_letter(connection, entry)
        if unreadable:
            self._metrics.unread.inc(unreadable)
            aside, total = self._segments.set_aside(segment), unreadable + len(entries)
            LOG.error("%d of the %d entries of %s cannot be read; the file stays", unreadable, total, aside)
        else:
            self._segments.remove(segment)

    def _commit(self, connection: psycopg.Connection, entries: Sequence[LogEntry]) -> None:
        commit(connection, entries, datetime.fromtimestamp(self._clock(), UTC), self._metrics)

    def _commit_or_dead_letter(self, connection: psycopg.Connection, entry: LogEntry) -> None:
        try:
            self._commit(connection, [entry])
        except AWAY:
            raise
        except Exception as error:
            reason = f"accepted by serving, refused by the log: {error}"
            letter = DeadLetter(None, reason, msgspec.to_builtins(entry))
            dead_letter(connection, entry.surface, SOURCE, [letter], datetime.fromtimestamp(self._clock(), UTC))
            self._metrics.refused.inc()
