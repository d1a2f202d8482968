"""The impressions of a window with their labels: the entities of a training frame, and the frame's columns."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

import numpy as np
import polars as pl
import pyarrow as pa
from psycopg import sql

from features.declare.labels import COUNTS, TARGET, Label, combined

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

TARGET_PREFIX = "label_"
"""Of a surface with several labels each has a column beside, called so and by its kind."""

LABELLED: LiteralString = """
SELECT i.impression_id, i.request_id, i.user_id, i.item_id, i.position, i.shown_at AS event_timestamp,
       i.context::text AS context, {targets}
FROM impressions AS i
{counted}
WHERE i.surface = {surface} AND i.shown_at > {start} AND i.shown_at <= {end}
"""

COUNTED: LiteralString = """
LEFT JOIN (
    SELECT f.impression_id, i.shown_at, max({target}) AS target FROM feedback AS f
    JOIN impressions AS i ON i.surface = {surface} AND i.impression_id = f.impression_id
                         AND i.shown_at > {start} AND i.shown_at <= {end}
    WHERE f.surface = {surface} AND f.kind = {kind} AND f.known_at <= {known_by}
      AND f.at > {start} AND f.at <= {last} AND {counts}
    GROUP BY 1, 2
) AS {alias} USING (impression_id, shown_at)
"""


def frame_schema(labels: Sequence[Label]) -> pa.Schema:
    """``FRAME`` and, of several labels, a column for the target of each."""
    targets = [name for name in target_columns(labels) if name != "label"]
    return pa.schema([*FRAME, *(pa.field(name, pa.float32()) for name in targets)])


def target_columns(labels: Sequence[Label]) -> tuple[str, ...]:
    """Names of the columns that hold the targets, one a label."""
    return ("label",) if len(labels) == 1 else tuple(TARGET_PREFIX + label.kind for label in labels)


def labelled_impressions_of(
    surface: str, spans: Sequence[tuple[datetime, datetime]], labels: Sequence[Label], known_by: datetime
) -> str:
    """As :func:`labelled_impressions`, of several spans that do not overlap."""
    return " UNION ALL ".join(f"({labelled_impressions(surface, *span, labels, known_by)})" for span in spans)


def labelled_impressions(
    surface: str, start: datetime, end: datetime, labels: Sequence[Label], known_by: datetime
) -> str:
    """The impressions of a window with their targets, as SQL with its values written in: Feast takes no parameters."""
    for name, time in (("start", start), ("end", end), ("known_by", known_by)):
        if time.tzinfo is None:
            raise ValueError(f"{name} = {time}: give it a time zone")
    window = {name: sql.Literal(value) for name, value in (("surface", surface), ("start", start), ("end", end))}
    targets, counted = list[sql.Composed](), list[sql.Composed]()
    for place, (label, column) in enumerate(zip(labels, target_columns(labels), strict=True)):
        alias = sql.Identifier(f"counted_{place}")
        own = {name: sql.Literal(value) for name, value in label.parameters().items()}
        of_label = {"kind": label.kind, "known_by": known_by, "last": end + label.within}
        counted.append(
            sql.SQL(COUNTED).format(
                alias=alias,
                target=sql.SQL(TARGET).format(**own),
                counts=sql.SQL(COUNTS).format(**own),
                **{name: sql.Literal(value) for name, value in of_label.items()},
                **window,
            )
        )
        target = sql.SQL("coalesce({}.target, 0)::float4 AS {}")
        targets.append(target.format(alias, sql.Identifier(column)))
    joined = sql.SQL(LABELLED).format(targets=sql.SQL(", ").join(targets), counted=sql.SQL("").join(counted), **window)
    return joined.as_string()


def with_label(frame: pl.DataFrame, labels: Sequence[Label]) -> pl.DataFrame:
    """The frame with ``label``, the weighted mean of its targets."""
    targets = frame.select(target_columns(labels)).to_numpy().astype(np.float32)
    return frame.with_columns(pl.Series("label", targets[:, 0] if len(labels) == 1 else combined(targets, labels)))


def of_version(frame: pl.DataFrame, version: str) -> pl.DataFrame:
    """One line an impression, with its served row of this schema version, or nulls where it has none."""
    wanted = pl.col("schema_version").eq_missing(version)
    if frame.select((wanted | pl.col("row").is_null()).all()).item():
        return frame
    blanked = frame.with_columns(pl.when(wanted).then(pl.col(name)).alias(name) for name in ("schema_version", "row"))
    found = blanked.filter(pl.col("row").is_not_null())
    return pl.concat([found, blanked.join(found, on=IMPRESSION_KEY, how="anti").unique(IMPRESSION_KEY)])
