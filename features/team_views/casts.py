"""What a team's columns are cast to, where their types are neither of those that keys are compared by nor numbers.

=========================================  =========================================================================
a key that is                              is the text
=========================================  =========================================================================
uuid, char(n), name, boolean, an enum      that PostgreSQL writes: ``true``, ``a0eebc99-…``, without trailing blanks
numeric                                    of its digits without trailing zeros: ``7.0`` as ``7``
=========================================  =========================================================================

=========================================  =========================================================================
a value that is                            is the number
=========================================  =========================================================================
numeric                                    itself; what no float32 holds, the largest there
date, timestamp (UTC), timestamptz         of days since 1970, with their fraction
interval, time                             of seconds
=========================================  =========================================================================

The casts stand in the relation that is joined, so that Feast's reads and serving's are of one expression. All else is
left as it is, for ``source.describe`` and ``source.expect_numbers`` to refuse by its name.
"""

from collections.abc import Mapping
from dataclasses import replace

import psycopg
from psycopg import sql
from psycopg.postgres import types as postgres_types

from features.declare.views import TeamView
from features.team_views.source import ViewSource, column_types, source_of

# A numeric may lie beyond float8, which would be an error; what is cut off here no float32 holds.
_NUMERIC = (
    "CASE WHEN abs({0}) < 1e39 THEN round({0}, 60)::float8"
    " WHEN {0}::text IN ('NaN', 'Infinity', '-Infinity') THEN {0}::text::float8"
    " WHEN {0} > 0 THEN 1e39::float8 WHEN {0} < 0 THEN -1e39::float8 END"
)

_SECONDS = "extract(epoch FROM {0})::float8"

VALUES: Mapping[int, str] = {
    postgres_types["numeric"].oid: _NUMERIC,
    **{postgres_types[name].oid: f"{_SECONDS} / 86400" for name in ("date", "timestamp", "timestamptz")},
    **{postgres_types[name].oid: _SECONDS for name in ("interval", "time")},
}
"""SQL of a value, a float8, by its type's code."""

AS_TEXT = "{0}::text"

KEYS: Mapping[int, str] = {
    **{postgres_types[name].oid: AS_TEXT for name in ("uuid", "bpchar", "name", "bool")},
    postgres_types["numeric"].oid: "trim_scale({0})::text",
}
"""SQL of a key, a text; an enum's has a code of its own in each database."""


def source_with_casts(connection: psycopg.Connection, view: TeamView) -> ViewSource:
    """The rows of a team's view, its keys and values cast where they can be. Raises ViewRefused where the table or a
    column is missing."""
    source = source_of(view)
    types = column_types(connection, source)
    enums = _enums(connection, {types[key] for key in source.keys})
    casts = {key: KEYS.get(types[key], AS_TEXT if types[key] in enums else "") for key in source.keys}
    casts |= {value: VALUES.get(types[value], "") for value in source.values}
    if not any(casts.values()):
        return source
    columns = [*source.keys, source.timestamp, *filter(None, (source.created,)), *source.values]
    selected = [_column(column, casts.get(column, "")) for column in columns]
    query = sql.SQL("(SELECT {} FROM {} AS s)").format(sql.SQL(", ").join(selected), sql.SQL(source.relation))
    keys = [f"({casts[key].format(_quoted(key))})" if casts[key] else _quoted(key) for key in source.keys]
    return replace(source, relation=query.as_string(connection), index=view.index_on(keys))


def _column(name: str, cast: str) -> sql.Composable:
    column = sql.SQL("s.{}").format(sql.Identifier(name))
    if not cast:
        return column
    return sql.SQL("{} AS {}").format(sql.SQL(cast).format(column), sql.Identifier(name))


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _enums(connection: psycopg.Connection, codes: set[int]) -> set[int]:
    """Which of these type codes are enums."""
    rows = connection.execute("SELECT oid FROM pg_type WHERE oid = ANY(%s) AND typtype = 'e'", [[*codes]]).fetchall()
    return {int(oid) for (oid,) in rows}
