"""A log whose rows are requests: lists of what was shown, and of what came of each, become a row for each entry.

    {"user_id": 7, "items": ["a", "b"], "clicked": [0, 1], "shown_at": ...}      Log(lists=("items", "clicked"))

The entries stand in the order shown: their places are the positions, where the log has none of its own; and they are
one request, called by a checksum of the row where it has no name.
"""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from features.declare.log import Log
from features.ingest.file_formats import BadLine, flat
from features.ingest.mapping import checksums
from features.ingest.sources import Batch, ImportRefused, Source, expect_columns
from infra.postgres.copying import json_objects

MADE = ("position", "request_id")
"""Columns that are made where the log has none."""


def unrolled_source(source: Source, log: Log) -> Source:
    """The log as it is unrolled, for its columns; it is read row by row all the same. Raises ImportRefused where a
    column that ``Log(lists=...)`` names is not there, or holds no lists."""
    expect_columns(source, log.lists)
    for name in log.lists:
        if not isinstance(source.schema[name], pl.List):
            raise ImportRefused(
                f"{source.name}: the column {name!r}, which Log(lists=...) names, holds {source.schema[name]} and no"
                " lists; take it from there, or write lists, as JSON lines and parquet can"
            )
    return replace(source, schema=entries_of(pl.DataFrame(schema=source.schema), log.lists, made=log).schema)


def unrolled(batch: Batch, log: Log) -> Batch:
    """The entries of a batch's rows, each with the line of its row. A row whose lists have nothing, or not as many
    entries each, is none."""
    sizes = [batch.rows.get_column(name).list.len().fill_null(0).cast(pl.Int64) for name in log.lists]
    least, most = (getattr(pl.DataFrame(sizes), f"{edge}_horizontal")() for edge in ("min", "max"))
    fit = (least == most) & (least > 0)
    odd = batch.rows.filter(~fit)
    texts = json_objects(odd, odd.columns)
    bad = [
        BadLine(line, _reason(log.lists, counts), text)
        for line, text, counts in zip(
            batch.lines.filter(~fit).to_list(), texts.to_list(), pl.DataFrame(sizes).filter(~fit).rows(), strict=True
        )
    ]
    entries = entries_of(batch.rows.filter(fit), log.lists, made=log)
    place = pl.DataFrame({"line": batch.lines.filter(fit), "size": most.filter(fit)})
    lines = place.select(pl.col("line").repeat_by("size").explode())["line"] if len(place) else batch.lines[:0]
    return Batch(batch.source, entries, lines, [*batch.bad, *bad])


def entries_of(rows: pl.DataFrame, lists: Sequence[str], made: Log) -> pl.DataFrame:
    """A row for each entry of rows whose lists are as long as each other; ``made``: of this log the names that are its
    own."""
    more = list[pl.Series | pl.Expr]()
    if made.request_id is None and "request_id" not in rows.columns:
        more.append(pl.Series("request_id", checksums(rows), dtype=pl.String))
    apart = list(lists)
    if made.position is None and "position" not in rows.columns:
        more.append(pl.int_ranges(0, pl.col(lists[0]).list.len(), dtype=pl.Int32).alias("position"))
        apart.append("position")
    return flat(rows.with_columns(more).explode(apart))


def _reason(lists: Sequence[str], counts: Sequence[int]) -> str:
    if not max(counts):
        return f"{lists[0]} is empty: nothing was shown"
    return (
        f"lists of different lengths: {', '.join(f'{name} {count}' for name, count in zip(lists, counts, strict=True))}"
    )
