"""What the log says of the variants of things: which were shown lately, how each was received, impression by
impression or counted. A variant is an item (:mod:`features.declare.variants`).

    items = shown_lately(connection, "headlines", since, until)
    outcomes = read_outcomes(connection, "headlines", label, items, since, until)
    counts = read_counts(connection, "headlines", label, items, since, recent)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl
import psycopg
from psycopg.rows import class_row

from features.declare.labels import COUNTS, Label
from infra.postgres.copying import Schema, copy_out

SHOWN_LATELY = """
SELECT DISTINCT item_id FROM impressions WHERE surface = %s AND shown_at > %s AND shown_at <= %s ORDER BY item_id
"""

CLICKED = (
    "EXISTS (SELECT FROM feedback f WHERE f.surface = i.surface AND f.impression_id = i.impression_id"
    " AND f.kind = %(kind)s AND " + COUNTS.format(at_least="%(at_least)s", within="%(within)s") + ")"
)

OF_THESE = "FROM impressions i WHERE i.surface = %(surface)s AND i.item_id = ANY(%(items)s) AND i.shown_at > %(since)s"

OUTCOMES = (
    "SELECT i.item_id, date_part('epoch', i.shown_at), "
    + CLICKED
    + OF_THESE
    + " AND i.shown_at <= %(until)s ORDER BY i.shown_at, i.impression_id"
)

COUNTED = (
    "SELECT i.item_id, count(*) AS shown, count(*) FILTER (WHERE "
    + CLICKED
    + ") AS clicks, count(*) FILTER (WHERE i.shown_at > %(recent)s) AS shown_lately "
    + OF_THESE
    + " GROUP BY i.item_id"
)

OUTCOME: Schema = {"item_id": pl.String, "shown_at": pl.Float64, "clicked": pl.Boolean}


@dataclass(frozen=True)
class VariantCounts:
    """How a variant was received."""

    item_id: str
    shown: int
    clicks: int
    """Impressions with feedback that counts for the surface's first label."""
    shown_lately: int


def shown_lately(connection: psycopg.Connection, surface: str, since: datetime, until: datetime) -> list[str]:
    """The items that were shown in ``(since, until]``."""
    return [item for (item,) in connection.execute(SHOWN_LATELY, [surface, since, until])]


def read_outcomes(
    connection: psycopg.Connection, surface: str, label: Label, items: Sequence[str], since: datetime, until: datetime
) -> pl.DataFrame:
    """The impressions of these items in ``(since, until]`` in order of time, columns as ``OUTCOME``; ``shown_at`` is
    in seconds since 1970."""
    return copy_out(connection, OUTCOMES, _parameters(surface, label, items, since) | {"until": until}, OUTCOME)


def read_counts(
    connection: psycopg.Connection, surface: str, label: Label, items: Sequence[str], since: datetime, recent: datetime
) -> dict[str, VariantCounts]:
    """Of these items, those that were shown after ``since``; ``shown_lately`` counts from ``recent`` on."""
    parameters = _parameters(surface, label, items, since) | {"recent": recent}
    with connection.cursor(row_factory=class_row(VariantCounts)) as cursor:
        return {counts.item_id: counts for counts in cursor.execute(COUNTED, parameters)}


def _parameters(surface: str, label: Label, items: Sequence[str], since: datetime) -> dict[str, object]:
    return {"surface": surface, "items": list(items), "since": since, "kind": label.kind, **label.parameters()}
