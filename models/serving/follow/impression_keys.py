"""The keys of an impression, which a click on it is counted by: as ranked here, or looked up in the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.rows import class_row

from features.declare.families import Features
from features.declare.feedback import CLOCK_SKEW, HORIZON
from features.identity.keys import key_of
from features.identity.values import canonical
from features.log.partitions import SKEW
from models.serving.durable.database import AWAY, Database
from models.serving.durable.entries import Impression

LOOK_UP_IMPRESSION = """
SELECT i.user_id, i.item_id, a.attributes, date_part('epoch', i.shown_at) AS shown_at FROM impressions i
LEFT JOIN items a ON a.surface = i.surface AND a.item_id = i.item_id
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
    section: int
    """Of the item's first attribute; 0 where there is none."""
    shown_at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class _ImpressionRow:
    user_id: str
    item_id: str
    attributes: Mapping[str, object] | None
    shown_at: float


def look_up(
    database: Database, surface: str, declared: Features, impression_id: str, at: float
) -> ImpressionKeys | None:
    """Keys of an impression clicked ``at`` that this process did not rank; None when the log has none, has its click
    already, or is away."""
    clicked = datetime.fromtimestamp(at, UTC)
    parameters = [
        *(surface, impression_id, clicked - HORIZON, clicked + CLOCK_SKEW),
        *(surface, impression_id, clicked - HORIZON - SKEW, clicked + HORIZON + SKEW),
        declared.click,
    ]
    try:
        found = database.query(LOOK_UP_IMPRESSION, parameters, class_row(_ImpressionRow))
    except AWAY:
        return None
    if not found:
        return None
    (logged,) = found
    section = _section(declared, logged.attributes or {})
    return ImpressionKeys(key_of("user", logged.user_id), key_of("item", logged.item_id), section, logged.shown_at)


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


def _section(declared: Features, attributes: Mapping[str, object]) -> int:
    if not declared.attributes:
        return 0
    name = declared.attributes[0]
    text = canonical(attributes.get(name))
    return 0 if text is None else key_of(name, text)
