"""The engine's state in PostgreSQL, always with the log's position that it stands at.

A checkpoint appends a segment of what changed; when the segments outgrow the whole, the whole is written and they are
deleted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import psycopg
from numpy.typing import NDArray

from features.counters.engine import Engine
from features.declare.features import Features
from infra import memory

USERS = "users"
PART_BYTES = 4 << 20
"""Of a segment: what is read or written at once."""

MEGABYTE = 1 << 20
SEGMENTS = 256
"""Checkpoints of one family before it is written whole again."""


@dataclass(frozen=True)
class Position:
    """How far a surface's log is folded."""

    schema_version: str
    seq: int
    folded_to: datetime


def position(connection: psycopg.Connection, surface: str) -> Position | None:
    found = connection.execute(
        "SELECT schema_version, seq, folded_to FROM fold_positions WHERE surface = %s", [surface]
    ).fetchone()
    return None if found is None else Position(*found)


def save(connection: psycopg.Connection, surface: str, engine: Engine) -> None:
    """Append what changed since the last checkpoint, and the position. In the caller's transaction."""
    connection.execute(
        "INSERT INTO fold_positions (surface, schema_version, seq, tick, folded_to) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (surface) DO UPDATE SET schema_version = excluded.schema_version, seq = excluded.seq,"
        " tick = excluded.tick, folded_to = excluded.folded_to",
        [surface, engine.schema.version, engine.seq, engine.tick, datetime.fromtimestamp(engine.time, UTC)],
    )
    grown = {
        family: (segments, size)
        for family, segments, size in connection.execute(
            "SELECT family, count(*), sum(length(body)) FROM fold_segments WHERE surface = %s AND NOT whole"
            " GROUP BY family",
            [surface],
        )
    }
    for family, dtype, dirty in _changed(engine):
        if not len(dirty):
            continue
        total = len(engine.users.rows) if family == USERS else engine.counters[family].size
        segments, size = grown.get(family, (0, 0))
        whole = segments >= SEGMENTS or size > max(total * dtype.itemsize, MEGABYTE)
        if whole:
            connection.execute("DELETE FROM fold_segments WHERE surface = %s AND family = %s", [surface, family])
        rows = np.arange(total) if whole else dirty
        most = max(1, PART_BYTES // dtype.itemsize)
        for part, start in enumerate(range(0, len(rows), most)):
            body = _pack(engine, family, dtype, rows[start : start + most]).tobytes()
            connection.execute(
                "INSERT INTO fold_segments (surface, family, seq, part, whole, body) VALUES (%s, %s, %s, %s, %s, %b)",
                [surface, family, engine.seq, part, whole, body],
            )


def saved(engine: Engine) -> None:
    """Mark the state as saved: call it once the checkpoint's transaction has committed."""
    for counters in engine.counters.values():
        counters.dirty[:] = False
    engine.users.dirty[:] = False


def load(connection: psycopg.Connection, surface: str, declared: Features) -> Engine:
    """The engine as last checkpointed; an empty one where there is no checkpoint of this schema version."""
    engine = Engine(declared)
    stood = connection.execute(
        "SELECT schema_version, seq, extract(epoch FROM folded_to)::float8 FROM fold_positions WHERE surface = %s",
        [surface],
    ).fetchone()
    if stood is None or stood[0] != engine.schema.version:
        return engine
    engine.seq, engine.time = stood[1], stood[2]
    for family, dtype in _layouts(engine).items():
        # As bytes and not as text, and a segment at a time: all of them at once would take five times the state.
        with connection.transaction(), connection.cursor("fold_segments", binary=True) as segments:
            segments.itersize = 1
            segments.execute(
                "SELECT body FROM fold_segments WHERE surface = %s AND family = %s ORDER BY seq, part",
                [surface, family],
            )
            for (body,) in segments:
                _restore(engine, family, np.frombuffer(body, dtype=dtype))
    memory.give_back()
    return engine


def clear(connection: psycopg.Connection, surface: str) -> None:
    """Delete a surface's state, so that its log is folded again from the start. In the caller's transaction."""
    for table in ("fold_segments", "fold_positions"):
        connection.execute(f"DELETE FROM {table} WHERE surface = %s", [surface])  # noqa: S608


def _layouts(engine: Engine) -> dict[str, np.dtype[np.void]]:
    layouts = {
        name: np.dtype([("record", "<f8", (counters.records.shape[1],))]) for name, counters in engine.counters.items()
    }
    last, remembered = (engine.users.history,), (engine.users.columns, engine.users.history)
    layouts[USERS] = np.dtype(
        [("key", "<i8"), ("numbers", "<f8", (6,)), ("items", "<i8", last), ("remembered", "<i8", remembered)]
    )
    return layouts


def _changed(engine: Engine) -> Iterator[tuple[str, np.dtype[np.void], NDArray[np.int64]]]:
    """Each family with its layout and the rows (C,) changed since the last checkpoint."""
    for family, dtype in _layouts(engine).items():
        state = engine.users if family == USERS else engine.counters[family]
        yield family, dtype, np.flatnonzero(state.dirty)


def _pack(engine: Engine, family: str, dtype: np.dtype[np.void], rows: NDArray[np.int64]) -> NDArray[np.void]:
    packed = np.empty(len(rows), dtype=dtype)
    if family == USERS:
        users = engine.users
        packed["key"] = users.rows.keys_in_order[rows]
        packed["numbers"], packed["items"] = users.numbers[rows], users.items[rows]
        packed["remembered"] = users.remembered[rows]
    else:
        packed["record"] = engine.counters[family].records[rows]
    return packed


def _restore(engine: Engine, family: str, rows: NDArray[np.void]) -> None:
    if family != USERS:
        engine.counters[family].load(rows["record"], engine.time)
        return
    users = engine.users
    place = users.row_of(rows["key"].copy())
    users.numbers[place], users.items[place] = rows["numbers"], rows["items"]
    users.remembered[place] = rows["remembered"]
