"""Reading the event log: in the order of its places for the fold, by the time shown for training and checks.

Ask through :mod:`features.log`, which is the log's one door.
"""

from datetime import datetime

import polars as pl
import psycopg

from features.copying import Schema, copy_out

EVENT: Schema = {
    "seq": pl.Int64,
    "kind": pl.String,
    "impression_id": pl.String,
    "request_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "attributes": pl.String,
    "context": pl.String,
    "shown_at": pl.Float64,
    "at": pl.Float64,
    "known_at": pl.Float64,
    "value": pl.Float64,
    "read_tick": pl.Int64,
    "live": pl.Boolean,
}

OF_IMPRESSION = ["impression_id", "request_id", "user_id", "item_id", "context", "shown_at", "read_tick", "live"]

RAW_EVENT: Schema = {key: EVENT[key] for key in EVENT if key != "attributes"}

# date_part gives a float at once; extract would go through numeric, at three times the cost.
OF_SHOWN = """
SELECT seq, 'impression', impression_id, request_id, user_id, item_id, context, date_part('epoch', shown_at),
    date_part('epoch', shown_at), date_part('epoch', known_at), NULL, read_tick, model_version IS NOT NULL
FROM impressions WHERE surface = %s
"""

# One statement, for one view of the log: with two, an event committed between them would be passed over.
BETWEEN = (
    OF_SHOWN
    + """AND seq > %s AND seq <= %s
UNION ALL
SELECT seq, kind, impression_id, NULL, NULL, NULL, NULL, NULL, date_part('epoch', at), date_part('epoch', known_at),
    value, NULL, NULL
FROM feedback WHERE surface = %s AND seq > %s AND seq <= %s
"""
)

SHOWN = OF_SHOWN + "AND impression_id = ANY(%s)"

ATTRIBUTES = "SELECT item_id, attributes FROM items WHERE surface = %s AND item_id = ANY(%s)"


def read_events(connection: psycopg.Connection, surface: str, after_seq: int, limit: int) -> pl.DataFrame:
    """The next ``limit`` events of the log after place ``after_seq``, in order; fewer only at its end.

    Columns as ``EVENT``: ``kind`` is ``'impression'`` or the feedback's kind; ``shown_at``, ``at`` and ``known_at`` are
    seconds since the epoch; ``attributes`` (of the item, null when the item is not known) and ``context`` are JSON
    texts; ``live`` says that a model of ours ranked the impression. A feedback row carries its impression's columns,
    and is known no earlier than it. Of an impression, ``at`` is ``shown_at`` and ``value`` is null.
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
        events = pl.concat(pieces).head(limit)
        items = events["item_id"].unique().to_list()
        attributes = copy_out(connection, ATTRIBUTES, [surface, items], {"item_id": pl.String, "attributes": pl.String})
    return events.join(attributes, on="item_id", how="left", maintain_order="left").select(*EVENT)


def _events_between(connection: psycopg.Connection, surface: str, after: int, to: int) -> pl.DataFrame:
    """Events with places in ``(after, to]``, in order, without the attributes of their items."""
    events = copy_out(connection, BETWEEN, [surface, after, to] * 2, RAW_EVENT)
    shown = events.filter(pl.col("shown_at").is_not_null())
    said = events.filter(pl.col("shown_at").is_null()).drop(OF_IMPRESSION[1:])
    of_impression = shown.select(*OF_IMPRESSION, pl.col("known_at").alias("shown_known_at"))
    earlier = said.join(shown, on="impression_id", how="anti")["impression_id"].unique().to_list()
    if earlier:
        before = copy_out(connection, SHOWN, [surface, earlier], RAW_EVENT)
        before = before.select(*OF_IMPRESSION, pl.col("known_at").alias("shown_known_at"))
        of_impression = pl.concat([of_impression, before])
    known = pl.max_horizontal("known_at", "shown_known_at").alias("known_at")
    said = said.join(of_impression, on="impression_id").with_columns(known)
    return pl.concat([shown, said.select(shown.columns)]).sort("seq")


EXTENT = "SELECT min(shown_at), max(shown_at) FROM impressions WHERE surface = %s"


def extent(connection: psycopg.Connection, surface: str) -> tuple[datetime, datetime] | None:
    """When the first and the last impression were shown; None when there is none."""
    row = connection.execute(EXTENT, [surface]).fetchone()
    return None if row is None or row[0] is None else (row[0], row[1])


def read_impressions(connection: psycopg.Connection, surface: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Impressions shown in ``(start, end]`` as events, columns as ``EVENT``, in the order of their places."""
    query = OF_SHOWN + "AND shown_at > %s AND shown_at <= %s"
    shown = copy_out(connection, query, [surface, start, end], RAW_EVENT).sort("seq")
    items = shown["item_id"].unique().to_list()
    attributes = copy_out(connection, ATTRIBUTES, [surface, items], {"item_id": pl.String, "attributes": pl.String})
    return shown.join(attributes, on="item_id", how="left", maintain_order="left").select(*EVENT)


PROPENSITIES = """
SELECT impression_id, propensity FROM impressions
WHERE surface = %s AND shown_at > %s AND shown_at <= %s AND propensity IS NOT NULL
"""


def read_propensities(connection: psycopg.Connection, surface: str, start: datetime, end: datetime) -> pl.DataFrame:
    """``impression_id`` and ``propensity`` of the impressions shown in ``(start, end]`` that have one."""
    schema: Schema = {"impression_id": pl.String, "propensity": pl.Float64}
    return copy_out(connection, PROPENSITIES, [surface, start, end], schema)
