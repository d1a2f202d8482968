"""The values of texts of JSON, as text."""

import polars as pl
import pytest

from features.log.json_texts import value_of


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (['{"a": "x"}', '{"a": "y"}', '{"a": "x"}', None], ["x", "y", "x", None]),
        (['{"a": 3}', '{"b": 1}', "{}"], ["3", None, None]),
        ([None, None], [None, None]),
        ([], []),
    ],
)
def test_values_of_a_key(texts: list[str | None], values: list[str | None]) -> None:
    assert value_of(pl.Series(texts, dtype=pl.String), "a").to_list() == values
