"""Writing the event log in PostgreSQL: what was shown, and what came of it.

The only code that writes ``impressions``, ``feedback`` and ``event_days``; items and users are written by
:mod:`features.log.entities`, dead letters by :mod:`features.log.dead_letters`, and :mod:`features.log.reading` reads.

:func:`append` takes impressions and feedback, once each, and gives every event its place (``seq``). A place is given
while the surface's advisory lock is held, up to the commit. So places become visible in order, and a reader that
remembers the last one it saw misses nothing. Feedback that comes before its impression waits at place 0, and is placed
with the impression.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import LiteralString

import polars as pl
import psycopg

from features.declare.feedback import CLOCK_SKEW, HORIZON, why_too_early
from features.log.append_result import AppendResult
from features.log.batches import EventBatch, check_feedback, check_impressions, reach
from features.log.dead_letters import DeadLetter, dead_letter, dead_letter_frame
from features.log.outcomes import ACCEPTED, ALREADY_THERE
from features.log.partitions import SKEW, MissingPartitions, ensure_partitions, idle
from features.log.tally import Tally
from infra.postgres.copying import copy_in

PLANNED_FROM = 10_000
"""Rows from which a batch is worth a plan of its own."""


STAGE_EVENTS = """
CREATE TEMP TABLE IF NOT EXISTS staged_impressions (
    ord bigint, impression_id text, request_id text, user_id text, item_id text, "position" integer,
    shown_at timestamptz, known_at timestamptz, model_version text, propensity double precision, read_tick bigint,
    context jsonb, fresh boolean) ON COMMIT DELETE ROWS;
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
WHERE i.surface = %(surface)s AND i.impression_id = s.impression_id AND NOT s.fresh
  AND i.impression_id >= %(first)s AND i.impression_id <= %(last)s
  AND i.shown_at >= %(same_shown_from)s AND i.shown_at <= %(same_shown_to)s
  AND i.shown_at >= s.shown_at - %(horizon)s AND i.shown_at <= s.shown_at + %(horizon)s
RETURNING s.ord, CASE WHEN (i.user_id, i.item_id, i.request_id) = (s.user_id, s.item_id, s.request_id) THEN NULL
    ELSE format('impression_id is that of item %%s for user %%s in request %%s', i.item_id, i.user_id, i.request_id)
    END
"""

# A fresh one can be there as shown at this very instant alone, which is one look into the index. Of a batch that brings
# thousands the planner would rather read the whole day, which grows with the log.
BY_INDEX = "SELECT set_config('enable_hashjoin', %(on)s, true), set_config('enable_mergejoin', %(on)s, true)"

DROP_BROUGHT_AGAIN = """
DELETE FROM staged_impressions s USING impressions i
WHERE i.surface = %(surface)s AND i.impression_id = s.impression_id AND s.fresh
  AND i.shown_at = s.shown_at AND i.shown_at >= %(shown_from)s AND i.shown_at <= %(shown_to)s
RETURNING s.ord, NULL
"""

DROP_KNOWN_FEEDBACK = """
DELETE FROM staged_feedback s USING feedback f
WHERE f.surface = %(surface)s AND f.impression_id = s.impression_id AND f.kind = s.kind
  AND f.impression_id >= %(first)s AND f.impression_id <= %(last)s
  AND f.at >= %(same_feedback_from)s AND f.at <= %(same_feedback_to)s
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

    ``impressions`` has the columns of ``batches.IMPRESSION``, ``feedback`` those of ``batches.FEEDBACK``; those in
    ``batches.OPTIONAL`` may be left out, and a column ``line`` may give the row of a file. ``context`` is the text of a
    JSON object. ``fresh`` says that an impression's id was made up for this showing: it is there as shown at this
    instant, or not at all. ``known_at`` is when the event reached the log, and is taken as no earlier than the event
    itself. A column ``source`` may give rows a source of their own.

    An impression counts once by its ``impression_id``, whatever its other columns; feedback once by ``impression_id``
    and ``kind``: the first wins, and what comes after counts as ``already_there``. That holds within one batch, and for
    impressions shown within ``HORIZON`` of each other; shown farther apart in different batches, two of one id are two.
    Feedback belongs to an impression of its id shown at most ``HORIZON`` before it; it waits where there is none. So
    what an append reads does not grow with the log.

    To the dead letters, as coming from ``source``, goes a row that :mod:`features.log.event_checks` has a reason
    against, an impression under the id of another one, and feedback stamped well before its impression was shown
    (:mod:`features.declare.feedback`); feedback stamped a little before it is stored as of the time it was shown.

    What became of each row is in the result. The surface is locked for other writers until the transaction ends; it
    must not be REPEATABLE READ, which would not see what they wrote before. Raises ValueError when a column is missing
    or has another type. Partitions that the events lack are made before a transaction of its own; in the caller's it
    raises MissingPartitions, whereupon that is rolled back, they are made
    (:func:`features.log.partitions.ensure_partitions`), and it begins anew.
    """
    batches = []
    if impressions is not None:
        batches.append(check_impressions(impressions, now))
    if feedback is not None:
        batches.append(check_feedback(feedback, now))
    alone = idle(connection)
    try:
        return _append(connection, surface, batches, now, source)
    except MissingPartitions as missing:
        if not alone:
            raise
        ensure_partitions(connection, missing.days)
        return _append(connection, surface, batches, now, source)


def _look_ups(batch: EventBatch) -> Iterator[LiteralString]:
    """The queries that drop what of a batch is in the log already."""
    if batch.name == "feedback":
        if batch.good.height:
            yield DROP_KNOWN_FEEDBACK
        return
    fresh = batch.good["fresh"]
    if fresh.any():
        yield DROP_BROUGHT_AGAIN
    if not fresh.all():
        yield DROP_KNOWN_IMPRESSIONS


def _looked_up(
    connection: psycopg.Connection, query: LiteralString, known: Mapping[str, object]
) -> list[tuple[int, str | None]]:
    """The places of the rows that a look-up has dropped, each with the reason against it, if there is any."""
    by_index = query is DROP_BROUGHT_AGAIN
    if by_index:
        connection.execute(BY_INDEX, {"on": "off"})
    # Never prepared: a plan for any bounds would open every partition.
    dropped = connection.execute(query, known, prepare=False).fetchall()
    if by_index:
        connection.execute(BY_INDEX, {"on": "on"})
    return dropped


def _append(
    connection: psycopg.Connection, surface: str, batches: Sequence[EventBatch], now: datetime, source: str
) -> AppendResult:
    outcomes = {batch.name: batch.outcomes for batch in batches}
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
        known |= {"horizon": HORIZON, "skew": SKEW, "clock_skew": CLOCK_SKEW} | reach(batches)
        for batch in batches:
            there = [row for look_up in _look_ups(batch) for row in _looked_up(connection, look_up, known)]
            outcomes[batch.name] = batch.with_outcomes({ord_: reason or ALREADY_THERE for ord_, reason in there})
        if "waiting_from" in known:
            connection.execute(TAKE_WAITING, known, prepare=False)
        early = connection.execute(CLAMP_EARLY, NO_SPAN | known, prepare=False).fetchall()
        waited = []
        for ord_, shown_at, refused, impression_id, kind, value, at, known_at in early:
            if not refused:
                continue
            reason = why_too_early(at, shown_at)
            if ord_ >= 0:
                outcomes["feedback"] = outcomes["feedback"].clone().scatter(ord_, reason)
            else:
                event = {"impression_id": impression_id, "kind": kind, "value": value, "at": at, "known_at": known_at}
                waited.append(DeadLetter(None, reason, event))
        for batch in batches:
            dead += dead_letter_frame(connection, surface, source, batch.refused(outcomes[batch.name]), now)
        dead_letter(connection, surface, source, waited, now)
        connection.execute(GIVE_PLACES, NO_SPAN | known, prepare=False)
        try:
            connection.execute(INSERT_IMPRESSIONS, [surface])
            connection.execute(INSERT_FEEDBACK, [surface])
        except psycopg.errors.CheckViolation as error:
            clamped = {row[1].astimezone(UTC).date() for row in early}
            raise MissingPartitions({*clamped, *(day for batch in batches for day in batch.days)}) from error
        connection.execute(NOTE_DAYS, {"surface": surface})
    taken = sum(int((counted[name] & (outcome == ACCEPTED)).sum()) for name, outcome in outcomes.items())
    there_already = sum(int((counted[name] & (outcome == ALREADY_THERE)).sum()) for name, outcome in outcomes.items())
    none = pl.Series(dtype=pl.String)
    of_impressions, of_feedback = (outcomes.get(name, none) for name in ("impressions", "feedback"))
    refused = pl.concat([of_impressions, of_feedback]).value_counts().iter_rows()
    reasons = {reason: count for reason, count in refused if reason not in (ACCEPTED, ALREADY_THERE)}
    kinds = [kind for batch in batches if batch.name == "feedback" for kind in batch.rows["kind"].to_list()]
    tally = Tally.of(kinds, of_feedback.to_list())
    return AppendResult(
        taken, there_already, dead, reasons, tally=tally, impressions=of_impressions, feedback=of_feedback
    )
