"""The identity of a value: its canonical text. Two values are one id where this gives one text, by whatever way they
came: in a file of any type, over HTTP, as JSON, or read back from the log.

=====================================  ===============================================================
value                                  canonical text
=====================================  ===============================================================
text, category                         as it is
bytes                                  the text they are in UTF-8; a byte that is none as ``\\xff``
true, false                            ``true``, ``false``
integer                                its digits
float or decimal that is whole         the digits of the integer: 1, 1.0, "1" and -0.0 as ``0`` (floats up to 2^53)
other float                            the shortest that reads back the same, at its own precision: ``0.1``
other decimal                          the same as the float, where that is exact; else all its digits
date, time                             ``2026-01-31``, ``12:30:00``
instant                                ``2026-01-31T12:30:00Z`` in UTC, without Z where it has no zone; a fraction
                                       where there is one, of 3 or 6 digits
span of time                           its seconds
list, object                           compact JSON, names in order, whole numbers without a point
null, NaN, infinity                    absent
=====================================  ===============================================================
"""

import json
import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import polars as pl

from infra.postgres.copying import json_objects

EXACT = 2**53
"""Beyond it a float no longer holds every whole number."""

INSTANT_TEXT = "%Y-%m-%dT%H:%M:%S%.f"


def canonical(value: object) -> str | None:
    """The canonical text of a value as Python has it after JSON; None where it is absent."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _of_float(value)
    if isinstance(value, list | dict):
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return str(value)


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
        return [_of_float(value) for value in distinct]
    if dtype.is_float():
        narrow = np.float32 if dtype == pl.Float32 else np.float16
        return [_of_float(value, narrow) for value in distinct]
    if isinstance(dtype, pl.Decimal):
        return [_of_decimal(value) for value in distinct]
    if dtype.is_nested():
        encoded = distinct.alias("value").to_frame().select(pl.struct("value").struct.json_encode()).to_series()
        return [canonical(json.loads(text)["value"]) for text in encoded]
    return [canonical(value) for value in distinct]


def _of_float(value: float, narrow: type[np.floating] = np.float64) -> str | None:
    if not math.isfinite(value):
        return None
    if abs(value) <= EXACT and value == int(value):
        return str(int(value))
    # What a narrow column holds is the nearest to what was meant, which is the shortest text that reads back as it.
    return repr(value if narrow is np.float64 else float(str(narrow(value))))


def _of_decimal(value: Decimal) -> str | None:
    if not value.is_finite():
        return None
    if value == value.to_integral_value():
        return str(int(value))
    near = repr(float(value))
    return near if Decimal(near) == value else format(value.normalize(), "f")


def _plain(value: object) -> object:
    """What JSON says of a value inside a list or an object, in one spelling."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if abs(value) <= EXACT and value == int(value) else value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value
