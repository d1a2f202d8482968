"""The point-in-time join itself, on arrays: of each key the row that was the latest known one at a time.

Times are integers, microseconds since 1970. Nothing here knows of databases.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Int = NDArray[np.int64]

LIMIT = 2**63 - 1


@dataclass(frozen=True, eq=False)
class SortedView:
    """M rows of a view, in any order."""

    code: Int
    """(M,); a small number for the key of each row, at least 0."""

    at: Int
    """(M,); the time from which the row counts."""

    created: pl.Series
    """(M,) Int64, null where not known; or of length 0 where the view has no such column."""

    values: pl.DataFrame
    """(M, any); decides between rows alike in all else, column by column, the largest first, null last."""

    late: bool
    """Is a row unknown before it was created? Then rows without that time must have been left out."""


def latest(code: Int, at: Int, history: SortedView, oldest: Int | None = None) -> Int:
    """For N askers the row of their key that was the latest known at ``at``, or -1 (N,).

    ``code`` (N,) is the asker's key, -1 for none. Rows at exactly ``at`` count. A latest row before ``oldest`` (N,)
    does not, and no earlier one stands in for it. Of rows at one time, the one created last; where that is equal too,
    the one with the larger values.
    """
    found = np.full(len(code), -1, dtype=np.int64)
    if not len(code) or not len(history.code):
        return found
    # Rank the rows by key, then as the later wins: the best row known so far is then a running maximum.
    order = _ranked(history)
    key, visible = history.code[order], history.at[order]
    if history.late:
        visible = np.maximum(visible, history.created.to_numpy()[order])
    at_clock, shown, span = _clock(at, visible, int(max(key.max(), code.max())) + 1)
    place = key * span + shown
    best = np.arange(len(order))
    if history.late:
        by_time = np.argsort(place)
        place, best = place[by_time], np.maximum.accumulate(by_time)
    wanted = code * span + at_clock
    queue = np.argsort(wanted)  # looked up in order, the search stays in the cache
    last = np.searchsorted(place, wanted[queue], side="right") - 1
    rank = np.where(last >= 0, best[last], 0)
    row = np.where((last >= 0) & (key[rank] == code[queue]), order[rank], -1)
    found[queue] = row
    if oldest is not None:
        found[(found >= 0) & (history.at[found] < oldest)] = -1
    return found


def _ranked(history: SortedView) -> Int:
    """Positions of the rows by key, time, creation, values: of one key, the one that wins last."""
    first, last = int(history.at.min()), int(history.at.max())
    span = last - first + 1
    if (int(history.code.max()) + 1) * span <= LIMIT:
        place = history.code * span + (history.at - first)
        order = np.argsort(place)
        place = place[order]
        same = place[1:] == place[:-1]
    else:
        order = np.lexsort((history.at, history.code))
        code, at = history.code[order], history.at[order]
        same = (code[1:] == code[:-1]) & (at[1:] == at[:-1])
    if same.any():
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        order[tied] = order[tied][_tie_order(np.append(0, np.cumsum(~same))[tied], order[tied], history)]
    return order


def _tie_order(run: Int, rows: Int, history: SortedView) -> Int:
    """Order of tied rows: run by run, then creation, then values; null before all, NaN after all numbers."""
    columns = [pl.Series("run", run)]
    if len(history.created):
        columns.append(history.created[rows].alias("created"))
    values = history.values[rows]
    for place, name in enumerate(values.columns):
        if not values.schema[name].is_nested():
            columns.append(values[name].alias(f"value {place}"))
    order = pl.DataFrame(columns).select(pl.arg_sort_by([each.name for each in columns], nulls_last=False)).to_series()
    return order.to_numpy().astype(np.int64)


def _clock(at: Int, visible: Int, codes: int) -> tuple[Int, Int, int]:
    """Both times on one small scale that keeps ``visible <= at`` as it is, and the scale's length.

    Offsets from the first asker's time where key and offset fit into 64 bits together, else places among the times
    asked for.
    """
    first, last = int(at.min()), int(at.max())
    span = last - first + 2
    if codes * span <= LIMIT:
        return at - first, np.clip(visible, first, last + 1) - first, span
    times = np.unique(at)
    return np.searchsorted(times, at), np.searchsorted(times, visible), len(times) + 1
