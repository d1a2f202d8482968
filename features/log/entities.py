"""Items and users of the event log: the attributes of what is shown, and of who sees it. Only this module writes
``users``; :mod:`features.log.items` writes ``items``."""

from typing import Literal, LiteralString

import polars as pl
import psycopg

from features.log import items
from features.log.append_result import AppendResult
from features.log.event_checks import canonical_attributes
from infra.postgres.copying import copy_in

Entity = Literal["items", "users"]

KEYS: dict[Entity, LiteralString] = {"items": "item_id", "users": "user_id"}
"""The key of each table."""

STAGE = """
CREATE TEMP TABLE IF NOT EXISTS staged_users (key text, attributes jsonb) ON COMMIT DELETE ROWS;
TRUNCATE staged_users
"""

# Attributes that are not given anew stay as they are.
UPSERT_USERS = """
INSERT INTO users AS e (surface, user_id, attributes)
SELECT %s, key, jsonb_strip_nulls(attributes) FROM staged_users ORDER BY key
ON CONFLICT (surface, user_id) DO UPDATE SET attributes = e.attributes || EXCLUDED.attributes
WHERE e.attributes IS DISTINCT FROM e.attributes || EXCLUDED.attributes
"""


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
        if entity == "items":
            changed = items.store(connection, surface, rows.select(key, attributes["text"].alias("attributes")))
        else:
            connection.execute(STAGE)
            staged = rows.select(pl.col(key).alias("key"), attributes["text"].alias("attributes"))
            copy_in(connection, "staged_users", staged)
            changed = connection.execute(UPSERT_USERS, [surface]).rowcount
    return AppendResult(changed, rows.height - changed, 0)
