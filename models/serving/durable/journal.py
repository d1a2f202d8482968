"""The journal: makes what the requests bring durable, many requests to one commit.

``service`` submits an entry and waits for its future. One thread takes what has been submitted meanwhile and commits it
to PostgreSQL: impressions and feedback by ``features.log.writing``, the rows that the impressions were ranked with by
``features.served.rows``, from where ``features.feast.store`` joins them into training rows. While the database is away
the entries go to the ``spool`` instead, which ``drain`` empties when it is back. An entry may come by both ways; the
log takes each event once.
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

import polars as pl
import psycopg

from features.log import writing as log
from features.log.outcomes import ACCEPTED, ALREADY_THERE
from features.log.partitions import MissingPartitions, ensure_partitions
from features.served import rows as served_rows
from infra.postgres.connections import TRANSIENT
from models.serving.durable.database import AWAY, Database, close_quietly
from models.serving.durable.entries import SPOOLED, LogEntry, Recorded
from models.serving.durable.spool import Spool
from models.serving.telemetry import LOG, Metrics

SOURCE = "serving"
LARGEST_COMMIT = 500
"""Entries in one commit."""
ATTEMPTS = 5
"""Of one commit: each of its surfaces may lack partitions, and a deadlock may choose it for its victim."""
JOIN_S = 10.0
"""How long the thread is waited for at the end; it may hang with the server."""

# What waits for standbys too may stay.
WAIT_FOR_THE_DISK = """
SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'
"""

INSTANT = pl.Datetime("us", "UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Submitted:
    entry: LogEntry
    durable: "Future[Recorded]"


class Journal:
    """One thread that commits what any may submit."""

    def __init__(self, database: Database, spool: Spool, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._database = database
        self._spool = spool
        self._metrics = metrics
        self._clock = clock
        self._connection: psycopg.Connection | None = None
        self._queue: queue.SimpleQueue[_Submitted | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        metrics.spooled.set_function(lambda: float(spool.waiting))

    def start(self) -> None:
        self._writer.start()

    def stop(self) -> None:
        """Return when everything submitted is durable; or when a server that hangs has had ``JOIN_S``, since then the
        requests have put it into the spool themselves."""
        self._queue.put(None)
        if self._writer.ident is not None:
            self._writer.join(JOIN_S)

    def submit(self, entry: LogEntry) -> "Future[Recorded]":
        """Have an entry committed together with its neighbours. The future has where it is durable, or raises what the
        log or the disk raised."""
        future: Future[Recorded] = Future()
        # A client that goes away must not be able to cancel what its neighbours' commit is about to resolve.
        future.set_running_or_notify_cancel()
        self._queue.put(_Submitted(entry, future))
        return future

    def spool(self, entry: LogEntry) -> Recorded:
        """Put an entry into the spool now; it is durable when this returns. Raises OSError when the disk is full."""
        self._spool.append([entry.to_json()])
        return SPOOLED

    # --- the thread that commits ------------------------------------------------------------------------------------

    def _write(self) -> None:
        last = False
        while not last:
            batch, last = self._next_batch()
            if batch:
                self._make_durable(batch)
        close_quietly(self._connection)

    def _next_batch(self) -> tuple[list[_Submitted], bool]:
        """What waits in the queue, at least one entry; and whether the journal is stopping."""
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < LARGEST_COMMIT:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _make_durable(self, batch: list[_Submitted]) -> None:
        if not self._database.available:
            self._spool_all(batch)
            return
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect_durably(self._database)
            now = datetime.fromtimestamp(self._clock(), UTC)
            recorded = commit(self._connection, [submitted.entry for submitted in batch], now, self._metrics)
        except AWAY as error:
            self._database.mark_away(error)
            close_quietly(self._connection)
            self._connection = None
            self._spool_all(batch)
        except Exception as error:
            LOG.exception("a commit of %d entries failed", len(batch))
            if len(batch) == 1:
                batch[0].durable.set_exception(error)
                return
            # One entry that the log cannot take must not take its neighbours down with it.
            for submitted in batch:
                self._make_durable([submitted])
        else:
            for submitted, done in zip(batch, recorded, strict=True):
                submitted.durable.set_result(done)

    def _spool_all(self, batch: list[_Submitted]) -> None:
        try:
            self._spool.append([submitted.entry.to_json() for submitted in batch])
        except Exception as error:
            LOG.exception("%d entries could not be spooled", len(batch))
            for submitted in batch:
                submitted.durable.set_exception(error)
            return
        for submitted in batch:
            submitted.durable.set_result(SPOOLED)


def connect_durably(database: Database, *, patient: bool = False) -> psycopg.Connection:
    """A connection whose commits are on the server's disk when they return, whatever its role or database sets."""
    connection = database.connect(patient=patient)
    try:
        connection.execute(WAIT_FOR_THE_DISK)
    except BaseException:
        connection.close()
        raise
    return connection


def commit(
    connection: psycopg.Connection, entries: Sequence[LogEntry], now: datetime, metrics: Metrics
) -> list[Recorded]:
    """Commit entries together; what became of each, in their order."""
    by_surface: dict[str, list[int]] = defaultdict(list)
    for place, entry in enumerate(entries):
        by_surface[entry.surface].append(place)
    for attempt in range(ATTEMPTS):
        done = dict[int, Recorded]()
        try:
            with connection.transaction():
                # Always in the same order: two replicas that took the surfaces' locks crosswise would block each other.
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
    metrics.commits.inc()
    metrics.committed.inc(len(entries))
    for place, recorded in done.items():
        _count(metrics, entries[place].surface, "impression", recorded.impressions)
        _count(metrics, entries[place].surface, "feedback", recorded.feedback)
    return [done[place] for place in range(len(entries))]


def append(connection: psycopg.Connection, surface: str, entries: Sequence[LogEntry], now: datetime) -> list[Recorded]:
    """Bring entries of one surface into the log, with the rows their impressions were ranked with, in the caller's
    transaction; what became of each entry. What is there already stays as it is. Raises MissingPartitions."""
    shown = [one for entry in entries for one in entry.impressions]
    given = [one for entry in entries for one in entry.feedback]
    # A clock set back must not turn what was shown a moment ago into an event of the future.
    latest = max([*(one.shown_at for one in shown), *(one.at for one in given)], default=0)
    now = max(now, EPOCH + timedelta(microseconds=latest))
    known_at = pl.lit(now, INSTANT).alias("known_at")
    impressions = pl.DataFrame([asdict(one) for one in shown], schema=_IMPRESSIONS) if shown else None
    feedback = pl.DataFrame([asdict(one) for one in given], schema=_FEEDBACK) if given else None
    if impressions is not None:
        impressions = impressions.with_columns(pl.col("shown_at").cast(INSTANT), known_at)
    if feedback is not None:
        feedback = feedback.with_columns(pl.col("at").cast(INSTANT), known_at)
    result = log.append(
        connection,
        surface,
        impressions=None if impressions is None else impressions.drop("schema_version", "row"),
        feedback=feedback,
        now=now,
        source=SOURCE,
    )
    if result.dead_letters:
        LOG.error("the log refused %d events of %s; see its dead letters", result.dead_letters, surface)
    if impressions is not None:
        taken = impressions.filter((result.impressions == ACCEPTED) & impressions["row"].is_not_null())
        packed = pl.Series("row", [base64.b64decode(row) for row in taken["row"]], dtype=pl.Binary)
        rows = taken.select("impression_id", "shown_at", "schema_version", packed)
        try:
            served_rows.append_packed(connection, surface, rows)
        except psycopg.errors.CheckViolation as error:
            # Whoever makes a day's partitions makes this table's after that of the impressions.
            raise MissingPartitions(rows["shown_at"].dt.date().unique().to_list()) from error
    of_impressions, of_feedback = iter(result.impressions.to_list()), iter(result.feedback.to_list())
    return [
        Recorded(
            "log",
            impressions=tuple(islice(of_impressions, len(entry.impressions))),
            feedback=tuple(islice(of_feedback, len(entry.feedback))),
        )
        for entry in entries
    ]


_IMPRESSIONS = {
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
_FEEDBACK = {"impression_id": pl.String, "kind": pl.String, "value": pl.Float64, "at": pl.Int64}


def _count(metrics: Metrics, surface: str, event: str, outcomes: Sequence[str]) -> None:
    """What was not taken: was there already, or is a dead letter."""
    for outcome in outcomes:
        if outcome == ALREADY_THERE:
            metrics.repeated.labels(surface, event).inc()
        elif outcome != ACCEPTED:
            metrics.dead_letters.labels(surface, event).inc()
