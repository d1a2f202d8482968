"""Keys of entities made comparable with those of a view."""

import polars as pl
import pyarrow as pa

from features.declare.views import ViewRefused
from features.team_views.source import Kind


def comparable(column: pa.ChunkedArray, kind: Kind, name: str) -> pl.Series:
    """An entity's key as Int64 or String, whichever the view's is; null where it can equal none of the view's.

    Text stands for an integer in its plain form only ("7", not "07" or "7.0"), so that no two ids meet in one key.
    Floats must be whole: pandas makes them of integers beside nulls. Raises ViewRefused for any other type.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    given = column.type
    if pa.types.is_null(given):
        return pl.Series(name, [None] * len(column), dtype=pl.Int64 if kind == "integer" else pl.String)
    if isinstance(given, pa.BaseExtensionType):
        raise _unfit(name, given)
    series = pl.Series(name, pl.Series(column.combine_chunks()))
    if pa.types.is_floating(given):
        whole = series.fill_nan(None)
        if not (whole.floor() == whole).all():
            raise ViewRefused(f"{name} is {given} with a fraction; a key must be an integer or text")
        series = whole.cast(pl.Int64, strict=False)
    elif not (pa.types.is_integer(given) or series.dtype == pl.String):
        raise _unfit(name, given)
    if kind == "text":
        return series.cast(pl.String)
    if series.dtype != pl.String:
        return series.cast(pl.Int64, strict=False)
    number = series.cast(pl.Int64, strict=False)
    return pl.select(pl.when(number.cast(pl.String) == series).then(number)).to_series()


def _unfit(name: str, kind: pa.DataType) -> ViewRefused:
    return ViewRefused(f"{name} is {kind}; a key must be an integer or text: cast it to what the view's key is")
