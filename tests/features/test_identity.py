"""The identity of a value: one text, however it is spelt and whatever column it stands in."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.identity.canonical import canonical
from features.identity.values import canonical_column


@pytest.mark.parametrize("value", [1, 1.0, "1"])
@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int64, pl.UInt64, pl.Float32, pl.Float64, pl.Decimal(9, 2), pl.String])
def test_one_is_one_by_every_spelling_and_in_every_column(value: Any, dtype: Any) -> None:
    assert canonical(value) == "1"
    assert canonical_column(pl.Series([1]).cast(dtype)).to_list() == ["1"]


NOON = datetime(2026, 1, 31, 12, 30)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pl.Series([True, False, None]), ["true", "false", None]),
        (pl.Series([-0.0, 0.1, 1e16, float("nan"), float("inf"), None]), ["0", "0.1", "1e+16", None, None, None]),
        (pl.Series([0.1, 2.5, 16777216.0], dtype=pl.Float32), ["0.1", "2.5", "16777216"]),
        (pl.Series([2**64 - 1], dtype=pl.UInt64), ["18446744073709551615"]),
        (pl.Series([Decimal("1.50"), Decimal("2.00")]), ["1.5", "2"]),
        (pl.Series(["a", None], dtype=pl.Categorical), ["a", None]),
        (pl.Series([b"a", b"\xff"]), ["a", "\\xff"]),
        (pl.Series([date(2026, 1, 31)]), ["2026-01-31"]),
        (pl.Series([time(12, 30)]), ["12:30:00"]),
        (pl.Series([NOON]), ["2026-01-31T12:30:00"]),
        (pl.Series([NOON.replace(tzinfo=UTC, microsecond=120_000)]), ["2026-01-31T12:30:00.120Z"]),
        (
            pl.Series([NOON]).dt.replace_time_zone("Asia/Tokyo").cast(pl.Datetime("ns", "Asia/Tokyo")),
            ["2026-01-31T03:30:00Z"],
        ),
        (pl.Series([timedelta(minutes=1), timedelta(seconds=0.5)]), ["60", "0.5"]),
        (pl.Series([[1.0, 2.5], [], None]), ["[1,2.5]", "[]", None]),
        (pl.Series([{"b": 1.0, "a": "ö"}]), ['{"a":"ö","b":1}']),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_a_column_of_any_type_has_texts(column: pl.Series, texts: list[str | None]) -> None:
    assert canonical_column(column).to_list() == texts
    assert canonical_column(pl.Series(texts, dtype=pl.String)).to_list() == texts


@given(st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text())
def test_a_value_of_json_is_the_value_of_a_column(value: Any) -> None:
    """And a text is its own identity, so that what was stored stays what it is."""
    text = canonical(value)
    assert canonical(json.loads(json.dumps(value))) == text
    assert canonical_column(pl.Series([value])).to_list() == [text]
    assert canonical(text) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_narrow_column_says_what_was_meant(value: float) -> None:
    """The shortest text that reads back as the same number of 32 bits; whole numbers are exact."""
    (text,) = canonical_column(pl.Series([value], dtype=pl.Float32)).to_list()
    assert text is not None
    assert np.float32(text) == np.float32(value)
