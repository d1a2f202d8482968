"""Brings the spool's entries into the log as soon as the database is back, which it finds out for the whole process."""

import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg

from features.log.dead_letters import DeadLetter, dead_letter
from infra.follower import follow
from models.serving.durable.database import AWAY, Database, backoff
from models.serving.durable.entries import LogEntry
from models.serving.durable.journal import LARGEST_COMMIT, SOURCE, commit, connect_durably
from models.serving.durable.spool import Spool
from models.serving.telemetry import LOG, Metrics

LOOK_AGAIN_S = 0.5
"""Between two looks at what waits in files, and at whether the database is still there."""


class Drain:
    """Follows the spool and the database's health; one thread runs it."""

    def __init__(self, database: Database, spool: Spool, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._database = database
        self._spool = spool
        self._metrics = metrics
        self._clock = clock

    def follow(self, stopping: threading.Event) -> None:
        """Until ``stopping`` is set; :meth:`Database.wake` ends its wait then."""
        follow(
            lambda _: self._drain(),
            opening=nullcontext,  # mostly there is nothing to bring, and no connection is held for it
            every_s=LOOK_AGAIN_S,
            stopping=stopping,
            failed=partial(self._database.report, "emptying the spool"),
            backoff=backoff(),
            wait=lambda _, wait_s: self._database.wait_until_away(wait_s),
        )

    def _drain(self) -> None:
        was_available = self._database.available
        if was_available:
            self._spool.adopt()
        if self._spool.waiting or not was_available:
            with closing(connect_durably(self._database, patient=True)) as connection:
                for segment in self._spool.segments():
                    self._bring(connection, segment)
            if not was_available:
                LOG.info("the database is back")
            self._database.mark_available()

    def _bring(self, connection: psycopg.Connection, segment: Path) -> None:
        """Bring a segment's entries into the log, then remove it. Killed in between, it is brought again: no harm."""
        content = self._spool.read(segment)
        entries: list[LogEntry] = []
        unreadable = content.damaged
        for text in content.entries:
            try:
                entries.append(LogEntry.from_json(text))
            except ValueError:  # of another version of this program
                unreadable += 1
        for start in range(0, len(entries), LARGEST_COMMIT):
            part = entries[start : start + LARGEST_COMMIT]
            try:
                self._commit(connection, part)
            except AWAY:
                raise
            except Exception:
                LOG.exception("the log refused spooled entries; each is tried alone")
                for entry in part:
                    self._commit_or_dead_letter(connection, entry)
        if unreadable:
            self._metrics.unread.inc(unreadable)
            aside, total = self._spool.set_aside(segment), unreadable + len(entries)
            LOG.error("%d of the %d entries of %s cannot be read; the file stays", unreadable, total, aside)
        else:
            self._spool.remove(segment)
        LOG.info("the spool gave the log %d entries", len(entries), extra={"facts": {"entries": len(entries)}})

    def _commit(self, connection: psycopg.Connection, entries: list[LogEntry]) -> None:
        commit(connection, entries, datetime.fromtimestamp(self._clock(), UTC), self._metrics)

    def _commit_or_dead_letter(self, connection: psycopg.Connection, entry: LogEntry) -> None:
        try:
            self._commit(connection, [entry])
        except AWAY:
            raise
        except Exception as error:
            letter = DeadLetter(None, f"spooled by serving, refused by the log: {error}", asdict(entry))
            dead_letter(connection, entry.surface, SOURCE, [letter], datetime.fromtimestamp(self._clock(), UTC))
            self._metrics.refused.inc()
