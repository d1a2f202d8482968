"""The impressions of a window with their labels: the entities of a training frame, and the frame's columns."""

from datetime import datetime, timedelta

import polars as pl
import pyarrow as pa
from psycopg import sql

from features.declare.feedback import COUNTS

FRAME = pa.schema(
    [
        ("impression_id", pa.string()),
        ("request_id", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("position", pa.int32()),
        ("shown_at", pa.timestamp("us", "UTC")),
        ("context", pa.string()),
        ("label", pa.float32()),
        ("schema_version", pa.string()),
        ("row", pa.binary()),
    ]
)
"""Columns of a training frame. ``context`` is JSON text; ``schema_version`` and ``row`` are null where the impression
has not been folded."""

IMPRESSION_KEY = ["impression_id", "shown_at"]
"""What identifies an impression: an id may come again a season later (:func:`features.log.writing.append`)."""

LABELLED = """
SELECT i.impression_id, i.request_id, i.user_id, i.item_id, i.position, i.shown_at AS event_timestamp,
       i.context::text AS context, (counted.impression_id IS NOT NULL)::int::float4 AS label
FROM impressions AS i
LEFT JOIN (
    SELECT DISTINCT f.impression_id, i.shown_at FROM feedback AS f
    JOIN impressions AS i ON i.surface = {surface} AND i.impression_id = f.impression_id
                         AND i.shown_at > {start} AND i.shown_at <= {end}
    WHERE f.surface = {surface} AND f.kind = {kind} AND f.known_at <= {known_by}
      AND f.at > {start} AND f.at <= {last} AND {counts}
) AS counted USING (impression_id, shown_at)
WHERE i.surface = {surface} AND i.shown_at > {start} AND i.shown_at <= {end}
"""


def labelled_impressions(
    surface: str, start: datetime, end: datetime, kind: str, attribution: timedelta, known_by: datetime
) -> str:
    """The impressions of a window with their labels, as SQL with its values written in: Feast takes no parameters."""
    for name, time in (("start", start), ("end", end), ("known_by", known_by)):
        if time.tzinfo is None:
            raise ValueError(f"{name} = {time}: give it a time zone")
    values = {
        "surface": surface,
        "start": start,
        "end": end,
        "kind": kind,
        "known_by": known_by,
        "last": end + attribution,
    }
    counts = sql.SQL(COUNTS).format(attribution=sql.Literal(attribution))
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql.SQL(LABELLED).format(counts=counts, **literals).as_string()


def of_version(frame: pl.DataFrame, version: str) -> pl.DataFrame:
    """One line an impression, with its served row of this schema version, or nulls where it has none."""
    wanted = pl.col("schema_version").eq_missing(version)
    if frame.select((wanted | pl.col("row").is_null()).all()).item():
        return frame
    blanked = frame.with_columns(pl.when(wanted).then(pl.col(name)).alias(name) for name in ("schema_version", "row"))
    found = blanked.filter(pl.col("row").is_not_null())
    return pl.concat([found, blanked.join(found, on=IMPRESSION_KEY, how="anti").unique(IMPRESSION_KEY)])
