"""Entries into the log in PostgreSQL: impressions and feedback by ``features.log.writing``, the rows that the
impressions were ranked with by ``features.served.rows``, from where ``features.feast.store`` joins them into training
rows. An entry may come more than once; the log takes each event once.

``drain`` brings what the journal holds; ``acceptance`` a request's own, where an answer is to wait for PostgreSQL.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, islice

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray

from features.log import writing as log
from features.log.outcomes import ACCEPTED, ALREADY_THERE
from features.log.partitions import MissingPartitions, ensure_partitions
from features.served import rows as served_rows
from infra.postgres.connections import TRANSIENT
from infra.postgres.copying import INSTANT
from models.serving.durable.database import Database
from models.serving.durable.entries import Feedback, Impressions, LogEntry, Recorded
from models.serving.telemetry import LOG, Metrics

SOURCE = "serving"
MOST_EVENTS = 10_000
"""In one commit, beside what one entry alone holds."""
ATTEMPTS = 5
"""Of one commit: each of its surfaces may lack partitions, and a deadlock may choose it for its victim."""

# What waits for standbys too may stay.
WAIT_FOR_THE_DISK = """
SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'
"""

SHADOW = """
INSERT INTO shadow_scores (canary_id, impression_id, champion, canary)
SELECT s.*
FROM unnest(%s::bigint[], %s::text[], %s::real[], %s::real[]) AS s (canary_id, impression_id, champion, canary)
WHERE EXISTS (SELECT FROM canaries c WHERE c.canary_id = s.canary_id)
ON CONFLICT DO NOTHING
"""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def connect_durably(database: Database, *, patient: bool = False) -> psycopg.Connection:
    """A connection whose commits are on the server's disk when they return, whatever its role or database sets."""
    connection = database.connect(patient=patient)
    try:
        connection.execute(WAIT_FOR_THE_DISK)
    except BaseException:
        connection.close()
        raise
    return connection


def parts(entries: Sequence[LogEntry]) -> Iterator[list[LogEntry]]:
    """The entries in order, as many together as one commit should hold."""
    part: list[LogEntry] = []
    events = 0
    for entry in entries:
        if part and events + entry.events > MOST_EVENTS:
            yield part
            part, events = [], 0
        part.append(entry)
        events += entry.events
    if part:
        yield part


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
    shown = [entry.impressions for entry in entries]
    given = [one for entry in entries for one in entry.feedback]
    # A clock set back must not turn what was shown a moment ago into an event of the future.
    times = chain.from_iterable((*(each.shown_at for each in shown), [one.at for one in given]))
    now = max(now, EPOCH + timedelta(microseconds=max(times, default=0)))
    known_at = pl.lit(now, INSTANT).alias("known_at")
    impressions = _impressions(shown).with_columns(known_at) if any(map(len, shown)) else None
    feedback = _feedback(given).with_columns(known_at) if given else None
    result = log.append(connection, surface, impressions=impressions, feedback=feedback, now=now, source=SOURCE)
    if result.dead_letters:
        LOG.error("the log refused %d events of %s; see its dead letters", result.dead_letters, surface)
    if impressions is not None:
        taken = (result.impressions == ACCEPTED).to_numpy()
        _append_rows(connection, surface, shown, taken)
        _append_shadow(connection, shown, taken)
    of_impressions, of_feedback = iter(result.impressions.to_list()), iter(result.feedback.to_list())
    return [
        Recorded(
            "log",
            impressions=tuple(islice(of_impressions, len(entry.impressions))),
            feedback=tuple(islice(of_feedback, len(entry.feedback))),
        )
        for entry in entries
    ]


def _impressions(shown: Sequence[Impressions]) -> pl.DataFrame:
    """Of all entries, one after the other, with the columns of ``batches.IMPRESSION``."""
    columns: dict[str, list[object]] = {
        name: [*chain.from_iterable(getattr(each, name) for each in shown)] for name in _EACH
    }
    for name in _ALIKE:
        columns[name] = [getattr(each, name) for each in shown for _ in range(len(each))]
    own: list[Sequence[str | None]] = [each.versions or [each.model_version] * len(each) for each in shown]
    columns["model_version"] = [*chain.from_iterable(own)]
    return pl.DataFrame(columns, schema=_EACH | _ALIKE).with_columns(pl.col("shown_at").cast(INSTANT))


def _feedback(given: Sequence[Feedback]) -> pl.DataFrame:
    columns = {name: [getattr(one, name) for one in given] for name in _FEEDBACK}
    return pl.DataFrame(columns, schema=_FEEDBACK).with_columns(pl.col("at").cast(INSTANT))


def _append_rows(
    connection: psycopg.Connection, surface: str, shown: Sequence[Impressions], taken: NDArray[np.bool_]
) -> None:
    """The served rows of the impressions that were ``taken`` (N,), of all entries one after the other."""
    of_version: dict[str, list[tuple[Impressions, NDArray[np.bool_]]]] = defaultdict(list)
    place = 0
    for each in shown:
        own, place = taken[place : place + len(each)], place + len(each)
        if each.schema_version is not None and own.any():
            of_version[each.schema_version].append((each, own))
    for version, several in of_version.items():
        names = [name for each, own in several for name, one in zip(each.impression_id, own, strict=True) if one]
        shown_us = np.concatenate([np.array(each.shown_at, dtype=np.int64)[own] for each, own in several])
        bodies = np.concatenate(
            [np.frombuffer(each.rows, dtype=f"V{len(each.rows) // len(each)}")[own] for each, own in several]
        )
        try:
            served_rows.append_packed(connection, surface, version, names, shown_us, bodies)
        except psycopg.errors.CheckViolation as error:
            # Whoever makes a day's partitions makes this table's after that of the impressions.
            days = {(EPOCH + timedelta(microseconds=int(at))).date() for at in shown_us}
            raise MissingPartitions(days) from error


def _append_shadow(connection: psycopg.Connection, shown: Sequence[Impressions], taken: NDArray[np.bool_]) -> None:
    """What a shadow has scored of the impressions that were ``taken`` (N,), of all entries one after the other."""
    rows, place = list[tuple[int, str, float, float]](), 0
    for each in shown:
        own, place = taken[place : place + len(each)], place + len(each)
        if each.shadow is not None:
            scored = zip(each.impression_id, each.shadow.champion, each.shadow.canary, own, strict=True)
            rows += [(each.shadow.canary_id, name, champion, canary) for name, champion, canary, one in scored if one]
    if rows:
        connection.execute(SHADOW, [list(column) for column in zip(*rows, strict=True)])


_EACH = {
    "impression_id": pl.String,
    "request_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "shown_at": pl.Int64,
    "propensity": pl.Float64,
    "context": pl.String,
}
_ALIKE = {"model_version": pl.String, "read_tick": pl.Int64, "fresh": pl.Boolean}
_FEEDBACK = {"impression_id": pl.String, "kind": pl.String, "value": pl.Float64, "at": pl.Int64}


def _count(metrics: Metrics, surface: str, event: str, outcomes: Sequence[str]) -> None:
    """What was not taken: was there already, or is a dead letter."""
    for outcome in outcomes:
        if outcome == ALREADY_THERE:
            metrics.repeated.labels(surface, event).inc()
        elif outcome != ACCEPTED:
            metrics.dead_letters.labels(surface, event).inc()
