"""Reading the event log: in the order of its places for the fold, by the time shown for training and checks.

- :func:`read_events` gives events in order of their places, for the fold;
- :func:`read_logged` says which of some events have a place up to one;
- :func:`read_impressions` gives impressions by the time they were shown, :func:`read_propensities` their propensities.

Labels come with the training frame (:mod:`features.feast.store`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl
import psycopg

from features.declare.feedback import HORIZON
from features.log.partitions import SKEW
from infra.postgres.copying import INSTANT, Schema, copy_out

EVENT: Schema = {
    "seq": pl.Int64,
    "kind": pl.String,
    "impression_id": pl.String,
    "request_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "attributes": pl.String,
    "user_attributes": pl.String,
    "context": pl.String,
    "shown_at": pl.Float64,
    "at": pl.Float64,
    "known_at": pl.Float64,
    "value": pl.Float64,
    "read_tick": pl.Int64,
    "live": pl.Boolean,
}

OF_IMPRESSION = ["impression_id", "request_id", "user_id", "item_id", "context", "shown_at", "read_tick", "live"]

RAW_EVENT: Schema = {key: EVENT[key] for key in EVENT if not key.endswith("attributes")}

# date_part gives a float at once; extract would go through numeric, at three times the cost.
OF_SHOWN = """
SELECT seq, 'impression', impression_id, request_id, user_id, item_id, context, date_part('epoch', shown_at),
    date_part('epoch', shown_at), date_part('epoch', known_at), NULL, read_tick, model_version IS NOT NULL
FROM impressions WHERE surface = %s
"""

# One statement, for one view of the log: with two, an event committed between them would be passed over.
BETWEEN = (
    OF_SHOWN
    + """AND seq > %s AND seq <= %s AND shown_at >= %s AND shown_at < %s
UNION ALL
SELECT seq, kind, impression_id, NULL, NULL, NULL, NULL, NULL, date_part('epoch', at), date_part('epoch', known_at),
    value, NULL, NULL
FROM feedback WHERE surface = %s AND seq > %s AND seq <= %s AND at >= %s AND at < %s
"""
)

SHOWN = OF_SHOWN + "AND impression_id = ANY(%s) AND shown_at >= %s AND shown_at <= %s"

BEYOND = 2**63 - 1
"""A place that no event reaches."""

EVENT_DAYS = """
SELECT events, min(day), max(day) FROM event_days
WHERE surface = %s AND last_seq > %s AND first_seq <= %s GROUP BY events
"""

OF_ITEMS = "SELECT item_id, attributes FROM items WHERE surface = %s AND item_id = ANY(%s)"
OF_USERS = "SELECT user_id, attributes FROM users WHERE surface = %s AND user_id = ANY(%s)"


def read_events(connection: psycopg.Connection, surface: str, after_seq: int, limit: int) -> pl.DataFrame:
    """The next ``limit`` events of the log after place ``after_seq``, in order; fewer only at its end.

    Columns as ``EVENT``: ``kind`` is ``'impression'`` or the feedback's kind; ``shown_at``, ``at`` and ``known_at`` are
    seconds since the epoch; ``attributes`` (of the item), ``user_attributes`` (null when the log knows none) and
    ``context`` are JSON texts; ``live``: a model of ours ranked the impression. A feedback row has its impression's
    columns, and is known no earlier than it. Of an impression, ``at`` is ``shown_at`` and ``value`` is null.
    """
    with connection.transaction():
        newest = connection.execute("SELECT last_value FROM event_seq").fetchone()
        last = newest[0] if newest else 0
        pieces: list[pl.DataFrame] = []
        found, start, width = 0, after_seq, limit
        while found < limit and start < last:
            piece = _events_between(connection, surface, start, start + width)
            pieces.append(piece)
            found += piece.height
            start += width
            width *= 4  # places also go to other surfaces, and are lost with a rolled-back transaction
        if not found:
            return pl.DataFrame(schema=EVENT)
        return _with_attributes(connection, surface, pl.concat(pieces).head(limit))


def _with_attributes(connection: psycopg.Connection, surface: str, events: pl.DataFrame) -> pl.DataFrame:
    """Events with what the log knows of their items and users, columns as ``EVENT``."""
    for query, key, column in ((OF_ITEMS, "item_id", "attributes"), (OF_USERS, "user_id", "user_attributes")):
        wanted = [surface, events[key].unique().to_list()]
        found = copy_out(connection, query, wanted, {key: pl.String, column: pl.String})
        events = events.join(found, on=key, how="left", maintain_order="left")
    return events.select(*EVENT)


def _events_between(connection: psycopg.Connection, surface: str, after: int, to: int) -> pl.DataFrame:
    """Events with places in ``(after, to]``, in order, without the attributes of their items."""
    days = _days(connection, surface, after, to)
    while True:
        parameters = [value for table in days for value in (surface, after, to, table.start, table.end)]
        events = copy_out(connection, BETWEEN, parameters, RAW_EVENT)
        # An event of another day may have come between the two queries; whoever read past it would miss it.
        read, days = days, _days(connection, surface, after, to)
        if all(now.start >= then.start and now.end <= then.end for now, then in zip(days, read, strict=True)):
            break
    shown = events.filter(pl.col("shown_at").is_not_null())
    feedback = events.filter(pl.col("shown_at").is_null()).drop(OF_IMPRESSION[1:])
    found = _with_impressions(feedback, shown)
    earlier = feedback.join(found, on="seq", how="anti")
    if earlier.height:
        at = earlier["at"].to_numpy()
        first, last = (datetime.fromtimestamp(float(moment), UTC) for moment in (at.min(), at.max()))
        wanted = [surface, earlier["impression_id"].unique().to_list(), first - HORIZON - SLACK, last + SKEW + SLACK]
        found = pl.concat([found, _with_impressions(earlier, copy_out(connection, SHOWN, wanted, RAW_EVENT))])
    return pl.concat([shown, found]).sort("seq")


SLACK = timedelta(milliseconds=1)
"""More than what seconds since 1970 lose as a float; the log itself has decided what belongs together."""


def _with_impressions(feedback: pl.DataFrame, shown: pl.DataFrame) -> pl.DataFrame:
    """Feedback with its impression's columns: of those of its id within reach, the last that came before it."""
    renamed = {"known_at": "shown_known_at", "seq": "shown_seq"}
    joined = feedback.join(shown.select(*OF_IMPRESSION, *renamed).rename(renamed), on="impression_id").filter(
        pl.col("shown_seq") < pl.col("seq"),
        pl.col("shown_at") >= pl.col("at") - (HORIZON + SLACK).total_seconds(),
        pl.col("shown_at") <= pl.col("at") + (SKEW + SLACK).total_seconds(),
    )
    return (
        joined.sort("shown_seq")
        .unique("seq", keep="last")
        .with_columns(pl.max_horizontal("known_at", "shown_known_at").alias("known_at"))
        .select(shown.columns)
    )


@dataclass(frozen=True)
class _Days:
    """A half-open span of time, of whole days."""

    start: datetime
    end: datetime


NO_DAYS = _Days(datetime(9999, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC))
"""Holds no time, and lies within any other."""


def _days(connection: psycopg.Connection, surface: str, after: int, to: int) -> list[_Days]:
    """The days that hold the impressions, and those that hold the feedback, of places in ``(after, to]``."""
    rows = connection.execute(EVENT_DAYS, [surface, after, to]).fetchall()
    found = {events: _Days(_midnight(first), _midnight(last) + timedelta(days=1)) for events, first, last in rows}
    return [found.get(events, NO_DAYS) for events in ("impressions", "feedback")]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


FIRST_SHOWN = "SELECT min(shown_at) FROM impressions WHERE surface = %s AND shown_at >= %s AND shown_at < %s"
LAST = "SELECT max(shown_at) FROM impressions WHERE surface = %s AND shown_at >= %s AND shown_at < %s"


def extent(connection: psycopg.Connection, surface: str) -> tuple[datetime, datetime] | None:
    """When the first and the last impression were shown; None when there is none."""
    days, _ = _days(connection, surface, -1, BEYOND)
    if days == NO_DAYS:
        return None
    day = timedelta(days=1)
    first = connection.execute(FIRST_SHOWN, [surface, days.start, days.start + day], prepare=False).fetchone()
    last = connection.execute(LAST, [surface, days.end - day, days.end], prepare=False).fetchone()
    assert first is not None, "an aggregate has one row"
    assert last is not None, "an aggregate has one row"
    return first[0], last[0]


LOGGED = """
SELECT impression_id, 'impression' FROM impressions
WHERE surface = %s AND impression_id = ANY(%s) AND shown_at >= %s AND shown_at <= %s AND seq <= %s
UNION ALL
SELECT impression_id, kind FROM feedback
WHERE surface = %s AND impression_id = ANY(%s) AND at >= %s AND at <= %s AND seq > 0 AND seq <= %s
"""


def read_logged(
    connection: psycopg.Connection, surface: str, impression_ids: Sequence[str], times: tuple[float, float], to_seq: int
) -> set[tuple[str, str]]:
    """Which events of these impressions have a place up to ``to_seq``: impression and kind, as ``EVENT`` has them.

    ``times``: the first and the last of what is known of them, in seconds since 1970.
    """
    first, last = (datetime.fromtimestamp(moment, UTC) for moment in times)
    wanted = [surface, list(impression_ids), first - HORIZON - SLACK, last + SKEW + SLACK, to_seq]
    return set(connection.execute(LOGGED, wanted + wanted).fetchall())


def read_impressions(connection: psycopg.Connection, surface: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Impressions shown in ``(start, end]`` as events, columns as ``EVENT``, in the order of their places."""
    query = OF_SHOWN + "AND shown_at > %s AND shown_at <= %s"
    shown = copy_out(connection, query, [surface, start, end], RAW_EVENT).sort("seq")
    return _with_attributes(connection, surface, shown)


SHOWINGS = """
SELECT impression_id, position, propensity FROM impressions WHERE surface = %s AND shown_at > %s AND shown_at <= %s
"""


def read_showings(connection: psycopg.Connection, surface: str, start: datetime, end: datetime) -> pl.DataFrame:
    """How impressions were shown in ``(start, end]``: ``impression_id``, ``position`` and ``propensity``, null where
    none was logged."""
    schema: Schema = {"impression_id": pl.String, "position": pl.Int32, "propensity": pl.Float64}
    return copy_out(connection, SHOWINGS, [surface, start, end], schema)


PROPENSITIES = """
SELECT impression_id, propensity FROM impressions
WHERE surface = %s AND shown_at > %s AND shown_at <= %s AND propensity IS NOT NULL
"""


def read_propensities(connection: psycopg.Connection, surface: str, start: datetime, end: datetime) -> pl.DataFrame:
    """``impression_id`` and ``propensity`` of the impressions shown in ``(start, end]`` that have one."""
    schema: Schema = {"impression_id": pl.String, "propensity": pl.Float64}
    return copy_out(connection, PROPENSITIES, [surface, start, end], schema)


def first_feedback(
    connection: psycopg.Connection, surface: str, kind: str, start: datetime, end: datetime
) -> pl.DataFrame:
    """``impression_id``, ``at`` and ``value`` of the first positive feedback of a kind that came in
    ``(start, end]``."""
    sql = """
    SELECT DISTINCT ON (impression_id) impression_id, at, value FROM feedback
    WHERE surface = %s AND kind = %s AND value > 0 AND seq > 0 AND at > %s AND at <= %s ORDER BY impression_id, at
    """
    schema: Schema = {"impression_id": pl.String, "at": INSTANT, "value": pl.Float64}
    return copy_out(connection, sql, [surface, kind, start, end], schema)
