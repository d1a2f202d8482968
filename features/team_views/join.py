"""Views joined to askers point in time: the askers' keys made comparable, the rows read, the latest known one taken.

with Reader(url) as reader:
    joined = join_all(reader, [Wanted(source_of(view), keys=("user_id",))], askers, time="event_timestamp")
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from queue import SimpleQueue

import numpy as np
import polars as pl
import pyarrow as pa

from features.declare.views import ViewRefused
from features.team_views.keys import comparable, numbers
from features.team_views.point_in_time import Int, SortedView, latest
from features.team_views.rows import Reader, WantedKeys, Way, nothing, rows_for
from features.team_views.source import Source, describe

MICROSECOND = timedelta(microseconds=1)

VIEWS_AT_ONCE = 2
"""Views joined at the same time: while one is read, another is put in order."""


@dataclass(frozen=True)
class Wanted:
    """A source and the askers' columns that stand for its keys."""

    source: Source
    keys: tuple[str, ...]


def join_all(
    reader: Reader, wanted: Sequence[Wanted], askers: pa.Table, *, time: str, way: Way | None = None
) -> list[list[pa.ChunkedArray]]:
    """:func:`join` for several sources, some of them at once, over connections that they share."""
    idle: SimpleQueue[Reader] = SimpleQueue()

    def one(each: Wanted) -> list[pa.ChunkedArray]:
        own = idle.get()
        try:
            return join(own, each.source, askers, keys=each.keys, time=time, way=way)
        finally:
            idle.put(own)

    with ExitStack() as opened:
        idle.put(reader)
        for _ in range(1, VIEWS_AT_ONCE):
            idle.put(opened.enter_context(reader.another()))
        with ThreadPoolExecutor(VIEWS_AT_ONCE) as pool:
            return list(pool.map(one, wanted))


def join(
    reader: Reader,
    source: Source,
    askers: pa.Table,
    *,
    keys: Sequence[str],
    time: str,
    way: Way | None = None,
) -> list[pa.ChunkedArray]:
    """The source's values as known to N askers, a column (N,) each, in the askers' order; null where nothing is.

    ``keys`` are the askers' columns that stand for ``source.keys``, ``time`` that of their instants (with a zone, or
    UTC). An asker without a time or one of its keys knows nothing. Raises ViewRefused where the source or an asker's
    column cannot be joined.
    """
    described = describe(reader.planner, source)
    at, at_least = _times(askers[time], time)
    named = [
        comparable(askers[name], kind, f"view {source.name}: {name}").alias(f"k{place}")
        for place, (name, kind) in enumerate(zip(keys, described.key_kinds, strict=True))
    ]
    asking = pl.DataFrame([*named, pl.Series("at", at)])
    parts = [column.name for column in named]
    spans = _spans(asking.drop_nulls(), parts)
    if spans.is_empty():
        rows = nothing(reader, described)
    else:
        rows = rows_for(reader, described, WantedKeys(spans, source.ttl), way=way)
    known = spans.get_columns()[: len(parts)]
    asker = _numbered(asking, known, len(spans))
    if at.has_nulls():
        asker[at.is_null().to_numpy()] = -1
    if "code" in rows.column_names:
        # Numbered before the database looked them up: from their places to the numbers that the askers have.
        code = _numbered(spans, known, len(spans))[rows["code"].to_numpy()]
    else:
        code = _numbered(pl.DataFrame(rows.select([*parts, "at"])), known, len(spans))
        rows, code = rows.filter(pa.array(code >= 0)), code[code >= 0]
    values = [rows[f"v{place}"].combine_chunks() for place in range(len(source.values))]
    history = SortedView(
        code=code,
        at=_integers(rows["at"]).to_numpy().astype(np.int64, copy=False),
        created=_integers(rows["created"]) if source.created is not None else pl.Series(dtype=pl.Int64),
        values=_sortable(values),
        late=source.late,
    )
    oldest = None if source.ttl is None else at_least - source.ttl // MICROSECOND
    found = latest(asker, at.fill_null(0).to_numpy(), history, oldest)
    picks = pa.array(found, mask=found < 0)
    return [pa.chunked_array([value.take(picks)]) for value in values]


def _spans(known: pl.DataFrame, parts: list[str]) -> pl.DataFrame:
    """The distinct keys, with the times of their first and last asker, and a code: their place."""
    if not parts:
        spans = known.select(first=pl.col("at").min(), last=pl.col("at").max()).drop_nulls()
    else:
        spans = known.group_by(parts).agg(first=pl.col("at").min(), last=pl.col("at").max()).sort(parts)
    return spans.with_columns(code=pl.int_range(pl.len()))


def _numbered(keyed: pl.DataFrame, known: list[pl.Series], spans: int) -> Int:
    """A number for the key of each row (N,), -1 for a key that nobody asks for."""
    if not known:
        return np.full(len(keyed), 0 if spans else -1, dtype=np.int64)
    return numbers([keyed[part.name] for part in known], known)[0]


def _sortable(values: list[pa.Array]) -> pl.DataFrame:
    """The values that have an order."""
    return pl.DataFrame(
        [
            pl.Series(f"v{place}", pl.Series(value))
            for place, value in enumerate(values)
            if not (pa.types.is_nested(value.type) or isinstance(value.type, pa.BaseExtensionType))
        ]
    )


def _times(column: pa.ChunkedArray, name: str) -> tuple[pl.Series, Int]:
    """Times (N,) in µs since 1970, rounded down (null where there is none) and rounded up (0 where there is none)."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(column.type):
        raise ViewRefused(f"{name} is {column.type}; it must be a timestamp: the time to join as of")
    ticks = _integers(column)
    if column.type.unit != "ns":
        whole = ticks * {"s": 1_000_000, "ms": 1_000, "us": 1}[column.type.unit]
        return whole, whole.fill_null(0).to_numpy()
    return ticks // 1000, -(-ticks.fill_null(0).to_numpy() // 1000)


def _integers(column: pa.ChunkedArray) -> pl.Series:
    """Times (N,) as the integers they are stored as."""
    return pl.Series(pl.Series(column.cast(pa.int64()).combine_chunks()))
