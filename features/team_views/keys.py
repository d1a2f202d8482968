"""Keys of askers and of view rows made comparable, and numbered: equal keys get equal small numbers."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from features.declare.views import ViewRefused
from features.team_views.point_in_time import Int
from features.team_views.source import Kind

SPARSE = 8
"""Integer keys are looked up in an array that may be so many times longer than there are rows."""


def comparable(column: pa.ChunkedArray, kind: Kind, name: str) -> pl.Series:
    """An asker's key as Int64 or String, whichever the view's is; null where it can equal none of the view's.

    Text stands for an integer in its plain form only ("7", not "07" or "7.0"), so that no two ids meet in one key.
    Floats must be whole: pandas makes them of integers beside nulls. Raises ViewRefused for any other type.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    key_type = column.type
    if pa.types.is_null(key_type):
        return pl.Series(name, [None] * len(column), dtype=pl.Int64 if kind == "integer" else pl.String)
    if isinstance(key_type, pa.BaseExtensionType):
        raise _unfit(name, key_type)
    series = pl.Series(name, pl.Series(column.combine_chunks()))
    if pa.types.is_floating(key_type):
        whole = series.fill_nan(None)
        if not (whole.floor() == whole).all():
            raise ViewRefused(f"{name} is {key_type} with a fraction; a key must be an integer or text")
        series = whole.cast(pl.Int64, strict=False)
    elif not (pa.types.is_integer(key_type) or series.dtype == pl.String):
        raise _unfit(name, key_type)
    if kind == "text":
        return series.cast(pl.String)
    if series.dtype != pl.String:
        return series.cast(pl.Int64, strict=False)
    number = series.cast(pl.Int64, strict=False)
    return pl.select(pl.when(number.cast(pl.String) == series).then(number)).to_series()


def numbers(keys: Sequence[pl.Series], known: Sequence[pl.Series]) -> tuple[Int, int]:
    """For N composite keys their number (N,), -1 for one that ``known`` does not have; and how many numbers there are.

    Both are the parts of keys, column by column. The number depends on ``known`` alone. Parts are numbered one by one
    and the numbers put together, so that (1, 23) and (12, 3) stay apart.
    """
    number, count = np.zeros(len(keys[0]) if keys else 0, dtype=np.int64), 1
    whole = np.zeros(len(known[0]) if known else 0, dtype=np.int64)
    for part, known_part in zip(keys, known, strict=True):
        distinct = known_part.unique().sort()
        own, found = _places(known_part, distinct), _places(part, distinct)
        missing = (number < 0) | (found < 0)
        whole, number = whole * len(distinct) + own, number * len(distinct) + found
        number[missing] = -1
        seen = pl.Series(whole).unique().sort()  # numbered again, lest many parts outgrow 64 bits
        whole, number = _places(pl.Series(whole), seen), _places(pl.Series(number), seen)
        count = len(seen)
    return number, count


def _places(values: pl.Series, distinct: pl.Series) -> Int:
    """Where each value (N,) stands in ``distinct`` (sorted), -1 where it does not or is null."""
    if not len(distinct):
        return np.full(len(values), -1, dtype=np.int64)
    if distinct.dtype == pl.Int64:
        low, high = int(distinct[0]), int(distinct[-1])
        if high - low < SPARSE * (len(values) + len(distinct)):
            table = np.full(high - low + 2, -1, dtype=np.int64)
            table[distinct.to_numpy() - low] = np.arange(len(distinct))
            plain = values.fill_null(low).to_numpy()
            place = table[np.where((plain >= low) & (plain <= high), plain - low, high - low + 1)]
            if values.has_nulls():
                place[values.is_null().to_numpy()] = -1
            return place
    numbered = pl.DataFrame({"value": distinct, "place": np.arange(len(distinct))})
    found = values.alias("value").to_frame().join(numbered, on="value", how="left", maintain_order="left")
    return found["place"].fill_null(-1).to_numpy().astype(np.int64)


def _unfit(name: str, kind: pa.DataType) -> ViewRefused:
    return ViewRefused(f"{name} is {kind}; a key must be an integer or text: cast it to what the view's key is")
