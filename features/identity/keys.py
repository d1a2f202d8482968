"""64-bit keys for ids and for combinations of ids. Zero means absent, everywhere."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.compiled import numba
from features.identity.key import key_of

Keys = NDArray[np.int64]


def keys_of(field: str, values: pl.Series | Sequence[str | None]) -> Keys:
    """Keys (N,) of text ids; null gives 0. Hashes each distinct value once."""
    column = values if isinstance(values, pl.Series) else pl.Series(values, dtype=pl.String)
    distinct = column.unique().drop_nulls()
    hashed = pl.Series([key_of(field, value) for value in distinct], dtype=pl.Int64)
    keyed = column.replace_strict(distinct, hashed, default=None, return_dtype=pl.Int64)
    return keyed.fill_null(0).to_numpy().astype(np.int64, copy=True)


def combine_columns(ids: Keys, columns: NDArray[np.int64]) -> Keys:
    """One key (N,) of these columns of ``ids`` (N, K), order mattering; 0 where any of them is absent.

    Mixing is the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), chained over the columns.
    """
    keys = np.empty(len(ids), dtype=np.int64)
    _combine_columns(ids, columns, keys)
    return keys


def combine_after(firsts: Keys, key: Keys, count: int) -> Keys:
    """The keys (N, count) of pairs: of ``key`` (N,), itself combined, and each of the first columns of ``firsts``
    (N, L)."""
    keys = np.empty((len(key), count), dtype=np.int64)
    _combine_after(firsts, key, keys)
    return keys


@numba.njit(cache=True)
def _mix(mixed, part):  # type: ignore[no-untyped-def]
    mixed = (mixed ^ np.uint64(part)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@numba.njit(cache=True)
def _key(mixed):  # type: ignore[no-untyped-def]
    return np.int64(mixed) if mixed != np.uint64(0) else np.int64(1)


@numba.njit(cache=True)
def key_together(ids, i, columns):  # type: ignore[no-untyped-def]
    """Of row ``i`` the key that :func:`combine_columns` gives."""
    mixed = np.uint64(0)
    present = True
    for column in columns:
        present = present and ids[i, column] != 0
        mixed = _mix(mixed, ids[i, column])
    return _key(mixed) if present else np.int64(0)


@numba.njit(cache=True)
def key_alone(value):  # type: ignore[no-untyped-def]
    """The key of one column, as :func:`combine_columns` gives it."""
    return _key(_mix(np.uint64(0), value)) if value != 0 else np.int64(0)


@numba.njit(cache=True)
def key_of_pair(one, other):  # type: ignore[no-untyped-def]
    """The key of two keys in either order; 0 where one is absent.

    What was clicked after an item says much of that item after it too, and a pair that is counted both ways is known
    sooner.
    """
    pair = _mix(_mix(np.uint64(0), min(one, other)), max(one, other))
    return _key(pair) if one != 0 and other != 0 else np.int64(0)


@numba.njit(cache=True, nogil=True)
def _combine_columns(ids, columns, keys):  # type: ignore[no-untyped-def]
    for i in range(len(ids)):
        keys[i] = key_together(ids, i, columns)


@numba.njit(cache=True, nogil=True)
def _combine_after(firsts, key, keys):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        for j in range(keys.shape[1]):
            keys[i, j] = key_of_pair(key_alone(firsts[i, j]), key[i])
