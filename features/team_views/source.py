"""The table behind a view: its SQL relation, its columns and their types, and whether an index serves its look-ups."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.postgres import types as postgres_types

from features.declare.views import TeamView, ViewRefused

Kind = Literal["integer", "text"]

KEY_KINDS: Mapping[int, Kind] = {
    **{postgres_types[name].oid: "integer" for name in ("int2", "int4", "int8")},
    **{postgres_types[name].oid: "text" for name in ("text", "varchar")},
}
"""PostgreSQL's type codes that a key may be of."""

TIMESTAMPTZ = postgres_types["timestamptz"].oid
TIME_TYPES = {postgres_types[name].oid for name in ("timestamptz", "timestamp", "date")}

NUMERIC = postgres_types["numeric"].oid
NUMBER_TYPES = {
    postgres_types[name].oid: postgres_types[name].regtype
    for name in ("bool", "int2", "int4", "int8", "float4", "float8")
}
"""Type codes that a value of a team's view may be of, with their names in SQL."""

PLAIN = {
    *KEY_KINDS,
    *TIME_TYPES,
    *NUMBER_TYPES,
    postgres_types["bytea"].oid,
    *(postgres_types[name].array_oid for name in ("bool", "int2", "int4", "int8", "float4", "float8", "text")),
}
"""Type codes that ADBC reads into plain Arrow types."""

INDEXED_FROM = 10_000
"""Rows above which it is warned of a view without an index for its look-ups."""


class MissingIndexWarning(UserWarning):
    """Looking up a key's latest row reads the whole table. The message holds the statement to run."""


@dataclass(frozen=True)
class ViewSource:
    """What to join: the rows of a relation, by key, as of a time."""

    name: str
    relation: str
    """SQL for FROM, without an alias."""

    keys: tuple[str, ...]
    timestamp: str
    created: str | None
    values: tuple[str, ...]
    ttl: timedelta | None
    late: bool
    """Is a row unknown before it was created?"""

    index: str
    """The statement that makes the index the look-ups want."""


@dataclass(frozen=True)
class Described:
    """A source with the types of its columns."""

    source: ViewSource
    key_kinds: tuple[Kind, ...]
    types: Mapping[str, int]
    """PostgreSQL's type code of every column."""

    def plain(self, column: str) -> sql.Composable:
        """The column as SQL that reads into plain Arrow: numeric as float8, what has no Arrow type as text."""
        name = sql.Identifier(column)
        code = self.types[column]
        if code == NUMERIC:
            return sql.SQL("s.{}::float8").format(name)
        return sql.SQL("s.{}" if code in PLAIN else "s.{}::text").format(name)

    def literal(self, column: str, instant: Any) -> sql.Composable:
        """A time with a zone to compare ``column`` with: of the column's own type, so that an index serves."""
        text = instant.isoformat(sep=" ")
        if self.types[column] == TIMESTAMPTZ:
            return sql.SQL("{}::timestamptz").format(sql.Literal(text))
        return sql.SQL("{}::timestamptz AT TIME ZONE 'UTC'").format(sql.Literal(text))


def source_of(view: TeamView) -> ViewSource:
    """The rows of a team's view; what was created after a time is not known then."""
    return ViewSource(
        name=view.name,
        relation=view.relation,
        keys=tuple(view.keys),
        timestamp=view.timestamp,
        created=view.created,
        values=view.values,
        ttl=view.ttl,
        late=view.created is not None,
        index=view.index,
    )


def column_types(connection: psycopg.Connection, source: ViewSource) -> dict[str, int]:
    """PostgreSQL's type code of every column of the source's relation. Raises ViewRefused where one is missing."""
    try:
        with connection.transaction():
            # Not prepared: a prepared statement fails once the table's columns have changed.
            query = sql.SQL("SELECT * FROM {} AS s LIMIT 0").format(sql.SQL(source.relation))
            cursor = connection.execute(query, prepare=False)
    except psycopg.ProgrammingError as error:
        raise ViewRefused(f"view {source.name}: its table cannot be read: {str(error).splitlines()[0]}") from error
    types = {column.name: column.type_code for column in cursor.description or ()}
    wanted = [*source.keys, source.timestamp, *([source.created] if source.created else []), *source.values]
    missing = next((column for column in wanted if column not in types), None)
    if missing is not None:
        raise ViewRefused(f"view {source.name}: its table has no column {missing!r}; it has {', '.join(types)}")
    return types


def describe(connection: psycopg.Connection, source: ViewSource) -> Described:
    """Read the types of the source's columns.

    Raises ViewRefused where the relation or a column is missing, or a key or a time has a type that cannot be joined.
    """
    types = column_types(connection, source)
    for key in source.keys:
        if types[key] not in KEY_KINDS:
            raise ViewRefused(
                f"view {source.name}: key {key} is {_type_name(connection, types[key])}; a key must be an integer, text"
                " or varchar, or be cast to text (numeric, uuid, boolean, char, an enum): give a query that casts it,"
                f" such as SELECT {key}::text AS {key}, … and index that"
            )
    for column in filter(None, (source.timestamp, source.created)):
        if types[column] not in TIME_TYPES:
            raise ViewRefused(
                f"view {source.name}: {column} is {_type_name(connection, types[column])}; a time must be timestamptz,"
                " or timestamp or date, which are taken for UTC: give a query that makes one of it, such as SELECT"
                f" to_timestamp({column}) AS {column}, …"
            )
    return Described(source, tuple(KEY_KINDS[types[key]] for key in source.keys), types)


def expect_numbers(connection: psycopg.Connection, described: Described) -> None:
    """Raises ViewRefused where a value is no truth value, integer or float, nor was cast to one."""
    for value in described.source.values:
        if described.types[value] not in NUMBER_TYPES:
            name = _type_name(connection, described.types[value])
            raise ViewRefused(
                f"view {described.source.name}: value {value} is {name}, which is no number: leave it out, or give a"
                f" query in place of the table, such as SELECT {_as_number(value, name)} AS {value}, …"
            )


def _as_number(column: str, type_name: str) -> str:
    """SQL that makes a number of a column of a type that no cast fits."""
    if type_name.endswith("[]"):
        return f"cardinality({column})"
    if type_name.startswith("json"):
        return f"({column} ->> 'field')::float8"
    if type_name in ("text", "character varying", "character", "name"):
        return f"{column}::float8"
    if type_name == "money":
        return f"{column}::numeric"
    return f"({column} = 'one of them')::int" if type_name not in ("bytea", "uuid") else f"({column} IS NOT NULL)"


def lacks_index(connection: psycopg.Connection, described: Described) -> str | None:
    """The warning where no index serves the look-up of one key, None where one does or the table is small.

    Decided by what the planner would do if it had to avoid reading whole tables and sorting.
    """
    source = described.source
    rows = plan_of(connection, sql.SQL("SELECT 1 FROM {} AS s").format(sql.SQL(source.relation)))["Plan Rows"]
    if rows <= INDEXED_FROM:
        return None
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        connection.execute("SET LOCAL enable_bitmapscan = off")
        plan = plan_of(connection, one_key(described))
    if any(_serves(str(node.get("Index Cond", "")), len(source.keys)) for node in _nodes(plan)):
        return None
    return (
        f"view {source.name}: no index finds the latest of a key's about {rows:,} rows, so that every look-up reads"
        f" all of them; run: {source.index}"
    )


def warn_of_index(connection: psycopg.Connection, described: Described) -> None:
    """Warn (MissingIndexWarning) where :func:`lacks_index` finds none."""
    warning = lacks_index(connection, described)
    if warning is not None:
        warnings.warn(warning, MissingIndexWarning, stacklevel=3)


def one_key(described: Described) -> sql.Composable:
    """The look-up of one made-up key: for the planner to weigh."""
    source = described.source
    made_up = {"integer": sql.SQL("-4611686018427387904"), "text": sql.SQL("'no such key'")}
    alike = [
        sql.SQL("s.{} = {}").format(sql.Identifier(key), made_up[kind])
        for key, kind in zip(source.keys, described.key_kinds, strict=True)
    ]
    time = sql.Identifier(source.timestamp)
    return sql.SQL("SELECT s.{time} FROM {relation} AS s WHERE {alike} ORDER BY s.{time} DESC LIMIT 1").format(
        time=time,
        relation=sql.SQL(source.relation),
        alike=sql.SQL(" AND ").join([*alike, sql.SQL("s.{} <= 'infinity'").format(time)]),
    )


def plan_of(connection: psycopg.Connection, query: sql.Composable) -> dict[str, Any]:
    """The planner's uppermost node, with ``Total Cost`` and ``Plan Rows``."""
    row = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(query)).fetchone()
    assert row is not None
    found = row[0] if isinstance(row[0], list) else json.loads(row[0])
    plan: dict[str, Any] = found[0]["Plan"]
    return plan


def _serves(condition: str, keys: int) -> bool:
    """Does an index find the keys by equality first and then the time? Its columns' conditions stand in their order."""
    parts = condition.split(" AND ")
    return len(parts) > keys and all(" = " in part for part in parts[:keys]) and " <= " in parts[keys]


def _nodes(plan: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


def _type_name(connection: psycopg.Connection, code: int) -> str:
    row = connection.execute("SELECT format_type(%s, NULL)", [code]).fetchone()
    assert row is not None
    return str(row[0])
