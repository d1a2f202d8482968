"""Texts of JSON objects that repeat: contexts of impressions, attributes of items."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.identity.canonical import canonical


def value_of(texts: pl.Series, name: str) -> pl.Series:
    """The canonical value (N,) under ``name`` in each text; null where there is none. A name is a name, not a path."""
    return values_of(texts, [name])[name]


def values_of(texts: pl.Series, names: Sequence[str]) -> Mapping[str, pl.Series]:
    """The canonical values (N,) under each of ``names``. Each distinct text is parsed once."""
    distinct = texts.unique().drop_nulls()
    objects = [json.loads(text) for text in distinct]
    return {
        name: texts.replace_strict(distinct, _under(name, objects), default=None, return_dtype=pl.String)
        if len(distinct)
        else pl.Series(texts.name, [None] * len(texts), dtype=pl.String)
        for name in names
    }


def objects_of(texts: pl.Series) -> tuple[Sequence[Mapping[str, Any]], NDArray[np.int64]]:
    """The distinct objects of these texts (N,), the last an empty one, and which of them each text is; null is the
    empty one."""
    distinct = texts.unique().drop_nulls()
    if not len(distinct):
        return [{}], np.zeros(len(texts), dtype=np.int64)
    numbers = pl.int_range(len(distinct), dtype=pl.Int64, eager=True)
    place = texts.replace_strict(distinct, numbers, default=None, return_dtype=pl.Int64)
    return [*map(json.loads, distinct), {}], place.fill_null(len(distinct)).to_numpy()


def _under(name: str, objects: Sequence[Mapping[str, Any]]) -> pl.Series:
    return pl.Series([canonical(each.get(name)) for each in objects], dtype=pl.String)
