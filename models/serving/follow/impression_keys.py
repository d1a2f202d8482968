"""The keys of an impression, which a click on it is counted by: as ranked here, or looked up in the log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
from psycopg.rows import class_row

from features.counters.event_values import EventValues
from features.counters.pending import Moment
from features.declare.feedback import CLOCK_SKEW, HORIZON
from features.identity.keys import Keys
from features.log.partitions import SKEW
from models.serving.durable.database import AWAY, Database
from models.serving.durable.entries import Feedback

# The times of all are values that the planner sees, so that the partitions of those times alone are opened.
LOOK_UP_IMPRESSIONS = """
SELECT asked.impression_id, i.user_id, i.item_id, i.context::text, a.attributes::text,
    u.attributes::text AS user_attributes, date_part('epoch', i.shown_at) AS shown_at
FROM unnest(%(names)s::text[], %(times)s::timestamptz[]) AS asked (impression_id, at)
CROSS JOIN LATERAL (
    SELECT i.user_id, i.item_id, i.context, i.shown_at FROM impressions i
    WHERE i.surface = %(surface)s AND i.impression_id = asked.impression_id
      AND i.shown_at >= %(shown_from)s AND i.shown_at <= %(shown_to)s
      AND i.shown_at >= asked.at - %(horizon)s AND i.shown_at <= asked.at + %(clock_skew)s
    ORDER BY i.shown_at DESC LIMIT 1) i
LEFT JOIN items a ON a.surface = %(surface)s AND a.item_id = i.item_id
LEFT JOIN users u ON u.surface = %(surface)s AND u.user_id = i.user_id
WHERE NOT EXISTS (
    SELECT FROM feedback f WHERE f.surface = %(surface)s AND f.impression_id = asked.impression_id
      AND f.kind = %(kind)s AND f.at >= %(said_from)s AND f.at <= %(said_to)s
      AND f.at >= asked.at - %(horizon)s - %(skew)s AND f.at <= asked.at + %(horizon)s + %(skew)s)
"""

LOGGED_IMPRESSIONS = """
SELECT impression_id FROM impressions
WHERE surface = %s AND impression_id = ANY(%s) AND shown_at >= %s AND shown_at <= %s
"""


@dataclass(frozen=True, eq=False)
class ImpressionKeys:
    user: int
    item: int
    remembered: Keys
    """(R,) its values of the columns that the user's state remembers."""
    shown_at: float
    """Seconds since 1970."""

    @staticmethod
    def of(moment: Moment, place: int) -> "ImpressionKeys":
        """Of one of the impressions of a moment."""
        return ImpressionKeys(moment.user, int(moment.items[place]), moment.remembered[place], moment.time)


@dataclass(frozen=True)
class _ImpressionRow:
    impression_id: str
    user_id: str
    item_id: str
    context: str
    attributes: str | None
    user_attributes: str | None
    shown_at: float


def look_up(
    database: Database, surface: str, values: EventValues, kind: str, clicks: Sequence[Feedback]
) -> dict[str, ImpressionKeys]:
    """Keys of the impressions of some feedback of one ``kind``, an impression each, which this process did not rank;
    without those that the log lacks, or that have that feedback already. One query for all; nothing while the log is
    away."""
    if not clicks:
        return {}
    times = [datetime.fromtimestamp(click.at / 1e6, UTC) for click in clicks]
    first, last = min(times), max(times)
    parameters: dict[str, object] = {"surface": surface, "kind": kind, "times": times}
    parameters |= {"names": [click.impression_id for click in clicks]}
    parameters |= {"horizon": HORIZON, "skew": SKEW, "clock_skew": CLOCK_SKEW}
    parameters |= {"shown_from": first - HORIZON, "shown_to": last + CLOCK_SKEW}
    parameters |= {"said_from": first - HORIZON - SKEW, "said_to": last + HORIZON + SKEW}
    try:
        found = database.query(LOOK_UP_IMPRESSIONS, parameters, class_row(_ImpressionRow))
    except AWAY:
        return {}
    if not found:
        return {}
    ids, _ = values.of_events(pl.DataFrame([vars(row) for row in found], schema_overrides=TEXTS))
    remembered = values.remembered(ids)
    return {
        row.impression_id: ImpressionKeys(own[0], own[1], beside, row.shown_at)
        for row, own, beside in zip(found, ids[:, :2].tolist(), remembered, strict=True)
    }


TEXTS = dict.fromkeys(("context", "attributes", "user_attributes"), pl.String)


@dataclass(frozen=True)
class _LoggedRow:
    impression_id: str


def logged(database: Database, surface: str, names: Sequence[str], shown_at: Sequence[int]) -> set[str]:
    """Which impressions of these ids the log has, as shown at about these times (microseconds since 1970); none where
    it is away."""
    if not names:
        return set()
    first, last = (datetime.fromtimestamp(at / 1e6, UTC) for at in (min(shown_at), max(shown_at)))
    parameters = [surface, list(names), first - CLOCK_SKEW, last + CLOCK_SKEW]
    try:
        return {row.impression_id for row in database.query(LOGGED_IMPRESSIONS, parameters, class_row(_LoggedRow))}
    except AWAY:
        return set()
