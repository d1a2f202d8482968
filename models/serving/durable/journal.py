"""Writes what was accepted: impressions with their served rows, and feedback. Many requests share one commit.

An entry is durable once it is committed in PostgreSQL, or, while that is away, on the local disk (``spool``), from
where it follows as soon as the database is back. Both may happen; the log takes each event once.
"""

import base64
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import polars as pl
import psycopg

from features.log import writing as log
from features.log.append_result import ALREADY_THERE, TAKEN
from features.log.dead_letters import DeadLetter, dead_letter
from features.log.partitions import MissingPartitions, ensure_partitions
from features.served import rows as served_rows
from infra.postgres.connections import TRANSIENT
from models.serving.durable.database import AWAY, LEAVE_S, Database, give_up, pause
from models.serving.durable.spool import Spool
from models.serving.telemetry import LOG, Metrics

SOURCE = "serving"
MOST_TOGETHER = 500
"""Entries in one commit."""
ATTEMPTS = 5
"""Of one commit: each of its surfaces may lack partitions, and a deadlock may choose it for its victim."""
LOOK_AGAIN_S = 0.5
"""Between two looks at what waits in files, and at whether the database is still there."""

# What waits for standbys too may stay.
WAIT_FOR_THE_DISK = """
SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'
"""

INSTANT = pl.Datetime("us", "UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Durable = Literal["log", "spool"]


@dataclass(frozen=True)
class Recorded:
    """Where an entry is durable, and what the log said of it, as far as it has been asked."""

    where: Durable
    shown: tuple[str, ...] = ()
    """Of each impression: ``taken``, ``already there``, or why it is a dead letter. Empty: not known yet."""
    said: tuple[str, ...] = ()
    """Of each feedback."""


SPOOLED = Recorded("spool")


@dataclass(frozen=True)
class Shown:
    """An impression as it is logged. Instants are microseconds since 1970, as in ``Said``."""

    impression_id: str
    request_id: str
    user_id: str
    item_id: str
    position: int
    shown_at: int
    model_version: str
    propensity: float
    read_tick: int
    context: str
    """JSON text."""
    schema_version: str
    row: str
    """The served row, in base64."""


@dataclass(frozen=True)
class Said:
    """Feedback as it is logged."""

    impression_id: str
    kind: str
    value: float
    at: int


@dataclass(frozen=True)
class Entry:
    """What one request brings to the log of a surface."""

    surface: str
    shown: tuple[Shown, ...] = ()
    said: tuple[Said, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(entry: dict[str, Any]) -> "Entry":
        return Entry(
            entry["surface"],
            tuple(Shown(**shown) for shown in entry["shown"]),
            tuple(Said(**said) for said in entry["said"]),
        )


@dataclass(frozen=True)
class _Submitted:
    entry: Entry
    durable: "Future[Recorded]"


class Journal:
    """One thread that commits, and one that empties the spool when the database is back."""

    def __init__(self, database: Database, spool: Spool, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._database = database
        self._spool = spool
        self._metrics = metrics
        self._clock = clock
        self._queue: queue.SimpleQueue[_Submitted | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._drainer = threading.Thread(target=self._drain, name="drain", daemon=True)
        self._show_waiting()

    def start(self) -> None:
        self._writer.start()
        self._drainer.start()

    def stop(self) -> None:
        """Return when everything submitted is durable; or when a server that hangs has had ``LEAVE_S``, since then
        the requests have put it into the spool themselves."""
        self._stopping.set()
        self._database.stop_waiting()
        self._queue.put(None)
        for thread in (self._writer, self._drainer):
            if thread.ident is not None:
                thread.join(LEAVE_S)

    def submit(self, entry: Entry) -> "Future[Recorded]":
        """Have an entry committed together with its neighbours. The future tells where it is durable, or raises what
        the log or the disk said."""
        future: Future[Recorded] = Future()
        # A client that goes away must not be able to cancel what its neighbours' commit is about to resolve.
        future.set_running_or_notify_cancel()
        self._queue.put(_Submitted(entry, future))
        return future

    def keep(self, entry: Entry) -> Recorded:
        """Put an entry into the spool now; it is durable when this returns. Raises OSError when the disk is full."""
        self._spool.append([entry.as_json()])
        self._show_waiting()
        return SPOOLED

    # --- the writer -------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        connection: psycopg.Connection | None = None
        while True:
            batch, last = self._next_batch()
            if batch:
                connection = self._make_durable(connection, batch)
            if last:
                break
        if connection is not None:
            connection.close()

    def _next_batch(self) -> tuple[list[_Submitted], bool]:
        """What waits in the queue, at least one entry; and whether the journal is stopping."""
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < MOST_TOGETHER:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _make_durable(
        self, connection: psycopg.Connection | None, batch: list[_Submitted]
    ) -> psycopg.Connection | None:
        if self._database.available:
            try:
                if connection is None or connection.closed:
                    connection = self._connected()
                recorded = self._commit(connection, [submitted.entry for submitted in batch])
                for submitted, done in zip(batch, recorded, strict=True):
                    submitted.durable.set_result(done)
                return connection
            except AWAY as error:
                self._database.lost(error)
                give_up(connection)
                connection = None
            except Exception:
                # One entry that the log cannot take must not take its neighbours down with it.
                LOG.exception("a commit of %d entries failed; each is tried alone", len(batch))
                for submitted in batch:
                    connection = self._make_durable_alone(connection, submitted)
                return connection
        self._keep_all(batch)
        return connection

    def _make_durable_alone(
        self, connection: psycopg.Connection | None, submitted: _Submitted
    ) -> psycopg.Connection | None:
        try:
            if connection is None or connection.closed:
                connection = self._connected()
            (recorded,) = self._commit(connection, [submitted.entry])
            submitted.durable.set_result(recorded)
        except AWAY as error:
            self._database.lost(error)
            give_up(connection)
            connection = None
            self._keep_all([submitted])
        except Exception as error:
            submitted.durable.set_exception(error)
        return connection

    def _keep_all(self, batch: list[_Submitted]) -> None:
        try:
            self._spool.append([submitted.entry.as_json() for submitted in batch])
        except Exception as error:
            LOG.exception("%d entries could not be kept", len(batch))
            for submitted in batch:
                submitted.durable.set_exception(error)
            return
        self._show_waiting()
        for submitted in batch:
            submitted.durable.set_result(SPOOLED)

    def _connected(self, *, patient: bool = False) -> psycopg.Connection:
        """A connection whose commits are on the server's disk when they return, whatever its role or database sets."""
        connection = self._database.connect(autocommit=True, patient=patient)
        connection.execute(WAIT_FOR_THE_DISK)
        return connection

    def _commit(self, connection: psycopg.Connection, entries: Sequence[Entry]) -> list[Recorded]:
        """Commit entries together; what became of each, in their order."""
        by_surface: dict[str, list[int]] = defaultdict(list)
        for place, entry in enumerate(entries):
            by_surface[entry.surface].append(place)
        now = datetime.fromtimestamp(self._clock(), UTC)
        for attempt in range(ATTEMPTS):
            done = dict[int, Recorded]()
            try:
                with connection.transaction():
                    # Always in the same order: two replicas that took the surfaces' locks crosswise would block each
                    # other.
                    for surface in sorted(by_surface):
                        places = by_surface[surface]
                        done |= zip(places, append(connection, surface, [entries[n] for n in places], now), strict=True)
                break
            except MissingPartitions as missing:
                # Only now that no surface is locked: whoever makes one waits for others who do.
                ensure_partitions(connection, missing.days)
            except TRANSIENT:
                if attempt == ATTEMPTS - 1:
                    raise
        else:
            raise RuntimeError(f"the partitions of a commit of {len(entries)} entries were dropped {ATTEMPTS} times")
        self._metrics.commits.inc()
        self._metrics.committed.inc(len(entries))
        for place, recorded in done.items():
            self._count(entries[place].surface, "impression", recorded.shown)
            self._count(entries[place].surface, "feedback", recorded.said)
        return [done[place] for place in range(len(entries))]

    def _count(self, surface: str, event: str, fates: Sequence[str]) -> None:
        """What was not taken: was there already, or is a dead letter."""
        for fate in fates:
            if fate == ALREADY_THERE:
                self._metrics.repeated.labels(surface, event).inc()
            elif fate != TAKEN:
                self._metrics.dead_letters.labels(surface, event).inc()

    # --- the drainer ------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        trouble = pause()
        while not self._stopping.is_set():
            wait_s = LOOK_AGAIN_S
            try:
                if self._database.available:
                    self._spool.adopt()
                if self._spool.waiting or not self._database.available:
                    with self._connected(patient=True) as connection:
                        for segment in self._spool.segments():
                            self._take(connection, segment)
                            trouble.reset()
                    if not self._database.available:
                        LOG.info("the database is back")
                    self._database.found()
                trouble.reset()
            except AWAY as error:
                self._database.lost(error)
                wait_s = trouble.next_s()
                LOG.info("the database is away, and looked for again in %.1f s: %s", wait_s, error)
            except Exception:
                wait_s = trouble.next_s()
                LOG.exception("the spool could not be emptied; it is tried again in %.1f s", wait_s)
            self._show_waiting()
            if self._database.available:
                self._database.wait_until_lost(wait_s)
            else:
                self._stopping.wait(wait_s)

    def _take(self, connection: psycopg.Connection, segment: Path) -> None:
        """Bring a segment's entries into the log, then forget it. Killed in between, it is brought again: no harm."""
        found = self._spool.read(segment)
        entries: list[Entry] = []
        unread = found.damaged
        for entry in found.entries:
            try:
                entries.append(Entry.from_json(entry))
            except (KeyError, TypeError):  # of another version of this program
                unread += 1
        for start in range(0, len(entries), MOST_TOGETHER):
            part = entries[start : start + MOST_TOGETHER]
            try:
                self._commit(connection, part)
            except AWAY:
                raise
            except Exception:
                LOG.exception("the log refused spooled entries; each is tried alone")
                for one in part:
                    self._take_or_bury(connection, one)
        if unread:
            self._metrics.unread.inc(unread)
            aside = self._spool.set_aside(segment)
            LOG.error("%d of the %d entries of %s cannot be read; it is kept", unread, unread + len(entries), aside)
        else:
            self._spool.forget(segment)
        LOG.info("the spool gave the log %d entries", len(entries), extra={"facts": {"entries": len(entries)}})

    def _take_or_bury(self, connection: psycopg.Connection, entry: Entry) -> None:
        try:
            self._commit(connection, [entry])
        except AWAY:
            raise
        except Exception as error:
            letter = DeadLetter(None, f"spooled by serving, refused by the log: {error}", entry.as_json())
            dead_letter(connection, entry.surface, SOURCE, [letter], datetime.fromtimestamp(self._clock(), UTC))
            self._metrics.refused.inc()

    def _show_waiting(self) -> None:
        self._metrics.spooled.set(self._spool.waiting)


def append(connection: psycopg.Connection, surface: str, entries: Sequence[Entry], now: datetime) -> list[Recorded]:
    """Bring entries of one surface into the log, with the rows their impressions were ranked with, in the caller's
    transaction; what became of each entry. What is there already stays as it is."""
    shown = [one for entry in entries for one in entry.shown]
    said = [one for entry in entries for one in entry.said]
    # A clock set back must not turn what was shown a moment ago into an event of the future.
    latest = max([*(one.shown_at for one in shown), *(one.at for one in said)], default=0)
    now = max(now, EPOCH + timedelta(microseconds=latest))
    impressions = pl.DataFrame([asdict(one) for one in shown], schema=_SHOWN) if shown else None
    feedback = pl.DataFrame([asdict(one) for one in said], schema=_SAID) if said else None
    known_at = pl.lit(now, INSTANT).alias("known_at")
    appended = log.append(
        connection,
        surface,
        impressions=None
        if impressions is None
        else impressions.drop("schema_version", "row").with_columns(pl.col("shown_at").cast(INSTANT), known_at),
        feedback=None if feedback is None else feedback.with_columns(pl.col("at").cast(INSTANT), known_at),
        now=now,
        source=SOURCE,
    )
    if appended.dead_letters:
        LOG.error("the log refused %d events of %s; see its dead letters", appended.dead_letters, surface)
    if impressions is not None:
        taken = impressions.filter(appended.impressions == TAKEN)
        packed = [base64.b64decode(row) for row in taken["row"]]
        served_rows.append_packed(
            connection,
            surface,
            taken.select(
                "impression_id",
                pl.col("shown_at").cast(INSTANT),
                "schema_version",
                pl.Series("row", packed, dtype=pl.Binary),
            ),
        )
    of_shown, of_said = iter(appended.impressions.to_list()), iter(appended.feedback.to_list())
    return [
        Recorded("log", tuple(islice(of_shown, len(entry.shown))), tuple(islice(of_said, len(entry.said))))
        for entry in entries
    ]


_SHOWN = {
    "impression_id": pl.String,
    "request_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "shown_at": pl.Int64,
    "model_version": pl.String,
    "propensity": pl.Float64,
    "read_tick": pl.Int64,
    "context": pl.String,
    "schema_version": pl.String,
    "row": pl.String,
}
_SAID = {"impression_id": pl.String, "kind": pl.String, "value": pl.Float64, "at": pl.Int64}
