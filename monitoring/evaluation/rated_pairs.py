"""Pairs of a query and an item's text that people have rated: a frozen set, on which is seen what no window shows, that
an encoder forgets what texts mean in general.

    pairs = read_rated(Path("surfaces"), "rated.csv")

It is a CSV or parquet file with the columns ``query``, ``text`` and ``rating``, from 0 on; only this module reads it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from infra.errors import MillraceError

COLUMNS = ("query", "text", "rating")


class BadRatedPairs(MillraceError):
    """A file of rated pairs that cannot be used: the message names it, the column, the value and what to do."""

    exit_code = 2


@dataclass(frozen=True, eq=False)
class RatedPairs:
    """P rated pairs of Q queries and T texts. Queries whose texts are all rated alike are not there: no order of them
    is better than another."""

    queries: tuple[str, ...]
    """[Q]"""

    texts: tuple[str, ...]
    """[T]"""

    query: NDArray[np.int64]
    """[P], ascending, index into ``queries``."""

    text: NDArray[np.int64]
    """[P], index into ``texts``."""

    rating: NDArray[np.float64]
    """[P], 0 or more; the mean where a pair was rated more than once."""

    checksum: str
    """sha256 of the file, in hex: figures of another set are not to be compared with those of this one."""


def read_rated(folder: Path, given: str) -> RatedPairs:
    """The pairs of the file that a surface names: a path within ``folder``, where surfaces are declared, or an absolute
    one. Raises BadRatedPairs."""
    path = folder / given
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadRatedPairs(
            f"text.rated is {given!r}: {path} cannot be read ({error.strerror}): put the file beside the surface's, or"
            " give its whole path"
        ) from error
    table = _known(path, _columns(path, content))
    table = table.group_by("query", "text").agg(pl.col("rating").mean()).sort("query", "text")
    table = table.filter(pl.col("rating").max().over("query") > pl.col("rating").min().over("query"))
    if not len(table):
        raise BadRatedPairs(f"{path}: no query has two texts with different ratings: rate more texts of a query")
    (queries, query), (texts, text) = _coded(table["query"]), _coded(table["text"])
    rating = table["rating"].to_numpy()
    return RatedPairs(queries, texts, query, text, rating, hashlib.sha256(content).hexdigest())


def _columns(path: Path, content: bytes) -> pl.DataFrame:
    """The three columns as texts."""
    try:
        if path.suffix == ".csv":
            table = pl.read_csv(BytesIO(content), infer_schema=False)
        elif path.suffix == ".parquet":
            table = pl.read_parquet(BytesIO(content))
        else:
            raise BadRatedPairs(f"text.rated is {path.name!r}: give a .csv or a .parquet file")
    except PolarsError as error:
        first = str(error).partition("\n")[0]
        raise BadRatedPairs(f"{path} is no {path.suffix[1:]} file ({first}): write it anew") from error
    lacking = [name for name in COLUMNS if name not in table.columns]
    if lacking:
        raise BadRatedPairs(
            f"{path} has no column {lacking[0]!r}: it has {_listed(table.columns)}, and needs {_listed(COLUMNS)}"
        )
    return table.select(pl.col(name).cast(pl.String) for name in COLUMNS)


def _known(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    """The same with ratings as numbers, where all that is in it can be used."""
    for name in ("query", "text"):
        empty = table[name].str.strip_chars().fill_null("") == ""
        if empty.any():
            raise BadRatedPairs(f"{path}, row {_first(empty)}: {name} is empty: write it, or leave the row out")
    rating = table["rating"].str.strip_chars().cast(pl.Float64, strict=False)
    wrong = ~(rating.is_finite() & (rating >= 0)).fill_null(value=False)
    if wrong.any():
        value = table["rating"][_first(wrong) - 1]
        raise BadRatedPairs(f"{path}, row {_first(wrong)}: rating is {value!r}: give 0 to 1, or grades from 0 on")
    return table.with_columns(rating=rating)


def _first(rows: pl.Series) -> int:
    """The first of them, from 1 on; a CSV file's head is none."""
    return int(rows.arg_true()[0]) + 1


def _coded(values: pl.Series) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The different values, ascending, and each one's place among them."""
    different = values.unique().sort()
    codes = values.replace_strict(different, pl.int_range(len(different), dtype=pl.Int64, eager=True))
    return tuple(different.to_list()), codes.to_numpy()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
