"""Served rows as raw columns: what a caller would give of the same impressions."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from features.declare.schema import RowValues
from features.identity.key import key_of
from models.versions.raw_columns import RawColumns, RawId

OF_STATE = ("never", *(str(level) for level in range(32)))
"""Texts of ids that are made from a user's state."""


def raw_rows(
    columns: RawColumns, values: RowValues, views: NDArray[np.float32], texts: Iterable[str]
) -> list[dict[str, object]]:
    """One object of names and values a row, without those that are not there. ``texts``: all ids that may be meant."""
    known = [*texts, *OF_STATE]

    def meant(column: RawId, key: int) -> str:
        return next(text for text in known if key_of(column.keyed_as, text) == key)

    rows = list[dict[str, object]]()
    for place in range(len(values)):
        row: dict[str, object] = {
            column.name: meant(column, key)
            for column, key in zip(columns.ids, values.ids[place].tolist(), strict=False)
            if key
        }
        if columns.last:
            row[columns.history.name] = [meant(columns.history, key) for key in values.history[place].tolist() if key]
        for form, known_values in (("counter", values.dense), ("number", values.numbers), ("view", views)):
            names = [one.name for one in columns.dense if one.form == form]
            row |= zip(names, known_values[place].astype(float).tolist(), strict=True)
        rows.append({name: value for name, value in row.items() if not _unknown(value)})
    return rows


def _unknown(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
