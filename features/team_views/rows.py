"""The rows of a view that can matter to some entities, read from PostgreSQL into Arrow.

Two access paths, whichever the planner thinks cheaper: *the scan*, all rows up to the last entity (and from the first
one's TTL on), or *look-ups*, for each key only from the row that was known at its first entity to its last entity.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import polars as pl
import psycopg
import pyarrow as pa
from psycopg import sql

from features.team_views.source import TIMESTAMPTZ, Described, one_key, plan_of, warn_of_index
from infra.addresses import conninfo

AccessPath = Literal["scan", "look-ups"]

TRANSFER = 0.3
"""What a row costs to bring here and join, in the planner's units (1: reading a page)."""

LOOK_UPS = 2
"""Descents of the index that a key takes: for the row before its first entity, and for those since."""

KEYS_TABLE = "millrace_keys"
"""The temporary table of the keys to look up."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class EntityKeys:
    """The distinct keys of the entities, with the span of their entities' times, µs since 1970."""

    keys: pl.DataFrame
    """Columns ``k0``, ``k1``, … (Int64 or String, without null), ``code``, ``first``, ``last``."""

    ttl: timedelta | None

    @property
    def first(self) -> int:
        """The time of the first entity."""
        return int(self.keys.select(pl.col("first").min()).item())

    @property
    def last(self) -> int:
        """The time of the last entity."""
        return int(self.keys.select(pl.col("last").max()).item())


class ArrowReader:
    """Reads from one database; a connection for the planner and one for the rows, each opened when first used."""

    def __init__(self, url: str, **session: str) -> None:
        self._url = url
        self._session = session
        self._planner: psycopg.Connection | None = None
        self._arrow: Any = None

    def __enter__(self) -> "ArrowReader":
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self._planner, self._arrow):
            if connection is not None:
                connection.close()

    def another(self) -> "ArrowReader":
        """A reader of the same database, with connections of its own."""
        return ArrowReader(self._url, **self._session)

    @property
    def planner(self) -> psycopg.Connection:
        """For queries about types and plans; commits by itself."""
        if self._planner is None:
            self._planner = psycopg.connect(conninfo(self._url, **self._session), autocommit=True)
        return self._planner

    def read(self, query: sql.Composable | str) -> pa.Table:
        """The rows of a SELECT. Raises psycopg.Error as psycopg itself would."""
        text = query if isinstance(query, str) else query.as_string()
        with _as_psycopg(), self._cursor() as cursor:
            cursor.execute(text)
            return cursor.fetch_arrow_table()

    def put(self, name: str, table: pa.Table) -> None:
        """Make a temporary table; one of that name is replaced."""
        with _as_psycopg(), self._cursor() as cursor:
            cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)).as_string())
            cursor.adbc_ingest(name, table, mode="create", temporary=True)
            cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(name)).as_string())

    def _cursor(self) -> Any:
        if self._arrow is None:
            from adbc_driver_postgresql import dbapi

            self._arrow = dbapi.connect(conninfo(self._url, **self._session), autocommit=True)
        return self._arrow.cursor()


@contextmanager
def _as_psycopg() -> Iterator[None]:
    """Raise the driver's errors as psycopg's: those of the server by their SQLSTATE, a lost server as operational."""
    import adbc_driver_manager

    try:
        yield
    except adbc_driver_manager.Error as error:
        try:
            kind = psycopg.errors.lookup(error.sqlstate or "")
        except KeyError:
            kind = psycopg.OperationalError
        raise kind(str(error)) from error


def rows_for(
    reader: ArrowReader, described: Described, wanted: EntityKeys, *, access: AccessPath | None = None
) -> pa.Table:
    """Rows of the view that may count for ``wanted``: columns ``code`` or ``k0`` …, ``at``, ``created``, ``v0`` ….

    ``access`` is chosen by the planner's estimate where it is not given; warns (MissingIndexWarning) where look-ups
    want an index.
    """
    if access is None:
        warn_of_index(reader.planner, described)
        access = cheaper(reader.planner, described, wanted)
    if access == "scan":
        return reader.read(_scan(described, wanted))
    source = described.source
    # Of the very type of the view's own times, so that its index serves.
    times = pa.timestamp("us", "UTC" if described.types[source.timestamp] == TIMESTAMPTZ else None)
    spans = wanted.keys.with_columns(oldest=pl.col("first") - _microseconds(wanted.ttl or timedelta(0)))
    keys = spans.to_arrow()
    for name in ("first", "last", "oldest"):
        keys = keys.set_column(keys.column_names.index(name), name, keys[name].cast(times))
    for place in range(len(source.keys)):
        if keys[f"k{place}"].type == pa.large_string():
            keys = keys.set_column(place, f"k{place}", keys[f"k{place}"].cast(pa.string()))
    reader.put(KEYS_TABLE, keys)
    return reader.read(_look_ups(described, wanted.ttl is not None))


def cheaper(connection: psycopg.Connection, described: Described, wanted: EntityKeys) -> AccessPath:
    """The access path that the planner's estimates favour."""
    whole = plan_of(connection, _scan(described, wanted))
    one = plan_of(connection, one_key(described))
    scan = whole["Total Cost"] + TRANSFER * whole["Plan Rows"]
    look_ups = len(wanted.keys) * (LOOK_UPS * one["Total Cost"] + TRANSFER)
    return "scan" if scan < look_ups else "look-ups"


def no_rows(reader: ArrowReader, described: Described) -> pa.Table:
    """No row, in the types of :func:`rows_for`."""
    columns = _columns(described, _key_columns(described))
    return reader.read(
        sql.SQL("SELECT {} FROM {} AS s WHERE false").format(columns, sql.SQL(described.source.relation))
    )


def _scan(described: Described, wanted: EntityKeys) -> sql.Composable:
    """All rows that can count for any entity."""
    source = described.source
    time = sql.Identifier(source.timestamp)
    last = EPOCH + timedelta(microseconds=wanted.last)
    bounds: list[sql.Composable] = [
        sql.SQL("s.{} <= {}").format(time, described.literal(source.timestamp, last)),
        sql.SQL("s.{} > '-infinity'").format(time),
    ]
    if wanted.ttl is not None:
        oldest = EPOCH + timedelta(microseconds=wanted.first) - wanted.ttl
        bounds.append(sql.SQL("s.{} >= {}").format(time, described.literal(source.timestamp, oldest)))
    if source.late:
        assert source.created is not None
        created = sql.Identifier(source.created)
        bounds.append(sql.SQL("s.{} <= {}").format(created, described.literal(source.created, last)))
        bounds.append(sql.SQL("s.{} > '-infinity'").format(created))
    return sql.SQL("SELECT {} FROM {} AS s WHERE {}").format(
        _columns(described, _key_columns(described)),
        sql.SQL(source.relation),
        sql.SQL(" AND ").join(bounds),
    )


_LOOK_UPS = """
SELECT k.code, found.* FROM {keys} AS k
CROSS JOIN LATERAL (
    SELECT {columns} FROM {relation} AS s
    WHERE {alike} AND s.{time} <= k.last AND s.{time} > '-infinity' {fresh} {known_by_last}
      AND s.{time} >= coalesce(
          (SELECT s.{time} FROM {relation} AS s WHERE {alike} AND s.{time} <= k.first {fresh} {known_by_first}
           ORDER BY s.{time} DESC LIMIT 1), '-infinity')
    OFFSET 0
) AS found
"""
"""A row older than the latest that a key's first entity knows can win for none of its entities. OFFSET prevents the
planner from joining the whole table by a hash, whatever it makes of the number of keys."""


def _look_ups(described: Described, limited: bool) -> sql.Composable:
    source = described.source
    time = sql.Identifier(source.timestamp)
    known: dict[str, sql.Composable] = {name: sql.SQL("") for name in ("first", "last")}
    if source.late:
        assert source.created is not None
        created, naive = sql.Identifier(source.created), described.types[source.created] != TIMESTAMPTZ
        for name in known:
            # The keys' times have the type of the view's times; the two columns may differ in theirs.
            bound: sql.Composable = sql.SQL("k.{}").format(sql.Identifier(name))
            if naive != (described.types[source.timestamp] != TIMESTAMPTZ):
                bound = sql.SQL("({} AT TIME ZONE 'UTC')").format(bound)
            known[name] = sql.SQL("AND s.{0} <= {1} AND s.{0} > '-infinity'").format(created, bound)
    alike: list[sql.Composable] = [
        sql.SQL("s.{} = k.{}").format(sql.Identifier(key), sql.Identifier(f"k{place}"))
        for place, key in enumerate(source.keys)
    ]
    return sql.SQL(_LOOK_UPS).format(
        keys=sql.Identifier(KEYS_TABLE),
        columns=_columns(described, []),
        relation=sql.SQL(source.relation),
        alike=sql.SQL(" AND ").join(alike or [sql.SQL("true")]),
        time=time,
        fresh=sql.SQL("AND s.{} >= k.oldest").format(time) if limited else sql.SQL(""),
        known_by_last=known["last"],
        known_by_first=known["first"],
    )


def _key_columns(described: Described) -> Sequence[sql.Composable]:
    return [
        sql.SQL("s.{}{} AS {}").format(
            sql.Identifier(key), sql.SQL("::int8" if kind == "integer" else ""), sql.Identifier(f"k{place}")
        )
        for place, (key, kind) in enumerate(zip(described.source.keys, described.key_kinds, strict=True))
    ]


def _columns(described: Described, keys: Sequence[sql.Composable]) -> sql.Composable:
    """Keys, then time, creation (null where infinite) and values, under plain names."""
    source = described.source
    columns: list[sql.Composable] = [*keys, sql.SQL("{} AS at").format(_zoned(described, source.timestamp))]
    if source.created is not None:
        columns.append(
            sql.SQL("CASE WHEN isfinite(s.{}) THEN {} END AS created").format(
                sql.Identifier(source.created), _zoned(described, source.created)
            )
        )
    columns += [
        sql.SQL("{} AS {}").format(described.plain(value), sql.Identifier(f"v{place}"))
        for place, value in enumerate(source.values)
    ]
    return sql.SQL(", ").join(columns)


def _zoned(described: Described, column: str) -> sql.Composable:
    """A time as timestamptz; without a zone it is UTC."""
    name = sql.Identifier(column)
    if described.types[column] == TIMESTAMPTZ:
        return sql.SQL("s.{}").format(name)
    return sql.SQL("(s.{}::timestamp AT TIME ZONE 'UTC')").format(name)


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
