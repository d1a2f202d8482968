"""Items of the event log and their life: arrival, attributes, expiry, withdrawal. Only this module writes ``items``.

    with connection.transaction():
        stored = store(connection, "feed", [ItemChange("a1", attributes='{"section": "sport"}')], now)
    connection.execute(f"LISTEN {CHANNEL}")
    changes = read_changes(connection, "feed", after=0, most=10_000)

A writer holds the surface's advisory lock of items from taking places to commit, so a reader that remembers the last
place it saw misses no change.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl
import psycopg
from psycopg.rows import class_row

from infra.postgres.copying import INSTANT, Schema, copy_in, copy_out

CHANNEL = "millrace_items"
"""PostgreSQL notification channel; the payload is the surface."""

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('millrace.items.' || %s, 0))"

STAGE = """
CREATE TEMP TABLE IF NOT EXISTS staged_items (
    item_id text, attributes jsonb, cleared jsonb, expires boolean, expires_at timestamptz, withdrawn boolean
) ON COMMIT DELETE ROWS;
TRUNCATE staged_items
"""

INSERT_NEW = """
INSERT INTO items (surface, item_id, attributes, arrived_at, expires_at, withdrawn_at)
SELECT %(surface)s, item_id, jsonb_strip_nulls(attributes), coalesce(%(now)s::timestamptz, now()), expires_at,
    CASE WHEN withdrawn THEN coalesce(%(now)s::timestamptz, now()) END
FROM staged_items ORDER BY item_id
ON CONFLICT (surface, item_id) DO NOTHING
"""

# What is not given stays as it is.
UPDATE_CHANGED = """
WITH wanted AS (
    SELECT e.item_id,
        (e.attributes || jsonb_strip_nulls(s.attributes)) - ARRAY(SELECT jsonb_array_elements_text(s.cleared))
            AS attributes,
        CASE WHEN s.expires THEN s.expires_at ELSE e.expires_at END AS expires_at,
        CASE WHEN s.withdrawn IS NULL THEN e.withdrawn_at
            WHEN s.withdrawn THEN coalesce(e.withdrawn_at, %(now)s::timestamptz, now()) END AS withdrawn_at
    FROM staged_items s JOIN items e ON e.surface = %(surface)s AND e.item_id = s.item_id)
UPDATE items e
SET attributes = w.attributes, expires_at = w.expires_at, withdrawn_at = w.withdrawn_at,
    change = nextval('item_changes')
FROM wanted w WHERE e.surface = %(surface)s AND e.item_id = w.item_id
  AND (e.attributes, e.expires_at, e.withdrawn_at) IS DISTINCT FROM (w.attributes, w.expires_at, w.withdrawn_at)
"""

FIRST_SHOWN = """
WITH shown AS (SELECT item_id, min(shown_at) AS first FROM impressions WHERE surface = %(surface)s GROUP BY item_id)
UPDATE items e SET arrived_at = shown.first, change = nextval('item_changes')
FROM shown WHERE e.surface = %(surface)s AND e.item_id = shown.item_id AND shown.first < e.arrived_at
"""

CHANGED = """
SELECT item_id, attributes, date_part('epoch', arrived_at), date_part('epoch', expires_at),
    withdrawn_at IS NOT NULL, change
FROM items WHERE surface = %s AND change > %s ORDER BY change LIMIT %s
"""

CHANGED_ITEM: Schema = {
    "item_id": pl.String,
    "attributes": pl.String,
    "arrived_at": pl.Float64,
    "expires_at": pl.Float64,
    "withdrawn": pl.Boolean,
    "change": pl.Int64,
}

LIVES = """
SELECT item_id, attributes, arrived_at, expires_at, withdrawn_at FROM items
WHERE surface = %s AND item_id = ANY(%s) ORDER BY item_id
"""


# Of a column that any surface may call as it likes: there is no index, and a surface's items are read through.
LIVES_WITH = """
SELECT item_id, attributes, arrived_at, expires_at, withdrawn_at FROM items
WHERE surface = %s AND attributes ->> %s = ANY(%s) ORDER BY arrived_at, item_id
"""


@dataclass(frozen=True)
class ItemChange:
    """What is to be said of an item from now on; what is not given stays as it is."""

    item_id: str
    attributes: str = "{}"
    """As the text of a JSON object of names and canonical texts."""
    cleared: tuple[str, ...] = ()
    """Names of attributes that are not known any more."""
    expires: bool = False
    """Whether ``expires_at`` says something."""
    expires_at: datetime | None = None
    withdrawn: bool | None = None


@dataclass(frozen=True)
class ItemLife:
    """An item as the log has it."""

    item_id: str
    attributes: dict[str, str]
    arrived_at: datetime
    expires_at: datetime | None
    withdrawn_at: datetime | None


STAGED: Schema = {
    "item_id": pl.String,
    "attributes": pl.String,
    "cleared": pl.String,
    "expires": pl.Boolean,
    "expires_at": INSTANT,
    "withdrawn": pl.Boolean,
}


def take_turns(connection: psycopg.Connection, surface: str) -> None:
    """Until the caller's transaction ends nobody else writes items of the surface: what is read of them stands."""
    connection.execute(LOCK, [surface])


def store(connection: psycopg.Connection, surface: str, items: pl.DataFrame, now: datetime | None = None) -> int:
    """Add or change items, each once, in the caller's transaction; columns as ``STAGED``, of which all but ``item_id``
    may be missing. Followers are notified when it commits. Returns how many are new or have changed.

    ``now``: when new ones arrive and others are withdrawn; None: the transaction's own time.
    """
    take_turns(connection, surface)
    connection.execute(STAGE)
    given = {"attributes": "{}", "cleared": "[]", "expires": False}
    lacking = [pl.lit(value).alias(name) for name, value in given.items() if name not in items.columns]
    copy_in(connection, "staged_items", items.with_columns(lacking))
    parameters = {"surface": surface, "now": now}
    changed = sum(connection.execute(query, parameters).rowcount for query in (INSERT_NEW, UPDATE_CHANGED))
    if changed:
        connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, surface])
    return changed


def date_arrivals(connection: psycopg.Connection, surface: str) -> None:
    """In the caller's transaction: what the log has shown had arrived by then, whenever its row was imported."""
    take_turns(connection, surface)
    if connection.execute(FIRST_SHOWN, {"surface": surface}).rowcount:
        connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, surface])


def staged(changes: Sequence[ItemChange]) -> pl.DataFrame:
    """Changes as :func:`store` takes them; the last of an item wins."""
    last = {change.item_id: change for change in changes}.values()
    columns = {
        "item_id": [change.item_id for change in last],
        "attributes": [change.attributes for change in last],
        "cleared": [json.dumps(change.cleared) for change in last],
        "expires": [change.expires for change in last],
        "expires_at": [change.expires_at for change in last],
        "withdrawn": [change.withdrawn for change in last],
    }
    return pl.DataFrame(columns, schema=STAGED)


def read_changes(connection: psycopg.Connection, surface: str, after: int, most: int) -> pl.DataFrame:
    """The next ``most`` items whose last change came after the place ``after``, in order; columns as
    ``CHANGED_ITEM``, times in seconds since 1970."""
    return copy_out(connection, CHANGED, [surface, after, most], CHANGED_ITEM)


def lives(connection: psycopg.Connection, surface: str, items: Sequence[str]) -> list[ItemLife]:
    """Those of these items that the log knows."""
    with connection.cursor(row_factory=class_row(ItemLife)) as cursor:
        return cursor.execute(LIVES, [surface, list(items)]).fetchall()


def lives_with(connection: psycopg.Connection, surface: str, column: str, values: Sequence[str]) -> list[ItemLife]:
    """The items that have one of these values there, as canonical texts; those that came first, first."""
    with connection.cursor(row_factory=class_row(ItemLife)) as cursor:
        return cursor.execute(LIVES_WITH, [surface, column, list(values)]).fetchall()
