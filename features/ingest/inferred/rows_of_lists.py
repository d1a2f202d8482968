"""Whether a row is a request: lists side by side, of what was shown and of what came of each."""

from collections.abc import Sequence

import polars as pl

from features.declare.log import Log
from features.ingest.inferred.figures import mean
from features.ingest.inferred.outcome_hints import is_truth, names_outcome
from features.ingest.inferred.profile import MOSTLY, profile_of
from features.ingest.inferred.taken import CannotBeInferred
from features.ingest.inferred.words import IMPRESSION, ITEM, thing_of
from features.ingest.lists import entries_of


def lists_of(rows: pl.DataFrame) -> tuple[str, ...]:
    """The columns that are lists with an entry for each impression of a row; none where each row is one. Raises
    CannotBeInferred for items in lists of which nothing says what came of each."""
    listed = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.List)]
    items = next((name for name in listed if _holds_items(name, rows.schema[name])), None)
    alone = [name for name in rows.columns if name not in listed and thing_of(name)[0] in ITEM]
    if items is None or alone:
        return ()
    lists = tuple(name for name in listed if _as_long(rows.get_column(name), rows.get_column(items)))
    of_entries = [profile_of(column) for column in unrolled(rows, lists) if column.name.split(".")[0] in lists]
    if not any(is_truth(one) and names_outcome(one) for one in of_entries):
        raise CannotBeInferred(
            f"{items!r} holds lists, and no list beside it says what came of each entry; add one, as clicked with 0 or"
            " 1 for each, or write a row for each entry, with the user, the time and a request_id that they share"
        )
    return lists


def unrolled(rows: pl.DataFrame, lists: Sequence[str]) -> pl.DataFrame:
    """The entries, of those rows whose lists have some, and as many each."""
    sizes = [rows.get_column(name).list.len().fill_null(0) for name in lists]
    fit = pl.Series([len(set(counts)) == 1 and counts[0] > 0 for counts in zip(*sizes, strict=True)], dtype=pl.Boolean)
    return entries_of(rows.filter(fit), lists, made=Log())


def _holds_items(name: str, dtype: pl.DataType) -> bool:
    """By the column's name, or by that of a field of its objects."""
    inner = getattr(dtype, "inner", None)
    fields = [field.name for field in inner.fields] if isinstance(inner, pl.Struct) else []
    called = thing_of(name)[0].removesuffix("s") in ITEM | IMPRESSION
    return called or any(thing_of(field)[0] in ITEM for field in fields)


def _as_long(one: pl.Series, other: pl.Series) -> bool:
    same = one.list.len() == other.list.len()
    return mean(same.fill_null(value=True)) >= MOSTLY
