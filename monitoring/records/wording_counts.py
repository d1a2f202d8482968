"""What the log counts of a surface's variants, for the report on wordings: `monitoring.evaluation.wordings.Wordings`.

Counted are impressions whose first label is known by now, and how many of them have it. PostgreSQL adds them up by
item; a few figures a variant leave it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString, Self

import polars as pl
import psycopg

from features.declare.features import Features
from features.declare.labels import COUNTS as LABEL_COUNTS
from features.declare.labels import Label
from features.declare.variants import Variants
from features.log.reading import extent
from infra.postgres.copying import copy_out
from monitoring.evaluation.wordings import COUNTS, Span, Wordings, wordings

COUNTED = """
WITH shown AS (
    SELECT item_id, count(*) AS impressions FROM impressions
    WHERE surface = %(surface)s AND shown_at > %(start)s AND shown_at <= %(end)s GROUP BY item_id
), clicked AS (
    SELECT item_id, count(*) AS clicks FROM (
        SELECT DISTINCT i.impression_id, i.shown_at, i.item_id FROM feedback f
        JOIN impressions i ON i.surface = %(surface)s AND i.impression_id = f.impression_id
            AND i.shown_at > %(start)s AND i.shown_at <= %(end)s
        WHERE f.surface = %(surface)s AND f.kind = %(kind)s AND f.known_at <= %(now)s
            AND f.at > %(start)s AND f.at <= %(now)s AND {counts}
    ) c GROUP BY item_id
)
SELECT item_id, e.attributes ->> %(of)s, e.attributes ->> %(text)s, impressions, coalesce(clicks, 0),
    e.withdrawn_at IS NOT NULL
FROM shown JOIN items e USING (item_id) LEFT JOIN clicked USING (item_id)
WHERE e.surface = %(surface)s AND e.attributes ->> %(of)s <> '' AND e.attributes ->> %(text)s <> ''
ORDER BY item_id
""".format(  # noqa: S608 - of constants
    counts=LABEL_COUNTS.format(at_least="%(at_least)s", within="%(within)s")
)

# Of events that came since the tables were last analysed the planner believes there are none, and would sort millions
# of them, or go over them again for each impression.
HASHED: tuple[LiteralString, ...] = (
    "SET LOCAL enable_nestloop = off",
    "SET LOCAL enable_mergejoin = off",
    "SET LOCAL enable_sort = off",
)


@dataclass(frozen=True)
class WordedItems:
    """What the log calls the thing of an item and its wording, and what of it counts as a click."""

    of: str
    text: str
    label: Label

    @classmethod
    def declared(cls, variants: Variants, features: Features) -> Self:
        """As a surface declares them."""
        return cls(*variants.columns(features), features.label)


def read_wordings(
    connection: psycopg.Connection, surface: str, items: WordedItems, *, since: datetime | None, now: datetime
) -> Wordings:
    """The report as of ``now``, on what was shown after ``since``; None: since the log began."""
    end = now - items.label.within
    if since is None:
        there = extent(connection, surface)
        since = end if there is None else there[0] - timedelta(microseconds=1)
    span = Span(min(since, end), end)
    return wordings(read_counts(connection, surface, items, span, now), span)


def read_counts(
    connection: psycopg.Connection, surface: str, items: WordedItems, span: Span, now: datetime
) -> pl.DataFrame:
    """Counts of the variants that were shown in the span, columns as ``COUNTS``; items without a thing or a wording
    are left out."""
    label = items.label.parameters()
    parameters = {
        "surface": surface,
        "start": span.start,
        "end": span.end,
        "now": now,
        "kind": items.label.kind,
        "at_least": label["at_least"],
        "within": label["within"],
        "of": items.of,
        "text": items.text,
    }
    with connection.transaction():
        for setting in HASHED:
            connection.execute(setting)
        return copy_out(connection, COUNTED, parameters, COUNTS)
