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
    return replace(source, schema=entries_of(pl.DataFrame(schema=source.schema), log).schema)


def unrolled(batch: Batch, log: Log) -> Batch:
    """The entries of a batch's rows, each with the line of its row. A row whose lists have nothing, or not as many
    entries each, is none."""
    whole = are_whole(batch.rows, log.lists)
    odd = batch.rows.filter(~whole)
    counts = _lengths(odd, log.lists).rows()
    texts = json_objects(odd, odd.columns)
    bad = [
        BadLine(line, _reason(log.lists, own), text)
        for line, own, text in zip(batch.lines.filter(~whole), counts, texts, strict=True)
    ]
    rows = batch.rows.filter(whole)
    entries = rows.get_column(log.lists[0]).list.len()
    lines = pl.Series(batch.lines.filter(whole).to_numpy().repeat(entries.to_numpy()), dtype=pl.Int64)
    return Batch(batch.source, entries_of(rows, log), lines, [*batch.bad, *bad])


def are_whole(rows: pl.DataFrame, lists: Sequence[str]) -> pl.Series:
    """Which rows (N,) have entries in these lists, and as many in each."""
    lengths = _lengths(rows, lists)
    least = lengths.min_horizontal()
    return (least > 0) & (least == lengths.max_horizontal())


def entries_of(rows: pl.DataFrame, log: Log) -> pl.DataFrame:
    """A row for each entry of the lists of rows (N,) that are whole, with what the log lacks of a request's."""
    made = list[pl.Series | pl.Expr]()
    lists = list(log.lists)
    if log.request_id is None and "request_id" not in rows.columns:
        made.append(pl.Series("request_id", checksums(rows), dtype=pl.String))
    if log.position is None and "position" not in rows.columns:
        made.append(pl.int_ranges(0, pl.col(lists[0]).list.len(), dtype=pl.Int32).alias("position"))
        lists.append("position")
    return flat(rows.with_columns(made).explode(lists))


def _lengths(rows: pl.DataFrame, lists: Sequence[str]) -> pl.DataFrame:
    """Of each list of the rows (N, lists)."""
    return pl.DataFrame([rows.get_column(name).list.len().fill_null(0) for name in lists])


def _reason(lists: Sequence[str], counts: Sequence[int]) -> str:
    if not max(counts):
        return f"{lists[0]} is empty: nothing was shown"
    each = ", ".join(f"{name} {count}" for name, count in zip(lists, counts, strict=True))
    return f"lists of different lengths: {each}"
