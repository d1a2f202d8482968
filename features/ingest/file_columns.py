"""From the columns of somebody's file to those of the log: each a value, and the reason where it has the wrong type.

Files differ in harmless ways that are taken as they are meant: ids as whole numbers or texts, whole numbers as floats
(what pandas makes of a column with a gap), truth as 0 and 1, times as texts with a zone.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from features.identity.canonical import EXACT as EXACT_DOUBLE
from features.log.event_checks import because
from infra.postgres.copying import INSTANT, DataType

EXACT_INTEGERS: dict[DataType, int] = {pl.Float16(): 2**11, pl.Float32(): 2**24, pl.Float64(): EXACT_DOUBLE}
"""Beyond it a float no longer holds every whole number, so an id may have been changed."""

YEARS = datetime(1, 1, 1), datetime(9999, 12, 31)  # noqa: DTZ001
"""Of what is called a time at all; beyond them not every library can show one."""

ZONED = r"[T ]\d{2}:\d{2}:\d{2}(\.\d+)?\s?(Z|UTC|GMT|[+-]\d{2}(:?\d{2})?)$"
NAIVE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$"
NAIVE_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
NUMERIC = r"^\d{9,19}(\.\d+)?$"

UNITS = ((10**11, 10**6), (10**14, 10**3), (10**17, 1))
"""Sizes below which a number counts seconds, milliseconds, microseconds since 1970, and how many microseconds each is;
larger ones are nanoseconds. Seconds below the first are those up to the year 5138."""

YEAR_1990 = 631_152_000
"""In seconds: smaller numbers are no times."""

TRUTHS = {"true": "1", "yes": "1", "y": "1", "t": "1", "false": "0", "no": "0", "n": "0", "f": "0"}
"""Words for true and false, in lower case, as digits."""


@dataclass(frozen=True)
class LogColumn:
    """A column of the file as the log has it."""

    value: pl.Expr
    wrong: pl.Expr
    """Why what stands there cannot be taken; null where it can, and where nothing stands."""


def identifier(name: str, dtype: DataType) -> LogColumn:
    """Text; a whole number as its digits. NaN counts as nothing."""
    source = pl.col(name)
    wrong = f"{name} is neither text nor a whole number"
    if dtype.is_float():
        source = source.fill_nan(None)
        whole = (source == source.round()) & (source.abs() <= EXACT_INTEGERS[dtype])
        return LogColumn(
            pl.when(whole).then(source.cast(pl.Int64, strict=False)).cast(pl.String), because(~whole, wrong)
        )
    if isinstance(dtype, pl.Decimal):
        digits = source.cast(pl.String).str.replace(r"\.0*$", "")
        whole = ~digits.str.contains(".", literal=True)
        return LogColumn(pl.when(whole).then(digits), because(~whole, wrong))
    if dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return LogColumn(source.cast(pl.String), _nothing())
    return _cast(source, None, pl.String, wrong)


def instant(
    name: str, dtype: DataType, shift: timedelta, zone: str | None = None, form: str | None = None
) -> LogColumn:
    """A time, moved by ``shift``, to the microsecond: one with a zone, or of ``zone`` where it has none; a text of one,
    in ISO 8601 or in the ``form`` of strptime; a number of seconds, milliseconds, microseconds or nanoseconds since
    1970, each by its size."""
    source = pl.col(name)
    naive = f"{name} is naive: it has no time zone"
    wrong = f"{name} is not a time"
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return LogColumn(source.dt.convert_time_zone("UTC").cast(INSTANT) + shift, _nothing())
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        if zone is None:
            return LogColumn(pl.lit(None, INSTANT), because(source.is_not_null(), naive))
        value: pl.Expr = _in_zone(source.cast(pl.Datetime("us")), zone)
    elif dtype.is_numeric():
        source = source.fill_nan(None) if dtype.is_float() else source
        value = _since_1970(source.cast(pl.Int64 if dtype.is_integer() else pl.Float64, strict=False))
    elif dtype == pl.String:
        plain = source.str.replace(r"^([\d-]{10})T", "${1} ").str.replace(r"\s?(Z|UTC|GMT)$", "+00:00")
        zoned = plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", time_unit="us", time_zone="UTC", strict=False)
        of_zone = pl.when(source.str.contains(ZONED)).then(zoned)
        digits = pl.when(source.str.contains(NUMERIC)).then(source)
        whole = digits.str.contains(".", literal=True).not_()
        numbers = pl.coalesce(
            _since_1970(pl.when(whole).then(digits).cast(pl.Int64, strict=False)),
            _since_1970(digits.cast(pl.Float64, strict=False)),
        )
        value = pl.coalesce(of_zone, numbers)
        if form is not None and has_zone(form):
            value = pl.coalesce(value, source.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False))
        without_zone: pl.Expr = pl.when(source.str.contains(NAIVE)).then(
            pl.coalesce(plain.str.to_datetime(each, time_unit="us", strict=False) for each in NAIVE_FORMATS)
        )
        if form is not None and not has_zone(form):
            without_zone = pl.coalesce(without_zone, source.str.to_datetime(form, time_unit="us", strict=False))
        if zone is None:
            reason = because(value.is_null() & without_zone.is_not_null(), naive)
            return LogColumn(value + shift, pl.coalesce(reason, because(source.is_not_null() & value.is_null(), wrong)))
        value = pl.coalesce(value, _in_zone(without_zone, zone))
    else:
        return _cast(source, None, INSTANT, wrong)
    return LogColumn(value + shift, because(source.is_not_null() & value.is_null(), wrong))


def has_zone(form: str) -> bool:
    """Whether times in this form of strptime say their zone."""
    return "%z" in form


def _in_zone(naive: pl.Expr, zone: str) -> pl.Expr:
    zoned = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return zoned.dt.convert_time_zone("UTC").cast(INSTANT)


def _since_1970(numbers: pl.Expr) -> pl.Expr:
    """Times from numbers; null where one is too small to be a time."""
    microseconds = numbers // 1000
    for most, each in reversed(UNITS):
        microseconds = pl.when(numbers < most).then(numbers * each).otherwise(microseconds)
    microseconds = pl.when(numbers >= YEAR_1990).then(microseconds)
    return microseconds.round().cast(pl.Int64, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def number(name: str, dtype: DataType) -> LogColumn:
    """A float. NaN stays NaN, for the log to refuse."""
    numeric = dtype.is_numeric() or dtype in (pl.Boolean, pl.String, pl.Null)
    return _cast(pl.col(name), pl.Float64 if numeric else None, pl.Float64, f"{name} is not a number")


def whole(name: str, dtype: DataType) -> LogColumn:
    """A 32-bit whole number; NaN counts as nothing."""
    source = pl.col(name)
    wrong = f"{name} is not a whole number"
    if dtype == pl.String:
        source = source.cast(pl.Float64, strict=False).fill_null(pl.when(source.is_not_null()).then(pl.lit(0.5)))
    if dtype.is_float() or dtype == pl.String:
        source = source.fill_nan(None)
        value = pl.when(source == source.round()).then(source.cast(pl.Int32, strict=False))
        return LogColumn(value, because(source.is_not_null() & value.is_null(), wrong))
    return _cast(source, pl.Int32 if dtype.is_integer() or dtype == pl.Null else None, pl.Int32, wrong)


def truth(name: str, dtype: DataType) -> LogColumn:
    """True or false, also as 1 and 0, and as words for it; nothing is wrong here, since it is not known what
    happened."""
    source = pl.col(name)
    wrong = f"{name} is neither true nor false"
    if dtype == pl.Boolean:
        return LogColumn(source, because(source.is_null(), f"{name} is missing"))
    if dtype == pl.String:
        texts = source.str.to_lowercase().replace(TRUTHS)
        source = texts.cast(pl.Float64, strict=False).fill_null(pl.when(texts.is_not_null()).then(pl.lit(-1.0)))
    elif not dtype.is_numeric():
        return LogColumn(pl.lit(None, pl.Boolean), pl.lit(wrong))
    value = pl.when(source == 1).then(pl.lit(True)).when(source == 0).then(pl.lit(False))
    return LogColumn(
        value, pl.coalesce(because(source.is_null(), f"{name} is missing"), because(value.is_null(), wrong))
    )


def meant(column: pl.Series) -> pl.Series:
    """A column with its values as they were meant before a file format got at them.

    Bytes, as of files whose texts are not marked so, become text, what is no UTF-8 as ``\\xff``; times beyond the years
    1 to 9999, which cannot be shown, become the first or the last of them.
    """
    if column.dtype == pl.Binary:
        try:
            return column.cast(pl.String)
        except pl.exceptions.ComputeError:
            texts = [None if value is None else value.decode(errors="backslashreplace") for value in column]
            return pl.Series(column.name, texts, dtype=pl.String)
    if column.dtype == pl.Date or (isinstance(column.dtype, pl.Datetime) and column.dtype.time_unit != "ns"):
        first, last = (pl.Series([edge]).cast(_unzoned(column.dtype)).to_physical()[0] for edge in YEARS)
        # Methods of a series look it up by its name, and read a name like ^a.*$ as a pattern.
        return column.alias("value").to_physical().clip(first, last).cast(column.dtype).alias(column.name)
    return column


def _unzoned(dtype: DataType) -> DataType:
    return pl.Datetime(dtype.time_unit) if isinstance(dtype, pl.Datetime) else dtype


def _nothing() -> pl.Expr:
    return pl.lit(None, pl.String)


def _cast(source: pl.Expr, through: type[pl.DataType] | None, to: DataType, wrong: str) -> LogColumn:
    """Cast value by value; ``through`` is None where no value of this type can be one of the log's."""
    value = pl.lit(None, to) if through is None else source.cast(through, strict=False)
    return LogColumn(value, because(source.is_not_null() & value.is_null(), wrong))
