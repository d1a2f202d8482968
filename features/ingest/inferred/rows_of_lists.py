"""Whether a row is a request: lists side by side, of what was shown and of what came of each."""

from collections.abc import Sequence

import polars as pl

from features.declare.log import Log
from features.ingest.inferred.figures import mean
from features.ingest.inferred.outcome_hints import is_truth, names_outcome
from features.ingest.inferred.profile import MOSTLY, profile_of
from features.ingest.inferred.words import IMPRESSION, ITEM, thing_of
from features.ingest.lists import are_whole, entries_of


def lists_of(rows: pl.DataFrame) -> tuple[str, ...]:
    """The columns that are lists with an entry for each impression of a row, one of which says what came of it; none
    where each row is an impression."""
    listed = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.List)]
    items = list_of_items(rows)
    alone = [name for name in rows.columns if name not in listed and thing_of(name)[0] in ITEM]
    if items is None or alone:
        return ()
    lists = tuple(name for name in listed if _as_long(rows.get_column(name), rows.get_column(items)))
    of_entries = [profile_of(column) for column in unrolled(rows, lists) if column.name.split(".")[0] in lists]
    return lists if any(is_truth(one) and names_outcome(one) for one in of_entries) else ()


def list_of_items(rows: pl.DataFrame) -> str | None:
    """The first column of lists that by its name, or by that of a field of its objects, holds what was shown."""
    return next((name for name, dtype in rows.schema.items() if _holds_items(name, dtype)), None)


def unrolled(rows: pl.DataFrame, lists: Sequence[str]) -> pl.DataFrame:
    """The entries of a sample's rows, of those that are whole."""
    return entries_of(rows.filter(are_whole(rows, lists)), Log(lists=tuple(lists)))


def _holds_items(name: str, dtype: pl.DataType) -> bool:
    if not isinstance(dtype, pl.List):
        return False
    fields = [field.name for field in dtype.inner.fields] if isinstance(dtype.inner, pl.Struct) else []
    called = thing_of(name)[0].removesuffix("s") in ITEM | IMPRESSION
    return called or any(thing_of(field)[0] in ITEM for field in fields)


def _as_long(one: pl.Series, other: pl.Series) -> bool:
    same = one.list.len() == other.list.len()
    return mean(same.fill_null(value=True)) >= MOSTLY
