"""64-bit keys for ids and for combinations of ids. Zero means absent, everywhere."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

Keys = NDArray[np.int64]


def key_of(field: str, value: str) -> int:
    """The key of one id: 8 bytes of BLAKE2b over field and canonical text; never 0."""
    digest = blake2b(f"{field}\x1f{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


def keys_of(field: str, values: pl.Series | Sequence[str | None]) -> Keys:
    """Keys (N,) of text ids; null gives 0. Hashes each distinct value once."""
    column = values if isinstance(values, pl.Series) else pl.Series(values, dtype=pl.String)
    distinct = column.unique().drop_nulls()
    hashed = pl.Series([key_of(field, value) for value in distinct], dtype=pl.Int64)
    keyed = column.replace_strict(distinct, hashed, default=None, return_dtype=pl.Int64)
    return keyed.fill_null(0).to_numpy().astype(np.int64, copy=True)


def combine(parts: Sequence[Keys]) -> Keys:
    """One key of several (each (N,)), order mattering; 0 where any part is absent.

    Mixing is the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), chained over the parts.
    """
    present = np.ones(len(parts[0]), dtype=bool)
    mixed = np.zeros(len(parts[0]), dtype=np.uint64)
    for part in parts:
        present &= part != 0
        mixed = (mixed ^ part.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    keys = mixed.view(np.int64).copy()
    keys[keys == 0] = 1
    keys[~present] = 0
    return keys
