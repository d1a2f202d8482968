"""A surface's columns in the rows of a log: what values they have, and rows that have another.

    for column in common(shown, surface.features.columns): ...
    changed = with_value(shown, column, rows, "new")

A value is looked for as an update finds it: with the impression first, then with what the log knows of its item or
user.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counters.event_values import number_of, values_in
from features.declare.columns import Column, Id, Number, Tags
from features.identity.canonical import canonical
from features.log.json_texts import objects_of

COMMON = 0.05
"""Share of the impressions from which a value is common."""

SOURCES: Mapping[str, tuple[str, ...]] = {
    "request": ("context",),
    "item": ("context", "attributes"),
    "user": ("context", "user_attributes"),
}
"""Where a column of each owner is looked for, in order."""

Rows = NDArray[np.bool_]


def values(shown: pl.DataFrame, column: Column) -> list[tuple[Any, ...]]:
    """The values of each impression [N]: of an ``Id`` one, of a bag several, of a ``Number`` a float; none where
    nothing is known."""
    found: list[tuple[Any, ...]] = [()] * len(shown)
    for source in SOURCES[column.of]:
        objects, code = objects_of(shown[source])
        known = [_read(column, each.get(column.column)) for each in objects]
        found = [own or known[place] for own, place in zip(found, code, strict=True)]
    return found


def _read(column: Column, value: object) -> tuple[Any, ...]:
    if isinstance(column, Number):
        number = number_of(value)
        return () if np.isnan(number) else (number,)
    if isinstance(column, Id):
        text = canonical(value)
        return () if text is None else (text,)
    return tuple(values_in(column, value))


def common_values(shown: pl.DataFrame, column: Column) -> list[str]:
    """The values that ``COMMON`` of the impressions or more have, the most frequent first."""
    counts = Counter(value for row in values(shown, column) for value in row)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    return [value for value, count in ordered if count >= COMMON * len(shown)]


def having(shown: pl.DataFrame, column: Column, value: str) -> Rows:
    """Which impressions [N] have the value."""
    return np.array([value in row for row in values(shown, column)], dtype=bool)


def widest(shown: pl.DataFrame, columns: Sequence[Column], fewest: int = 2) -> Column | None:
    """The ``Id`` or ``Tags`` column with the most common values, at least ``fewest``: one of the request if there is
    one, else of the user, else of the item."""
    for owner in ("request", "user", "item"):
        own = [column for column in columns if column.of == owner and isinstance(column, Id | Tags)]
        counts = {column: len(common_values(shown, column)) for column in own}
        wide = [column for column in own if counts[column] >= fewest]
        if wide:
            return max(wide, key=lambda column: (counts[column], column.name))
    return None


def with_value(shown: pl.DataFrame, column: Column, rows: Rows, value: object) -> pl.DataFrame:
    """The impressions with another value of a column where ``rows`` [N] says so: written where the log has the column,
    or else where it would have it."""
    sources = SOURCES[column.of]
    source = next((name for name in sources if _has(shown[name], column)), sources[-1])
    objects, code = objects_of(shown[source])
    changed = [json.dumps({**each, column.column: value}) for each in objects]
    now = pl.Series([changed[place] for place in code], dtype=pl.String)
    return shown.with_columns(pl.when(pl.Series(rows)).then(now).otherwise(pl.col(source)).alias(source))


def _has(texts: pl.Series, column: Column) -> bool:
    return any(each.get(column.column) is not None for each in objects_of(texts)[0])
