"""Served rows in PostgreSQL: what each impression was ranked with, one row an impression.

They go in by COPY in its binary format, assembled by numpy: rows of one schema have one length, which makes a million
of them a few array assignments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray

from features.declare.schema import RowSchema, RowValues
from features.identity.keys import Keys
from infra.postgres.copying import BINARY_HEAD, BINARY_TAIL

COPY = "COPY served (surface, impression_id, shown_at, schema_version, row) FROM STDIN (FORMAT binary)"
MILLISECOND = timedelta(milliseconds=1)
"""More than what seconds since 1970 lose as a float."""
EPOCH_2000_US = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000."""


@dataclass(frozen=True)
class Rows:
    """What was known of N impressions."""

    impression_id: pl.Series  # (N,)
    shown_at: NDArray[np.float64]  # (N,) seconds since the epoch
    values: RowValues  # of N


ServedKeys = Callable[[pl.DataFrame], tuple[NDArray[np.bool_], Keys, Keys]]
"""Given impression_id and shown_at, which have a served row, and those rows' ids (N, K + B) and history (N, L)."""


def write(connection: psycopg.Connection, surface: str, schema: RowSchema, rows: Rows) -> None:
    """Append the rows of impressions that have none yet. In the caller's transaction; the days' partitions are there,
    since the log makes them with the impressions'."""
    if not len(rows.impression_id):
        return
    names = [name.encode() for name in rows.impression_id]
    shown_us = (rows.shown_at * 1e6).round().astype(np.int64)
    bodies = schema.table(rows.values).view(f"V{schema.dtype.itemsize}")
    _copy(connection, surface, schema.version, names, shown_us, bodies)


def append_packed(
    connection: psycopg.Connection,
    surface: str,
    version: str,
    names: Sequence[str],
    shown_us: NDArray[np.int64],
    bodies: NDArray[np.void],
) -> None:
    """Append N rows that serving has packed by one schema version: impression ids, times in microseconds since 1970
    (N,), and the rows (N,).

    In the transaction that brings these impressions into the log, and only for those it brings.
    """
    _copy(connection, surface, version, [name.encode() for name in names], shown_us, bodies)


def _copy(
    connection: psycopg.Connection,
    surface: str,
    version: str,
    names: list[bytes],
    shown_us: NDArray[np.int64],
    bodies: NDArray[np.void],
) -> None:
    """COPY N rows: names (N,), times in microseconds since 1970 (N,), bodies (N,) of one length."""
    constant = {"surface": surface.encode(), "version": version.encode()}
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        copy.write(BINARY_HEAD)
        start = 0
        # names of one length side by side make records of one length
        for length, run in groupby(names, key=len):
            same = list(run)
            end = start + len(same)
            fields = [
                ("fields", ">i2"),
                *_field("surface", f"S{len(constant['surface'])}"),
                *_field("name", f"S{length}"),
                *_field("shown_at", ">i8"),
                *_field("version", f"S{len(constant['version'])}"),
                *_field("row", bodies.dtype.str),
            ]
            records = np.empty(len(same), dtype=fields)
            records["fields"] = 5
            for name in ("surface", "name", "shown_at", "version", "row"):
                records[f"{name}_bytes"] = records.dtype[name].itemsize
            records["surface"], records["version"] = constant["surface"], constant["version"]
            records["name"], records["row"] = same, bodies[start:end]
            records["shown_at"] = shown_us[start:end] - EPOCH_2000_US
            copy.write(records.tobytes())
            start = end
        copy.write(BINARY_TAIL)


def _field(name: str, dtype: str) -> list[tuple[str, str]]:
    """A field of a binary COPY: its length, then itself."""
    return [(f"{name}_bytes", ">i4"), (name, dtype)]


def served_keys(connection: psycopg.Connection, surface: str, schema: RowSchema) -> ServedKeys:
    """Looks ids and history up in the served rows of the same schema version."""

    def look_up(wanted: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        times = wanted["shown_at"].to_numpy()
        low, high = (datetime.fromtimestamp(float(t), UTC) for t in (times.min(), times.max()))
        found = connection.execute(
            "SELECT impression_id, row FROM served WHERE surface = %s AND schema_version = %s"
            " AND shown_at BETWEEN %s AND %s AND impression_id = ANY(%s)",
            # As values, summed here: of a sum of its own the planner would open every partition.
            [surface, schema.version, low - MILLISECOND, high + MILLISECOND, wanted["impression_id"].to_list()],
            prepare=False,
        ).fetchall()
        place = {impression_id: i for i, (impression_id, _) in enumerate(found)}
        rows = schema.unpack([bytes(row) for _, row in found])
        ids, history = rows.ids, rows.history
        at = np.array([place.get(impression_id, -1) for impression_id in wanted["impression_id"]], dtype=np.int64)
        if not len(found):
            ids = np.zeros((1, len(schema.ids) + schema.bags), np.int64)
            history = np.zeros((1, schema.history), np.int64)
        return at >= 0, ids[at], history[at]

    return look_up
