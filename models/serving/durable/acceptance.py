"""Where what a request brings is made durable before it is answered.

In the *journal*: segments on the local disk, many requests to one sync, which ``drain`` brings into the log a moment
later. A request waits for the disk alone. Where the disk takes nothing, or takes longer than ``patience_s``, the log
itself takes it.

Or, with ``durable="database"``, in the log: many requests to one commit. The answer then knows what the log made of
each event. While the database is away, or slower than that, the journal takes it. An entry may come by both ways.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Literal

import psycopg

from models.serving.durable.database import AWAY, Database, close_quietly
from models.serving.durable.entries import JOURNALED, LogEntry, Recorded
from models.serving.durable.group_commit import GroupCommit
from models.serving.durable.into_log import commit, connect_durably
from models.serving.durable.segments import Segments
from models.serving.telemetry import Metrics

Durable = Literal["journal", "database"]

MOST_ENTRIES = 500
"""In one commit of requests that wait for it."""

LONG_S = 5.0
"""What has waited in the journal for so long waits for a database that hangs, or cannot keep up."""


class NotDurable(RuntimeError):
    """Neither the database nor the local disk took what was sent."""


class Acceptance:
    """Of one process, between ``start`` and ``stop``."""

    def __init__(
        self,
        durable: Durable,
        segments: Segments,
        database: Database,
        metrics: Metrics,
        clock: Callable[[], float],
        patience_s: float,
    ) -> None:
        self._durable = durable
        self._segments = segments
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._patience_s = patience_s
        self._connection: psycopg.Connection | None = None
        self._journal = GroupCommit("journal", self._write, most=MOST_ENTRIES, shared=(OSError,))
        self._log = GroupCommit("log", self._commit, most=MOST_ENTRIES, shared=AWAY)

    def start(self) -> None:
        self._journal.start()
        self._log.start()

    def stop(self) -> None:
        """Return when everything submitted is durable, or where it hangs has had ``group_commit.JOIN_S``."""
        self._log.stop()
        self._journal.stop()
        close_quietly(self._connection)

    async def take(self, entry: LogEntry) -> Recorded:
        """Wait until an entry is durable. Raises NotDurable."""
        ways = [self._into_journal, self._into_log]
        if self._durable == "database":
            ways.reverse()
        errors = []
        for way in ways:
            try:
                return await way(entry)
            except (OSError, psycopg.Error, ValueError) as error:
                errors.append(error)
        raise NotDurable(f"what was sent could not be stored: {'; '.join(map(str, errors))}") from errors[0]

    def lacks_log(self, recorded: Sequence[Recorded]) -> bool:
        """Whether the log has to wait for what was taken, for longer than it should."""
        if all(one.where == "log" for one in recorded):
            return False
        return self._durable == "database" or not self._database.available or self._segments.age_s > LONG_S

    async def _into_journal(self, entry: LogEntry) -> Recorded:
        return await self._patiently(self._journal.submit(entry))

    async def _into_log(self, entry: LogEntry) -> Recorded:
        """Raises one of ``AWAY`` while the database is away, or answers too slowly; what else the log raised."""
        if not self._database.available:
            raise psycopg.OperationalError("the database is away")
        try:
            return await self._patiently(self._log.submit(entry))
        except TimeoutError:
            self._database.mark_away()
            raise

    async def _patiently(self, submitted: "Future[Recorded]") -> Recorded:
        """Raises TimeoutError where it takes too long; it may come through later, and the log takes each event once."""
        waiting = asyncio.wrap_future(submitted)
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), self._patience_s)
        except TimeoutError as error:
            waiting.add_done_callback(_retrieve_exception)
            raise TimeoutError(f"not stored within {self._patience_s:g} s") from error

    # --- the threads that write -------------------------------------------------------------------------------------

    def _write(self, entries: Sequence[LogEntry]) -> list[Recorded]:
        self._segments.append([entry.encoded() for entry in entries])
        return [JOURNALED] * len(entries)

    def _commit(self, entries: Sequence[LogEntry]) -> list[Recorded]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect_durably(self._database)
            now = datetime.fromtimestamp(self._clock(), UTC)
            return commit(self._connection, entries, now, self._metrics)
        except AWAY as error:
            self._database.mark_away(error)
            close_quietly(self._connection)
            self._connection = None
            raise


def _retrieve_exception(future: "asyncio.Future[Recorded]") -> None:
    """Nobody waits for the future any more: asyncio would complain of an error that nobody saw."""
    if not future.cancelled():
        future.exception()
