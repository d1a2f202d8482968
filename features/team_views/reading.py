"""A team's views as serving reads them: the values of some candidates as of an instant.

    reader = ViewReader(inspect(connection, views))
    numbers = reader.read(connection, {"user_id": ["u7"], "item_id": ["a1", "a2"], "region": ["13"]}, as_of)

The same rows win as in a training frame; only the access path differs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from features.declare.views import TeamView, expect_apart, narrowed, view_columns
from features.team_views.casts import source_with_casts
from features.team_views.keys import comparable
from features.team_views.source import TIMESTAMPTZ, Described, describe, expect_numbers, warn_of_index


@dataclass(frozen=True)
class Inspected:
    """A team's view with its table as it is joined, cast where that is needed, and the types of that."""

    view: TeamView
    described: Described


def inspect(connection: psycopg.Connection, views: Sequence[TeamView]) -> tuple[Inspected, ...]:
    """Check the views against their tables. ``connection`` must commit by itself.

    Raises ViewRefused where one cannot be joined as it is declared, ValueError where two have one name; warns
    (MissingIndexWarning) where a large one has no index to look its keys up.
    """
    expect_apart(views)
    found = []
    for view in views:
        described = describe(connection, source_with_casts(connection, view))
        expect_numbers(connection, described)
        warn_of_index(connection, described)
        found.append(Inspected(view, described))
    return tuple(found)


class ViewReader:
    """Reads the views of a surface to serve. Holds no connection; any thread may read."""

    def __init__(self, inspected: Sequence[Inspected]) -> None:
        self._inspected = tuple(inspected)
        self._queries = [_query(each.described) for each in self._inspected]
        self.columns = view_columns([each.view for each in self._inspected])

    def read(
        self, connection: psycopg.Connection, known: Mapping[str, Sequence[str | None]], as_of: datetime
    ) -> NDArray[np.float32]:
        """The views' values (N, V) for N candidates as of ``as_of``, NaN where nothing is known.

        ``known`` holds texts by name: those of ``user_id``, ``item_id`` and keys of the context, each of N candidates,
        or one that all of them share; a name that is not there is null. Raises ValueError where ``as_of`` has no zone
        or the lengths differ, psycopg.Error as the database does. A query a view; one look-up a distinct key.
        """
        if as_of.tzinfo is None:
            raise ValueError(f"as_of = {as_of}: give it a time zone")
        lengths = {len(texts) for texts in known.values()} or {1}
        count = max(lengths)
        if not lengths <= {1, count}:
            raise ValueError(f"keys of candidates have {sorted(lengths)} values: give one of each, or {count}")
        read = np.full((count, len(self.columns)), np.nan, dtype=np.float32)
        start = 0
        for each, query in zip(self._inspected, self._queries, strict=True):
            stop = start + len(each.view.values)
            keys = _keys(each, known)
            distinct = list(dict.fromkeys(key for key in keys if None not in key))
            if distinct:
                parameters = {f"k{place}": list(column) for place, column in enumerate(zip(*distinct, strict=True))}
                # Not prepared: a prepared statement fails once the table's columns have changed.
                rows = connection.execute(query, parameters | {"as_of": as_of}, binary=True, prepare=False).fetchall()
                values = narrowed(
                    np.array(
                        [[np.nan if value is None else value for value in row[1:]] for row in rows], dtype=np.float64
                    )
                )
                places = {distinct[row[0] - 1]: place for place, row in enumerate(rows)}
                whose = np.array([places.get(key, -1) for key in keys])
                if len(rows):
                    read[:, start:stop] = np.where(whose[:, None] < 0, np.nan, values[whose])
            start = stop
        return read


def _keys(each: Inspected, known: Mapping[str, Sequence[str | None]]) -> list[tuple[int | str | None, ...]]:
    """The view's keys: of every candidate, or one for all."""
    columns = []
    for (column, name), kind in zip(each.view.keys.items(), each.described.key_kinds, strict=True):
        texts = pa.chunked_array([pa.array(known.get(name, [None]), pa.string())])
        columns.append(comparable(texts, kind, f"view {each.view.name}: {column}").to_list())
    count = max(map(len, columns))
    return list(zip(*(column if len(column) == count else column * count for column in columns), strict=True))


_LATEST = """
SELECT k.place, found.* FROM unnest({lists}) WITH ORDINALITY AS k ({names}, place)
CROSS JOIN LATERAL (
    SELECT {values} FROM {relation} AS s
    WHERE {alike} AND s.{time} <= {as_of} AND s.{time} > '-infinity' {fresh} {known}
    ORDER BY s.{time} DESC {then}
    LIMIT 1
) AS found
"""


def _query(described: Described) -> sql.Composed:
    """The latest row of each key: parameters ``k0`` … (lists) and ``as_of``."""
    source = described.source
    time = sql.Identifier(source.timestamp)
    types = [sql.SQL("int8[]" if kind == "integer" else "text[]") for kind in described.key_kinds]
    order = [*([source.created] if source.created else []), *source.values]
    fresh: sql.Composable = sql.SQL("")
    known: sql.Composable = sql.SQL("")
    if source.ttl is not None:
        fresh = sql.SQL("AND s.{} >= {} - {}::interval").format(
            time,
            _instant(described, source.timestamp),
            sql.Literal(f"{source.ttl // timedelta(microseconds=1)} microseconds"),
        )
    if source.late:
        assert source.created is not None
        known = sql.SQL("AND s.{0} <= {1} AND s.{0} > '-infinity'").format(
            sql.Identifier(source.created), _instant(described, source.created)
        )
    return sql.SQL(_LATEST).format(
        lists=sql.SQL(", ").join(
            sql.SQL("{}::{}").format(sql.Placeholder(f"k{place}"), kind) for place, kind in enumerate(types)
        ),
        names=sql.SQL(", ").join(sql.Identifier(f"k{place}") for place in range(len(types))),
        values=sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(value)) for value in source.values),
        relation=sql.SQL(source.relation.replace("%", "%%")),
        alike=sql.SQL(" AND ").join(
            sql.SQL("s.{} = k.{}").format(sql.Identifier(key), sql.Identifier(f"k{place}"))
            for place, key in enumerate(source.keys)
        ),
        time=time,
        as_of=_instant(described, source.timestamp),
        fresh=fresh,
        known=known,
        then=sql.SQL("").join(sql.SQL(", s.{} DESC NULLS LAST").format(sql.Identifier(name)) for name in order),
    )


def _instant(described: Described, column: str) -> sql.SQL:
    """The parameter ``as_of`` in the type of a time column, so that an index serves."""
    zoned = described.types[column] == TIMESTAMPTZ
    return sql.SQL("%(as_of)s::timestamptz" if zoned else "(%(as_of)s::timestamptz AT TIME ZONE 'UTC')")
