"""What a value must be to stand in the event log: the one place where that is said."""

from datetime import UTC, datetime

import polars as pl

from features.copying import INSTANT, DataType

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""Times before it are the marks of a broken clock, not of an event."""


def reasons(column: str, dtype: DataType, now: datetime) -> list[pl.Expr]:
    """Why a row's value in ``column``, which is of type ``dtype`` and must be there, cannot stand: texts, or nulls."""
    value = pl.col(column)
    if dtype == pl.String:
        return [
            because(value.is_null() | (value == ""), f"{column} is missing"),
            because(value.str.contains("\0", literal=True), f"{column} holds a NUL character"),
        ]
    if dtype == INSTANT:
        return [
            because(value.is_null(), f"{column} is absent"),
            because(value > pl.lit(now.astimezone(UTC), INSTANT), f"{column} is in the future"),
            because(value < pl.lit(EARLIEST, INSTANT), f"{column} is before 1970"),
        ]
    return [because(value.is_null() | ~value.is_finite(), f"{column} is not a finite number")]


def because(bad: pl.Expr, reason: str) -> pl.Expr:
    """``reason`` where ``bad``, else null."""
    return pl.when(bad).then(pl.lit(reason))
