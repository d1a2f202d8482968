"""The columns by whose values a comparison is looked at: context, whether reader and item are new, the item's place,
whether a query comes again."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.examples import Examples
from monitoring.evaluation.queries import recurring
from monitoring.evaluation.window import Champion, context_of, contexts_of, new_ids

HEAD_SHARE = 0.2
"""Share of a window's items, those shown most, that are its head."""

FREQUENCY = "query's frequency"


def slice_columns(
    table: pl.DataFrame, part: Examples, contexts: Mapping[str, str], champion: Champion | None
) -> tuple[Mapping[str, pl.Series], Mapping[str, str]]:
    """Columns [J] to look at by value, and what kind each is."""
    columns = dict(contexts_of(table, contexts))
    kinds = dict.fromkeys(contexts, "context")
    for kind, new in new_ids(part, None if champion is None else champion.model).items():
        name = {"users": "reader", "items": "item"}[kind]
        columns[name], kinds[name] = _named(new, "new", "known"), kind[:-1]
    columns["item's place"], kinds["item's place"] = _named(head(table["item_id"]), "head", "tail"), "item"
    again = None if champion is None else recurring(champion.model, part)
    if again is not None:
        columns[FREQUENCY], kinds[FREQUENCY] = _named(again, "recurring", "rare"), "context"
    return columns, kinds


def head(items: pl.Series) -> NDArray[np.bool_]:
    """Which rows [J] show one of the items shown most."""
    counts = items.value_counts()
    name = items.name or "item_id"
    counts = counts.sort("count", name, descending=[True, False])  # of those shown as often, always the same
    often = counts.head(max(1, round(HEAD_SHARE * len(counts))))[name]
    return items.is_in(often.implode()).to_numpy()


def attribute(table: pl.DataFrame, name: str, contexts: Mapping[str, str]) -> pl.Series:
    """The values [J] of a column that users should be treated alike by."""
    return context_of(table, contexts[name]) if name in contexts else table[name].cast(pl.String)


def _named(flag: NDArray[np.bool_], yes: str, no: str) -> pl.Series:
    return pl.Series(np.where(flag, yes, no))
