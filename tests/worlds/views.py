"""Small tables of views with entities, and the same join as a loop in plain Python: what every join must equal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

NOON = datetime(2025, 3, 30, 12, tzinfo=UTC)
"""A day on which clocks change in some zones."""

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Rows:
    """A view's table: rows of keys, event_timestamp, created, then values."""

    key_types: tuple[str, ...]
    rows: tuple[Row, ...]
    value_types: tuple[str, ...] = ("float8",)
    time_type: str = "timestamptz"
    created_type: str = "timestamptz"

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"key{place}" for place in range(len(self.key_types)))

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(f"value{place}" for place in range(len(self.value_types)))

    def write(self, connection: psycopg.Connection, table: str, *, index: bool = True) -> None:
        """Make the table anew."""
        columns = [
            *(f"{name} {kind}" for name, kind in zip(self.keys, self.key_types, strict=True)),
            f"event_timestamp {self.time_type}",
            f"created {self.created_type}",
            *(f"{name} {kind}" for name, kind in zip(self.values, self.value_types, strict=True)),
        ]
        connection.execute(f"DROP TABLE IF EXISTS {table}")
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        with connection.cursor() as cursor:
            cursor.executemany(
                sql.SQL("INSERT INTO {} VALUES ({})").format(
                    sql.Identifier(table), sql.SQL(", ").join([sql.Placeholder()] * len(columns))
                ),
                self.rows,
            )
        if index:
            connection.execute(f"CREATE INDEX ON {table} ({', '.join(self.keys)}, event_timestamp)")


def known_to(
    rows: Rows,
    entities: Sequence[tuple[tuple[Any, ...], datetime | None]],
    *,
    ttl: timedelta | None,
    created: bool,
    late: bool,
) -> list[Row]:
    """Of each entity (keys, time) the values that it may know: one row at a time, by the words of the declaration."""
    found = []
    for keys, at in entities:
        best: Row | None = None
        if at is not None and None not in keys:
            for row in rows.rows:
                better = best is None or _rank(row, rows, created) > _rank(best, rows, created)
                if better and _counts(row, rows, keys, at, late):
                    best = row
        if best is not None and ttl is not None and _utc(best[len(rows.keys)]) < at - ttl:  # type: ignore[operator]
            best = None
        found.append((None,) * len(rows.values) if best is None else best[len(rows.keys) + 2 :])
    return found


def _counts(row: Row, rows: Rows, keys: tuple[Any, ...], at: datetime, late: bool) -> bool:
    place = len(rows.keys)
    stamped, created = row[place], row[place + 1]
    if row[:place] != keys or stamped is None or _utc(stamped) > at:
        return False
    return not late or (created is not None and _utc(created) <= at)


def _rank(row: Row, rows: Rows, created: bool) -> tuple[Any, ...]:
    place = len(rows.keys)
    if row[place] is None:
        return (datetime.min.replace(tzinfo=UTC),)
    made = row[place + 1] if created else None
    values = [(value is not None, 0.0 if value is None else _number(value)) for value in row[place + 2 :]]
    return (_utc(row[place]), made is not None, _utc(made) if made else None, *values)


def _number(value: Any) -> float:
    return math.inf if isinstance(value, float) and math.isnan(value) else float(value)


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def entities_table(
    entities: Sequence[tuple[tuple[Any, ...], datetime | None]], types: Mapping[str, pa.DataType]
) -> pa.Table:
    """Entities as Arrow: a column a key, named and typed by ``types``, and ``event_timestamp``."""
    columns: dict[str, pa.Array] = {}
    for place, (name, kind) in enumerate(types.items()):
        texts = [keys[place] for keys, _ in entities]
        if pa.types.is_string(kind):
            texts = [None if text is None else str(text) for text in texts]
        columns[name] = pa.array(texts, kind)
    columns["event_timestamp"] = pa.array([at for _, at in entities], pa.timestamp("us", "UTC"))
    return pa.table(columns)


def same(ours: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> bool:
    """Row by row alike, NaN like NaN."""
    return [[_shown(value) for value in row] for row in ours] == [[_shown(value) for value in row] for row in theirs]


def _shown(value: Any) -> Any:
    return "nan" if isinstance(value, float) and math.isnan(value) else value
