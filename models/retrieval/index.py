"""The items alive, ready to be searched exactly: one matrix product, then the best k of each row.

index = towers.index(lately, now)
found = index.retrieve(towers.users(examples, lately), k=100, leave_out=examples.history)
index = index.follow(lately.see(items, times, attributes), now)     # as clicks come
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY
from models.learning.model import one_thread, tensor
from models.retrieval.recent_clicks import Lately
from models.tables.id_table import Floats, Ids

Vectors = Callable[[Ids, Ids], Floats]
"""Vectors [M, E] of items [M] with their attributes [M, A]."""

BLOCK = 1 << 23
"""Scores in memory at once."""


@dataclass(frozen=True, eq=False)
class Retrieved:
    """The best items of N rows, best first."""

    ids: Ids
    """[N, k]; ``EMPTY`` from where on no item is left."""

    scores: Floats
    """[N, k]; minus infinity there. Comparable within a row: logarithms of chances but for a constant."""


@dataclass(frozen=True, eq=False)
class Index:
    """M items and their columns of the score."""

    items: Lately
    """Those alive at ``now``."""

    now: float

    vectors: Floats
    """[M, E]."""

    popularity: Floats
    """[M, H]; logarithms of shares."""

    of_items: Vectors
    """Gives the vectors of items that are new."""

    @staticmethod
    def of(lately: Lately, now: float, of_items: Vectors) -> Index:
        items = lately.as_of(now)
        return Index(items, now, of_items(items.ids, items.attributes), log_shares(items, now), of_items)

    def __len__(self) -> int:
        return len(self.items)

    def follow(self, lately: Lately, now: float) -> Index:
        """The index after more clicks: popularity as of ``now``, and new items, with vectors of the same towers."""
        items = lately.as_of(now)
        at, known = self.items.find(items.ids)
        known[known] = (self.items.attributes[at[known]] == items.attributes[known]).all(1)
        vectors = np.empty((len(items), self.vectors.shape[1]), np.float32)
        vectors[known] = self.vectors[at[known]]
        vectors[~known] = self.of_items(items.ids[~known], items.attributes[~known])
        return Index(items, now, vectors, log_shares(items, now), self.of_items)

    def scores(self, users: Floats) -> Floats:
        """[N, M]: every item's score, for the vectors [N, E + H] of N users."""
        with one_thread():
            rows = np.concatenate([self.vectors, self.popularity], axis=1)
            return np.asarray((tensor(users) @ tensor(rows).T).numpy())

    def retrieve(self, users: Floats, k: int, leave_out: Ids | None = None) -> Retrieved:
        """The k best items of each of N users (vectors [N, E + H]) but for those of ``leave_out`` [N, L]."""
        step = max(1, BLOCK // max(1, len(self)))
        parts = [
            best(self.items, self.scores(users[some]), k, None if leave_out is None else leave_out[some])
            for some in (slice(start, start + step) for start in range(0, max(1, len(users)), step))
        ]
        if len(parts) == 1:
            return parts[0]
        return Retrieved(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "scores")))


def best(items: Lately, scores: Floats, k: int, leave_out: Ids | None = None) -> Retrieved:
    """The k items of each row's highest ``scores`` [N, M] but for those of ``leave_out`` [N, L]. Writes to scores."""
    if k < 1:
        raise ValueError(f"k is {k}: retrieve at least 1 item")
    if leave_out is not None:
        at, alive = items.find(leave_out)
        row, column = np.nonzero(alive)
        scores[row, at[row, column]] = -np.inf
    chosen = best_columns(scores, k)
    ids, found = np.full((len(scores), k), EMPTY, np.int64), np.full((len(scores), k), -np.inf, np.float32)
    count = chosen.shape[1]
    found[:, :count] = np.take_along_axis(scores, chosen, axis=1)
    ids[:, :count] = np.where(np.isneginf(found[:, :count]), EMPTY, items.ids[chosen] if count else EMPTY)
    return Retrieved(ids, found)


def log_shares(items: Lately, now: float) -> Floats:
    """[M, H]."""
    return np.log(items.shares(now)).astype(np.float32)


def best_columns(scores: Floats, k: int) -> NDArray[np.int64]:
    """[N, min(k, M)]: columns of each row's highest scores, best first, of equals the first column first."""
    count = scores.shape[1]
    best = np.arange(count)[None].repeat(len(scores), 0)
    if k < count:
        best = np.sort(np.argpartition(scores, count - k, axis=1)[:, count - k :], axis=1)
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(best, order, axis=1))
