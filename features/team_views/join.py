"""Views joined to entities point in time: their keys made comparable, the rows read, the latest known one taken.

with ArrowReader(url) as reader:
    joined = join_all(reader, [SourceJoin(source_of(view), keys=("user_id",))], entities, time="event_timestamp")
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from queue import SimpleQueue

import polars as pl
import pyarrow as pa

from features.declare.views import ViewRefused
from features.team_views.keys import comparable
from features.team_views.point_in_time import latest
from features.team_views.rows import AccessPath, ArrowReader, EntityKeys, no_rows, rows_for
from features.team_views.source import ViewSource, describe

MICROSECOND = timedelta(microseconds=1)

VIEWS_AT_ONCE = 2
"""Views joined at the same time: while one is read, another is put in order."""


@dataclass(frozen=True)
class SourceJoin:
    """A source and the entities' columns that stand for its keys."""

    source: ViewSource
    keys: tuple[str, ...]


def join_all(
    reader: ArrowReader,
    joins: Sequence[SourceJoin],
    entities: pa.Table,
    *,
    time: str,
    access: AccessPath | None = None,
) -> list[list[pa.ChunkedArray]]:
    """:func:`join` for several sources, some of them at once, over connections that they share."""
    idle: SimpleQueue[ArrowReader] = SimpleQueue()

    def one(each: SourceJoin) -> list[pa.ChunkedArray]:
        own = idle.get()
        try:
            return join(own, each, entities, time=time, access=access)
        finally:
            idle.put(own)

    with ExitStack() as opened:
        idle.put(reader)
        for _ in range(1, VIEWS_AT_ONCE):
            idle.put(opened.enter_context(reader.another()))
        with ThreadPoolExecutor(VIEWS_AT_ONCE) as pool:
            return list(pool.map(one, joins))


def join(
    reader: ArrowReader, each: SourceJoin, entities: pa.Table, *, time: str, access: AccessPath | None = None
) -> list[pa.ChunkedArray]:
    """The source's values as known to N entities, a column (N,) each, in the entities' order; null where nothing is.

    ``time`` is the entities' column of instants (with a zone, or UTC). An entity without a time or one of its keys
    knows nothing. ``access``: how the rows are read, where the planner's estimates shall not choose. Raises ViewRefused
    where the source or an entity's column cannot be joined.
    """
    source = each.source
    described = describe(reader.planner, source)
    at, at_least = _times(entities[time], time)
    keys = [f"k{place}" for place in range(len(each.keys))]
    parts = [
        comparable(entities[name], kind, f"view {source.name}: {name}").alias(key)
        for key, name, kind in zip(keys, each.keys, described.key_kinds, strict=True)
    ]
    entity = pl.DataFrame([*parts, at.alias("at")])
    spans = _spans(entity.drop_nulls(), keys)
    if spans.is_empty():
        rows = no_rows(reader, described)
    else:
        rows = rows_for(reader, described, EntityKeys(spans, source.ttl), access=access)
    values = [rows[f"v{place}"].combine_chunks() for place in range(len(source.values))]
    if "code" in rows.column_names:
        code = pl.Series(rows["code"])
    else:
        code = _codes(pl.DataFrame(rows.select([*keys, "at"])), keys, spans)
    history = pl.DataFrame(
        {
            "code": code,
            "at": _integers(rows["at"]),
            **({"created": _integers(rows["created"])} if source.created is not None else {}),
            **{f"v{place}": pl.Series(value) for place, value in enumerate(values) if _has_order(value)},
        }
    )
    known = pl.DataFrame({"code": _codes(entity, keys, spans), "at": at})
    found = latest(known, history, late=source.late)
    if source.ttl is not None:
        found_at = history["at"].gather(found)
        found = pl.select(pl.when(found_at >= at_least - source.ttl // MICROSECOND).then(found)).to_series()
    picks = found.to_arrow()
    return [pa.chunked_array([value.take(picks)]) for value in values]


def _spans(known: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The distinct keys, with the times of their first and last entity, and a number, the ``code``."""
    if not keys:
        spans = known.select(first=pl.col("at").min(), last=pl.col("at").max()).drop_nulls()
    else:
        spans = known.group_by(keys).agg(first=pl.col("at").min(), last=pl.col("at").max()).sort(keys)
    return spans.with_columns(code=pl.int_range(pl.len()))


def _codes(keyed: pl.DataFrame, keys: list[str], spans: pl.DataFrame) -> pl.Series:
    """The codes (N,) of the keys, null for a key that no entity has."""
    if not keys:
        return pl.repeat(0, keyed.height, dtype=pl.Int64, eager=True)
    return keyed.join(spans.select(*keys, "code"), on=keys, how="left", maintain_order="left")["code"]


def _has_order(value: pa.Array) -> bool:
    return not (pa.types.is_nested(value.type) or isinstance(value.type, pa.BaseExtensionType))


def _times(column: pa.ChunkedArray, name: str) -> tuple[pl.Series, pl.Series]:
    """Times (N,) in µs since 1970, rounded down and rounded up; null where there is none."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(column.type):
        raise ViewRefused(f"{name} is {column.type}; it must be a timestamp: the time to join as of")
    ticks = _integers(column)
    if column.type.unit != "ns":
        whole = ticks * {"s": 1_000_000, "ms": 1_000, "us": 1}[column.type.unit]
        return whole, whole
    return ticks // 1000, -(-ticks // 1000)


def _integers(column: pa.ChunkedArray) -> pl.Series:
    """Times (N,) as the integers they are stored as."""
    return pl.Series(pl.Series(column.cast(pa.int64()).combine_chunks()))
