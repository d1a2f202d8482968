"""Items and users of the event log: the attributes of what is shown, and of who sees it."""

from typing import Literal, LiteralString

import polars as pl
import psycopg

from features.log.append_result import AppendResult
from features.log.event_checks import canonical_attributes
from infra.postgres.copying import copy_in

Entity = Literal["items", "users"]

KEYS: dict[Entity, LiteralString] = {"items": "item_id", "users": "user_id"}
"""The key of each table."""

STAGE = """
CREATE TEMP TABLE IF NOT EXISTS staged_entities (key text, attributes jsonb) ON COMMIT DELETE ROWS;
TRUNCATE staged_entities
"""

# Attributes that are not given anew stay as they are.
UPSERT: LiteralString = """
INSERT INTO {table} AS e (surface, {key}, attributes)
SELECT %s, key, jsonb_strip_nulls(attributes) FROM staged_entities ORDER BY key
ON CONFLICT (surface, {key}) DO UPDATE SET attributes = e.attributes || EXCLUDED.attributes
WHERE e.attributes IS DISTINCT FROM e.attributes || EXCLUDED.attributes
"""

UPSERTS: dict[Entity, LiteralString] = {
    "items": UPSERT.format(table="items", key="item_id"),
    "users": UPSERT.format(table="users", key="user_id"),
}


def append_entities(connection: psycopg.Connection, surface: str, entity: Entity, rows: pl.DataFrame) -> AppendResult:
    """Add or change items or users: their key as text, and any columns as attributes, of which the log stores the
    canonical texts (:mod:`features.identity.canonical`).

    Counts one as imported when it is new or has changed. The last row of a key wins. Raises ValueError when a key is
    missing, or an attribute cannot be stored.
    """
    key = KEYS[entity]
    if rows[key].dtype != pl.String or rows[key].is_null().any():
        raise ValueError(f"{entity}: {key} must be text in every row, not {rows[key].dtype} with nulls")
    rows = rows.unique(key, keep="last", maintain_order=True)
    attributes = canonical_attributes(rows, key)
    unfit = attributes.filter(pl.col("reason").is_not_null())
    if len(unfit):
        raise ValueError(f"{entity}: {unfit['reason'][0]}")
    with connection.transaction():
        connection.execute(STAGE)
        staged = rows.select(pl.col(key).alias("key"), attributes["text"].alias("attributes"))
        copy_in(connection, "staged_entities", staged)
        changed = connection.execute(UPSERTS[entity], [surface]).rowcount
    return AppendResult(changed, rows.height - changed, 0)
