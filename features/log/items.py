"""Items of the event log: the attributes of what is shown."""

import polars as pl
import psycopg

from features.log.append_result import AppendResult
from features.log.event_checks import canonical_attributes
from infra.postgres.copying import copy_in

STAGE_ITEMS = """
CREATE TEMP TABLE IF NOT EXISTS staged_items (item_id text, attributes jsonb) ON COMMIT DELETE ROWS;
TRUNCATE staged_items
"""

# Attributes that are not given anew stay as they are.
UPSERT_ITEMS = """
INSERT INTO items AS i (surface, item_id, attributes)
SELECT %s, item_id, jsonb_strip_nulls(attributes) FROM staged_items ORDER BY item_id
ON CONFLICT (surface, item_id) DO UPDATE SET attributes = i.attributes || EXCLUDED.attributes
WHERE i.attributes IS DISTINCT FROM i.attributes || EXCLUDED.attributes
"""


def append_items(connection: psycopg.Connection, surface: str, items: pl.DataFrame) -> AppendResult:
    """Add or change items: ``item_id`` as text, and any columns as attributes, of which the log stores the canonical
    texts (:mod:`features.identity.values`).

    Counts an item as imported when it is new or has changed. The last row of an item wins. Raises ValueError when an
    ``item_id`` is missing, or an attribute cannot be stored.
    """
    if items["item_id"].dtype != pl.String or items["item_id"].is_null().any():
        raise ValueError(f"items: item_id must be text in every row, not {items['item_id'].dtype} with nulls")
    items = items.unique("item_id", keep="last", maintain_order=True)
    attributes = canonical_attributes(items)
    unfit = attributes.filter(pl.col("reason").is_not_null())
    if len(unfit):
        raise ValueError(f"items: {unfit['reason'][0]}")
    with connection.transaction():
        connection.execute(STAGE_ITEMS)
        copy_in(connection, "staged_items", items.select("item_id", attributes["text"].alias("attributes")))
        changed = connection.execute(UPSERT_ITEMS, [surface]).rowcount
    return AppendResult(changed, items.height - changed, 0)
