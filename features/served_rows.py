"""Served rows in PostgreSQL: what each impression was ranked with, one row an impression."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import psycopg

from features.copying import copy_in
from features.engine import Rows, ServedKeys
from features.schema import RowSchema


def write(connection: psycopg.Connection, surface: str, schema: RowSchema, rows: Rows) -> None:
    """Append the rows of impressions that have none yet. In the caller's transaction; the days' partitions are there,
    since the log makes them with the impressions'."""
    if not len(rows.impression_id):
        return
    shown_at = pl.Series((rows.shown_at * 1e6).round().astype(np.int64)).cast(pl.Datetime("us", "UTC"))
    packed = pl.Series(schema.pack(rows.dense, rows.ids, rows.history), dtype=pl.Binary)
    frame = pl.DataFrame(
        {
            "surface": pl.Series([surface]).new_from_index(0, len(packed)),
            "impression_id": rows.impression_id,
            "shown_at": shown_at,
            "schema_version": pl.Series([schema.version]).new_from_index(0, len(packed)),
            "row": packed.bin.encode("hex"),
        }
    ).with_columns(row=pl.lit("\\x") + pl.col("row"))
    copy_in(connection, "served", frame)


def served_keys(connection: psycopg.Connection, surface: str, schema: RowSchema) -> ServedKeys:
    """Looks ids and history up in the served rows of the same schema version."""

    def look_up(wanted: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        times = wanted["shown_at"].to_numpy()
        low, high = (datetime.fromtimestamp(float(t), UTC) for t in (times.min(), times.max()))
        found = connection.execute(
            "SELECT impression_id, row FROM served WHERE surface = %s AND schema_version = %s"
            " AND shown_at BETWEEN %s::timestamptz - interval '1 ms' AND %s::timestamptz + interval '1 ms'"
            " AND impression_id = ANY(%s)",
            [surface, schema.version, low, high, wanted["impression_id"].to_list()],
        ).fetchall()
        place = {impression_id: i for i, (impression_id, _) in enumerate(found)}
        _, ids, history = schema.unpack([bytes(row) for _, row in found])
        at = np.array([place.get(impression_id, -1) for impression_id in wanted["impression_id"]], dtype=np.int64)
        if not len(found):
            ids, history = np.zeros((1, len(schema.ids)), np.int64), np.zeros((1, schema.history), np.int64)
        return at >= 0, ids[at], history[at]

    return look_up


def append_packed(connection: psycopg.Connection, surface: str, rows: pl.DataFrame) -> None:
    """Append rows that serving has packed: impression_id, shown_at, schema_version, row (Binary).

    In the transaction that brings these impressions into the log, and only for those it brings.
    """
    frame = rows.select(
        pl.lit(surface).alias("surface"),
        "impression_id",
        "shown_at",
        "schema_version",
        (pl.lit("\\x") + pl.col("row").bin.encode("hex")).alias("row"),
    )
    copy_in(connection, "served", frame)
