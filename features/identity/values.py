"""Columns of values as canonical texts (:mod:`features.identity.canonical`): of a file of any type, of an object."""

import json
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import polars as pl

from features.identity.canonical import canonical, of_float
from infra.postgres.copying import json_objects

INSTANT_TEXT = "%Y-%m-%dT%H:%M:%S%.f"


def canonical_column(column: pl.Series) -> pl.Series:
    """The canonical text (N,) of each value of a column of a file, of any type."""
    # Methods of a series look it up by its name, and read a name like ^a.*$ as a pattern.
    return _canonical(column.alias("value")).alias(column.name)


def _canonical(column: pl.Series) -> pl.Series:
    dtype = column.dtype
    if dtype == pl.String or dtype == pl.Null or dtype.is_integer():
        return column.cast(pl.String)
    if dtype == pl.Binary:
        texts = [None if value is None else value.decode(errors="backslashreplace") for value in column]
        return pl.Series(texts, dtype=pl.String)
    if dtype == pl.Datetime:
        zoned = getattr(dtype, "time_zone", None) is not None
        utc = column.dt.convert_time_zone("UTC") if zoned else column
        return utc.dt.cast_time_unit("us").dt.to_string(INSTANT_TEXT + ("Z" if zoned else ""))
    if dtype == pl.Date:
        return column.dt.to_string("%Y-%m-%d")
    if dtype == pl.Time:
        return column.dt.to_string("%H:%M:%S%.f")
    if dtype == pl.Duration:
        # numpy divides; polars would multiply by a rounded millionth, which gives 1.1 s other digits.
        seconds = column.dt.total_microseconds().to_numpy() / 1e6
        return _canonical(pl.Series(seconds, dtype=pl.Float64, nan_to_null=True))
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    distinct = column.unique().drop_nulls()
    canon = pl.Series(_texts(distinct), dtype=pl.String)
    if dtype.is_nested():
        # A list cannot be looked up, so each value has its place instead.
        places = pl.DataFrame({"value": distinct, "text": canon})
        return column.to_frame().join(places, on="value", how="left", maintain_order="left")["text"]
    return column.replace_strict(distinct, canon, default=None, return_dtype=pl.String)


def canonical_rows(rows: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Of each row, these columns as the text of a JSON object of names and canonical texts."""
    canon = [canonical_column(rows.get_column(name)) for name in columns]
    return json_objects(pl.DataFrame(canon) if canon else rows, columns)


def _texts(distinct: pl.Series) -> list[str | None]:
    dtype = distinct.dtype
    if dtype == pl.Float64:
        return [of_float(value) for value in distinct]
    if dtype.is_float():
        narrow = np.float32 if dtype == pl.Float32 else np.float16
        return [of_float(value, narrow) for value in distinct]
    if isinstance(dtype, pl.Decimal):
        return [_of_decimal(value) for value in distinct]
    if dtype.is_nested():
        encoded = distinct.alias("value").to_frame().select(pl.struct("value").struct.json_encode()).to_series()
        return [canonical(json.loads(text)["value"]) for text in encoded]
    return [canonical(value) for value in distinct]


def _of_decimal(value: Decimal) -> str | None:
    if not value.is_finite():
        return None
    if value == value.to_integral_value():
        return str(int(value))
    near = repr(float(value))
    return near if Decimal(near) == value else format(value.normalize(), "f")
