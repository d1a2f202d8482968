"""The event log in PostgreSQL: what was shown, and what came of it.

The only code that writes ``items``, ``impressions``, ``feedback`` and ``dead_letters``. Whoever learns from the log or
folds it asks here:

- :func:`append` takes impressions and feedback, once each, and gives every event its place (``seq``);
- :func:`read_events` reads them in that order, for the fold;
- :func:`read_impressions` reads impressions by the time they were shown, :func:`read_propensities` their propensities.

Labels are the store's (:mod:`features.feast.store`), which gives them with the training frame.

A place is given while the surface's advisory lock is held, up to the commit. So places become visible in order, and a
reader that remembers the last one it saw misses nothing. Feedback that comes before its impression waits at place 0,
and is placed with the impression.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import LiteralString

import polars as pl
import psycopg

from features.declare.feedback import CLOCK_SKEW, HORIZON, why_too_early
from features.identity.event_checks import LARGEST_CONTEXT, LONGEST_CONTEXT, canonical_objects, reasons, unfit
from features.log.append_result import ACCEPTED, ALREADY_THERE, AppendResult
from features.log.dead_letters import DeadLetter, dead_letter, dead_letter_frame
from features.log.items import append_items
from features.log.partitions import SKEW, MissingPartitions, ensure_partitions, idle
from features.log.reading import EVENT, extent, read_events, read_impressions, read_propensities
from infra.postgres.copying import INSTANT, DataType, Schema, copy_in, json_objects

__all__ = [
    "EVENT",
    "FEEDBACK",
    "IMPRESSION",
    "AppendResult",
    "DeadLetter",
    "MissingPartitions",
    "append",
    "append_items",
    "dead_letter",
    "extent",
    "read_events",
    "read_impressions",
    "read_propensities",
]

IMPRESSION: Schema = {
    "impression_id": pl.String,
    "request_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "shown_at": INSTANT,
    "known_at": INSTANT,
    "model_version": pl.String,
    "propensity": pl.Float64,
    "read_tick": pl.Int64,
    "context": pl.String,
}
FEEDBACK: Schema = {
    "impression_id": pl.String,
    "kind": pl.String,
    "value": pl.Float64,
    "at": INSTANT,
    "known_at": INSTANT,
    "counted": pl.Boolean,
}
"""``counted`` is false for feedback that no row of its own told of, such as the click of an imported impression."""

OPTIONAL = {"position", "model_version", "propensity", "read_tick", "context", "counted"}

PLANNED_FROM = 10_000
"""Rows from which a batch is worth a plan of its own."""


STAGE_EVENTS = """
CREATE TEMP TABLE IF NOT EXISTS staged_impressions (
    ord bigint, impression_id text, request_id text, user_id text, item_id text, "position" integer,
    shown_at timestamptz, known_at timestamptz, model_version text, propensity double precision, read_tick bigint,
    context jsonb) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_feedback (
    ord bigint, impression_id text, kind text, value double precision, at timestamptz, known_at timestamptz,
    counted boolean) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS staged_places (stream integer, ord bigint, seq bigint) ON COMMIT DELETE ROWS;
TRUNCATE staged_impressions, staged_feedback, staged_places
"""

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('millrace.log.' || %s, 0))"

# Ids that were given in order lie together in the index; with their bounds a bulk look-up reads that part only.
BOUNDS = """
SELECT coalesce(min(impression_id), '') AS first, coalesce(max(impression_id), '') AS last
FROM (SELECT impression_id FROM staged_impressions UNION ALL SELECT impression_id FROM staged_feedback) staged
"""

# Every look-up is bounded in time twice: by each row's own time, which is what it means; and by those of the batch, as
# values that the planner sees, so that the partitions of that time alone are opened and locked.

# One id names one impression: the same id of another user, item or request is another impression under a wrong name.
DROP_KNOWN_IMPRESSIONS = """
DELETE FROM staged_impressions s USING impressions i
WHERE i.surface = %(surface)s AND i.impression_id = s.impression_id
  AND i.impression_id >= %(first)s AND i.impression_id <= %(last)s
  AND i.shown_at >= %(same_shown_from)s AND i.shown_at <= %(same_shown_to)s
  AND i.shown_at >= s.shown_at - %(horizon)s AND i.shown_at <= s.shown_at + %(horizon)s
RETURNING s.ord, CASE WHEN (i.user_id, i.item_id, i.request_id) = (s.user_id, s.item_id, s.request_id) THEN NULL
    ELSE format('impression_id is that of item %%s for user %%s in request %%s', i.item_id, i.user_id, i.request_id)
    END
"""

DROP_KNOWN_FEEDBACK = """
DELETE FROM staged_feedback s USING feedback f
WHERE f.surface = %(surface)s AND f.impression_id = s.impression_id AND f.kind = s.kind
  AND f.impression_id >= %(first)s AND f.impression_id <= %(last)s
  AND f.at >= %(same_said_from)s AND f.at <= %(same_said_to)s
  AND f.at >= s.at - %(horizon)s - %(skew)s AND f.at <= s.at + %(horizon)s + %(skew)s
RETURNING s.ord, NULL
"""

TAKE_WAITING = """
WITH taken AS (
    DELETE FROM feedback f USING staged_impressions s
    WHERE f.surface = %(surface)s AND f.seq = 0 AND f.impression_id = s.impression_id
      AND f.at >= %(waiting_from)s AND f.at <= %(waiting_to)s
      AND f.at >= s.shown_at - %(horizon)s AND f.at <= s.shown_at + %(horizon)s
    RETURNING f.impression_id, f.kind, f.value, f.at, f.known_at)
INSERT INTO staged_feedback (ord, impression_id, kind, value, at, known_at)
SELECT -row_number() OVER (ORDER BY known_at, impression_id, kind), impression_id, kind, value, at, known_at FROM taken
"""

# Feedback, with that which waited, whose impression is known by now and was shown after it (features.declare.feedback).
# Where there is one of its id shown before it, it is that one's.
CLAMP_EARLY = """
WITH shown AS (
    SELECT impression_id, shown_at FROM staged_impressions
    UNION ALL
    SELECT i.impression_id, i.shown_at FROM impressions i
    WHERE i.surface = %(surface)s AND i.impression_id >= %(first)s AND i.impression_id <= %(last)s
      AND i.shown_at >= %(about_from)s AND i.shown_at <= %(ahead_to)s
      AND i.impression_id IN (SELECT impression_id FROM staged_feedback)
), early AS (
    SELECT f.ord, min(shown.shown_at) AS shown_at, f.at >= min(shown.shown_at) - %(clock_skew)s AS within
    FROM staged_feedback f JOIN shown USING (impression_id)
    WHERE shown.shown_at >= f.at - %(horizon)s AND shown.shown_at <= f.at + %(horizon)s
    GROUP BY f.ord, f.at HAVING f.at < min(shown.shown_at)
), clamped AS (
    UPDATE staged_feedback f SET at = early.shown_at, known_at = greatest(f.known_at, early.shown_at)
    FROM early WHERE early.ord = f.ord AND early.within
    RETURNING f.ord, f.at AS shown_at, false AS refused
), refused AS (
    DELETE FROM staged_feedback f USING early WHERE early.ord = f.ord AND NOT early.within
    RETURNING f.ord, early.shown_at, true AS refused, f.impression_id, f.kind, f.value, f.at, f.known_at
)
SELECT ord, shown_at, refused, impression_id, kind, value, at, known_at FROM refused
UNION ALL SELECT ord, shown_at, refused, NULL, NULL, NULL, NULL, NULL FROM clamped
"""

# Feedback known before its impression takes its place with it, after it; feedback without one gets none yet.
GIVE_PLACES = """
WITH of_staged AS (
    SELECT f.ord, greatest(f.known_at, s.known_at) AS known_at
    FROM staged_feedback f JOIN staged_impressions s USING (impression_id)
    WHERE f.at >= s.shown_at - %(skew)s AND f.at <= s.shown_at + %(horizon)s
)
INSERT INTO staged_places (stream, ord, seq)
SELECT stream, ord, nextval('event_seq') FROM (
    SELECT 0 AS stream, ord, known_at FROM staged_impressions
    UNION ALL
    SELECT 1, ord, known_at FROM of_staged
    UNION ALL
    SELECT 1, f.ord, f.known_at FROM staged_feedback f
    WHERE NOT EXISTS (SELECT FROM of_staged s WHERE s.ord = f.ord)
      AND EXISTS (SELECT FROM impressions i WHERE i.surface = %(surface)s AND i.impression_id = f.impression_id
                  AND i.impression_id >= %(first)s AND i.impression_id <= %(last)s
                  AND i.shown_at >= %(about_from)s AND i.shown_at <= %(about_to)s
                  AND i.shown_at >= f.at - %(horizon)s AND i.shown_at <= f.at + %(skew)s)
    ORDER BY known_at, stream, ord) events
"""

INSERT_IMPRESSIONS = """
INSERT INTO impressions (surface, impression_id, request_id, user_id, item_id, position, shown_at, known_at,
    model_version, propensity, read_tick, context, seq)
SELECT %s, s.impression_id, s.request_id, s.user_id, s.item_id, s.position, s.shown_at, s.known_at,
    s.model_version, s.propensity, s.read_tick, jsonb_strip_nulls(coalesce(s.context, '{}')), p.seq
FROM staged_impressions s JOIN staged_places p ON p.stream = 0 AND p.ord = s.ord ORDER BY p.seq
"""

INSERT_FEEDBACK = """
INSERT INTO feedback (surface, impression_id, kind, value, at, known_at, seq)
SELECT %s, s.impression_id, s.kind, s.value, s.at, s.known_at, coalesce(p.seq, 0)
FROM staged_feedback s LEFT JOIN staged_places p ON p.stream = 1 AND p.ord = s.ord ORDER BY p.seq
"""

NOTE_DAYS = """
INSERT INTO event_days AS d (surface, events, day, first_seq, last_seq)
SELECT %(surface)s, events, day, min(seq), max(seq) FROM (
    SELECT 'impressions' AS events, (s.shown_at AT TIME ZONE 'UTC')::date AS day, p.seq
    FROM staged_impressions s JOIN staged_places p ON p.stream = 0 AND p.ord = s.ord
    UNION ALL
    SELECT 'feedback', (s.at AT TIME ZONE 'UTC')::date, p.seq
    FROM staged_feedback s JOIN staged_places p ON p.stream = 1 AND p.ord = s.ord) placed
GROUP BY events, day
ON CONFLICT (surface, events, day) DO UPDATE
    SET first_seq = least(d.first_seq, EXCLUDED.first_seq), last_seq = greatest(d.last_seq, EXCLUDED.last_seq)
"""


# Bounds for where there is no feedback: of nulls the planner makes nothing, and opens every partition.
LAST, FIRST = datetime(9999, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)
NO_SPAN = {"about_from": LAST, "about_to": FIRST, "ahead_to": FIRST}


def append(
    connection: psycopg.Connection,
    surface: str,
    *,
    impressions: pl.DataFrame | None,
    feedback: pl.DataFrame | None,
    now: datetime,
    source: str,
) -> AppendResult:
    """Append events to the log of ``surface``, in a transaction of its own or the caller's.

    ``impressions`` has the columns of ``IMPRESSION``, ``feedback`` those of ``FEEDBACK``; those in ``OPTIONAL`` may be
    left out, and a column ``line`` may give the row of a file. ``context`` is the text of a JSON object. ``known_at``
    is when the log learned of an event, and is taken as no earlier than the event itself. A column ``source`` may give
    rows a source of their own.

    An impression counts once by its ``impression_id``, whatever else it says; feedback once by ``impression_id`` and
    ``kind``: the first wins, and what comes after counts as ``already_there``. That holds within one batch, and for
    impressions shown within ``HORIZON`` of each other; shown farther apart in different batches, two of one id are two.
    Feedback belongs to an impression of its id shown at most ``HORIZON`` before it; it waits where there is none. So
    what an append looks at does not grow with the log.

    To the dead letters, as coming from ``source``, goes a row that :mod:`features.identity.event_checks` has a reason
    against, an impression under the id of another one, and feedback stamped well before its impression was shown
    (:mod:`features.declare.feedback`); feedback stamped a little before it is written down as happening at the showing.

    What became of each row is in the account. The surface is locked for other writers until the transaction ends; it
    must not be REPEATABLE READ, which would not see what they wrote before. Raises ValueError when a column is missing
    or has another type. Partitions that the events lack are made before a transaction of its own; in the caller's it
    raises MissingPartitions, whereupon that is rolled back, they are made
    (:func:`features.log.partitions.ensure_partitions`), and it begins anew.
    """
    batches = []
    if impressions is not None:
        batches.append(_checked("impressions", impressions, IMPRESSION, ["impression_id"], now))
    if feedback is not None:
        batches.append(_checked("feedback", feedback, FEEDBACK, ["impression_id", "kind"], now))
    alone = idle(connection)
    try:
        return _append(connection, surface, batches, now, source)
    except MissingPartitions as missing:
        if not alone:
            raise
        ensure_partitions(connection, missing.days)
        return _append(connection, surface, batches, now, source)


def _append(
    connection: psycopg.Connection, surface: str, batches: "Sequence[_Batch]", now: datetime, source: str
) -> AppendResult:
    fates = {batch.name: batch.fates for batch in batches}
    counted = {batch.name: batch.counted for batch in batches}
    dead = 0
    with connection.transaction():
        connection.execute(LOCK, [surface])
        connection.execute(STAGE_EVENTS)
        for batch in batches:
            copy_in(connection, f"staged_{batch.name}", batch.good)
        # A plan made for a few rows is a bad one for a hundred thousand, so those are counted first.
        if sum(batch.good.height for batch in batches) > PLANNED_FROM:
            connection.execute("ANALYZE staged_impressions (impression_id), staged_feedback (impression_id)")
        first, last = connection.execute(BOUNDS).fetchone() or ("", "")
        known = {"surface": surface, "first": first, "last": last}
        known |= {"horizon": HORIZON, "skew": SKEW, "clock_skew": CLOCK_SKEW} | _reach(batches)
        for batch in batches:
            look_up = DROP_KNOWN_IMPRESSIONS if batch.name == "impressions" else DROP_KNOWN_FEEDBACK
            # Never prepared: a plan for any bounds would open every partition.
            there = connection.execute(look_up, known, prepare=False).fetchall() if batch.good.height else []
            fates[batch.name] = _decided(batch, {ord_: reason or ALREADY_THERE for ord_, reason in there})
        if "waiting_from" in known:
            connection.execute(TAKE_WAITING, known, prepare=False)
        early = connection.execute(CLAMP_EARLY, NO_SPAN | known, prepare=False).fetchall()
        waited = []
        for ord_, shown_at, refused, impression_id, kind, value, at, known_at in early:
            if not refused:
                continue
            reason = why_too_early(at, shown_at)
            if ord_ >= 0:
                fates["feedback"] = fates["feedback"].clone().scatter(ord_, reason)
            else:
                event = {"impression_id": impression_id, "kind": kind, "value": value, "at": at, "known_at": known_at}
                waited.append(DeadLetter(None, reason, event))
        for batch in batches:
            letters = _letters(batch, fates[batch.name]).with_columns(pl.col("source").fill_null(source))
            for (name,), some in letters.group_by("source", maintain_order=True):
                dead += dead_letter_frame(connection, surface, str(name), some, now)
        dead_letter(connection, surface, source, waited, now)
        connection.execute(GIVE_PLACES, NO_SPAN | known, prepare=False)
        try:
            connection.execute(INSERT_IMPRESSIONS, [surface])
            connection.execute(INSERT_FEEDBACK, [surface])
        except psycopg.errors.CheckViolation as error:
            clamped = {row[1].astimezone(UTC).date() for row in early}
            raise MissingPartitions({*clamped, *(day for batch in batches for day in _days(batch))}) from error
        connection.execute(NOTE_DAYS, {"surface": surface})
    taken = sum(int((counted[name] & (fate == ACCEPTED)).sum()) for name, fate in fates.items())
    there_already = sum(int((counted[name] & (fate == ALREADY_THERE)).sum()) for name, fate in fates.items())
    return AppendResult(taken, there_already, dead, **fates)


def _reach(batches: "Sequence[_Batch]") -> dict[str, datetime]:
    """How far back and ahead of a batch's own times the log is looked into, of each look-up its first and last time."""
    found: dict[str, datetime] = {}
    for batch in batches:
        times = batch.good[batch.time]
        first, last = times.min(), times.max()
        if not isinstance(first, datetime) or not isinstance(last, datetime):
            continue
        if batch.name == "impressions":
            found |= {"same_shown_from": first - HORIZON, "same_shown_to": last + HORIZON}
            found |= {"waiting_from": first - HORIZON, "waiting_to": last + HORIZON}
        else:
            found |= {"same_said_from": first - HORIZON - SKEW, "same_said_to": last + HORIZON + SKEW}
            found |= {"about_from": first - HORIZON, "about_to": last + SKEW, "ahead_to": last + HORIZON}
    return found


def _days(batch: "_Batch") -> list[date]:
    return batch.good[batch.time].dt.date().unique().to_list()


@dataclass(frozen=True)
class _Batch:
    """Events of one kind, checked."""

    name: LiteralString
    time: str
    """The column that says when they happened."""
    rows: pl.DataFrame
    """As given, typed, with ``line`` and ``source``; N of them."""
    good: pl.DataFrame
    """Rows that the log can take, once each; ``ord`` is their place among the N."""
    fates: pl.Series
    """What is known of each of the N: ``taken``, ``already there`` as its key stood in an earlier row, or a reason."""
    counted: pl.Series
    """Which of the N count."""


def _checked(name: LiteralString, frame: pl.DataFrame, schema: Schema, key: list[str], now: datetime) -> _Batch:
    for column in schema:
        if column not in frame.columns and column not in OPTIONAL:
            raise ValueError(f"{name} lack the column {column!r}; they need {sorted(schema.keys() - OPTIONAL)}")
        if column in frame.columns and schema[column] == INSTANT and not _has_zone(frame.schema[column]):
            raise ValueError(f"{name}: {column!r} is {frame.schema[column]}; make it a time with a zone")
    line = pl.col("line") if "line" in frame.columns else pl.lit(None)
    rows = frame.select(
        *(pl.col(c).cast(t) if c in frame.columns else pl.lit(None, t).alias(c) for c, t in schema.items()),
        line.cast(pl.Int64).alias("line"),
        pl.col("source") if "source" in frame.columns else pl.lit(None, pl.String).alias("source"),
    )
    typed = rows.with_row_index("ord")
    bad = [reason for c in schema for reason in (unfit(c, now) if c in OPTIONAL else reasons(c, now))]
    if "context" in schema:
        objects = canonical_objects(typed["context"], "context", LONGEST_CONTEXT, LARGEST_CONTEXT)
        typed = typed.with_columns(objects["text"].alias("context"), objects["reason"].alias("unfit_context"))
        bad.append(pl.col("unfit_context"))
    happened = "shown_at" if "shown_at" in schema else "at"
    judged = typed.with_columns(
        pl.coalesce(*bad).alias("reason"), pl.max_horizontal("known_at", happened).alias("known_at")
    )
    alike = [*key, *(["user_id", "item_id", "request_id"] if name == "impressions" else [])]
    fit = judged.filter(pl.col("reason").is_null())
    first = fit.filter(pl.struct(key).is_first_distinct())
    repeated = fit.filter(~pl.struct(key).is_first_distinct()).select("ord", *alike)
    repeated = repeated.join(first.select(*alike, pl.lit(ALREADY_THERE).alias("again")), on=alike, how="left")
    repeated = repeated.select("ord", pl.col("again").fill_null(f"{key[0]} is that of an earlier row"))
    fates = judged.join(repeated, on="ord", how="left", maintain_order="left").select(
        pl.coalesce("reason", "again", pl.lit(ACCEPTED))
    )
    counted = rows["counted"].fill_null(value=True) if "counted" in schema else pl.repeat(True, len(rows), eager=True)
    return _Batch(name, happened, rows, first.select("ord", *schema), fates.to_series(), counted)


def _decided(batch: _Batch, found: dict[int, str]) -> pl.Series:
    """What became of a batch's rows, after the log was looked at: the fate of those found there, by their place."""
    return batch.fates.clone().scatter(list(found), list(found.values())) if found else batch.fates


def _letters(batch: _Batch, fates: pl.Series) -> pl.DataFrame:
    """The rows that cannot be taken, as dead letters."""
    refused = batch.rows.with_columns(fates.alias("reason")).filter(~pl.col("reason").is_in([ACCEPTED, ALREADY_THERE]))
    columns = [column for column in batch.rows.columns if column not in ("counted", "line", "source")]
    return refused.select("line", "source", "reason", json_objects(refused, columns).alias("event"))


def _has_zone(dtype: DataType) -> bool:
    return isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
