"""The table ``stopped_variants``: which variants were stopped, when, and on what evidence. Written once, never changed.

Whether an item may be shown is the items' own; one that a person has put back after it was stopped keeps its record,
and is not stopped again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import psycopg
from psycopg.rows import class_row

if TYPE_CHECKING:
    from monitoring.live.losers import Loser

COLUMNS = "item_id, thing, against, shown, clicks, shown_against, clicks_against, evidence, chance, reason, stopped_at"


@dataclass(frozen=True)
class StoppedVariant:
    """A variant that was stopped."""

    item_id: str
    thing: str
    """Of which it is a variant."""
    against: str
    """The item that it is known to be worse than."""
    shown: int
    clicks: int
    shown_against: int
    clicks_against: int
    evidence: float
    chance: float
    reason: str
    stopped_at: datetime


def write(connection: psycopg.Connection, surface: str, thing: str, loser: "Loser", *, now: datetime) -> None:
    """Write down that it is stopped, in the caller's transaction."""
    connection.execute(
        f"INSERT INTO stopped_variants (surface, {COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",  # noqa: S608
        [
            *(surface, loser.item_id, thing, loser.against, loser.shown, loser.clicks, loser.shown_against),
            *(loser.clicks_against, loser.evidence, loser.chance, loser.reason, now),
        ],
    )


def latest(connection: psycopg.Connection, surface: str, most: int) -> list[StoppedVariant]:
    """The last ``most`` variants of a surface that were stopped, the newest first."""
    with connection.cursor(row_factory=class_row(StoppedVariant)) as cursor:
        return cursor.execute(
            f"SELECT {COLUMNS} FROM stopped_variants WHERE surface = %s ORDER BY stopped_variant_id DESC LIMIT %s",  # noqa: S608
            [surface, most],
        ).fetchall()


def among(connection: psycopg.Connection, surface: str, items: Sequence[str]) -> set[str]:
    """Those of these items that were ever stopped."""
    found = connection.execute(
        "SELECT DISTINCT item_id FROM stopped_variants WHERE surface = %s AND item_id = ANY(%s)", [surface, list(items)]
    )
    return {item for (item,) in found}
