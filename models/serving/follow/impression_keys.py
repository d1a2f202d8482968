"""The keys of an impression, which a click on it is counted by: as ranked here, or looked up in the log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
from psycopg.rows import class_row

from features.counters.event_values import EventValues
from features.declare.feedback import CLOCK_SKEW, HORIZON
from features.log.partitions import SKEW
from models.serving.durable.database import AWAY, Database
from models.serving.durable.entries import Impression

LOOK_UP_IMPRESSION = """
SELECT i.user_id, i.item_id, i.context::text, a.attributes::text, u.attributes::text AS user_attributes,
    date_part('epoch', i.shown_at) AS shown_at
FROM impressions i
LEFT JOIN items a ON a.surface = i.surface AND a.item_id = i.item_id
LEFT JOIN users u ON u.surface = i.surface AND u.user_id = i.user_id
WHERE i.surface = %s AND i.impression_id = %s AND i.shown_at >= %s AND i.shown_at <= %s
AND NOT EXISTS (SELECT FROM feedback f WHERE f.surface = %s AND f.impression_id = %s
                AND f.at >= %s AND f.at <= %s AND f.kind = %s)
ORDER BY i.shown_at DESC LIMIT 1
"""

LOGGED_IMPRESSIONS = """
SELECT impression_id FROM impressions
WHERE surface = %s AND impression_id = ANY(%s) AND shown_at >= %s AND shown_at <= %s
"""


@dataclass(frozen=True)
class ImpressionKeys:
    user: int
    item: int
    remembered: tuple[int, ...]
    """Its values of the columns that the user's state remembers."""
    shown_at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class _ImpressionRow:
    user_id: str
    item_id: str
    context: str
    attributes: str | None
    user_attributes: str | None
    shown_at: float


def look_up(
    database: Database, surface: str, values: EventValues, kind: str, impression_id: str, at: float
) -> ImpressionKeys | None:
    """Keys of an impression that this process did not rank, with feedback of a ``kind`` at ``at``; None when the log
    has none, has that feedback already, or is away."""
    happened = datetime.fromtimestamp(at, UTC)
    parameters = [
        *(surface, impression_id, happened - HORIZON, happened + CLOCK_SKEW),
        *(surface, impression_id, happened - HORIZON - SKEW, happened + HORIZON + SKEW),
        kind,
    ]
    try:
        found = database.query(LOOK_UP_IMPRESSION, parameters, class_row(_ImpressionRow))
    except AWAY:
        return None
    if not found:
        return None
    logged = pl.DataFrame([vars(found[0])], schema_overrides=dict.fromkeys(TEXTS, pl.String))
    ids, _ = values.of_events(logged)
    return ImpressionKeys(int(ids[0, 0]), int(ids[0, 1]), tuple(values.remembered(ids)[0].tolist()), found[0].shown_at)


TEXTS = ("context", "attributes", "user_attributes")


@dataclass(frozen=True)
class _LoggedRow:
    impression_id: str


def logged(database: Database, surface: str, shown: Sequence[Impression]) -> set[str]:
    """Which of these the log has, as shown at about the same time; none where it is away."""
    if not shown:
        return set()
    times = [datetime.fromtimestamp(one.shown_at / 1e6, UTC) for one in shown]
    names = [one.impression_id for one in shown]
    parameters = [surface, names, min(times) - CLOCK_SKEW, max(times) + CLOCK_SKEW]
    try:
        return {row.impression_id for row in database.query(LOGGED_IMPRESSIONS, parameters, class_row(_LoggedRow))}
    except AWAY:
        return set()
