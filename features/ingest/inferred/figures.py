"""Figures of a column as floats, 0 of no values."""

import polars as pl


def mean(values: pl.Series) -> float:
    """Of truths: the share that is true."""
    return _float(values.cast(pl.Float64).mean())


def least(values: pl.Series) -> float:
    """The smallest."""
    return _float(values.cast(pl.Float64).min())


def most(values: pl.Series) -> float:
    """The largest."""
    return _float(values.cast(pl.Float64).max())


def middle(values: pl.Series) -> float:
    """The median."""
    return _float(values.cast(pl.Float64).median())


def _float(value: object) -> float:
    return value if isinstance(value, float) else 0.0
