"""An exact index of the items alive: one matrix product, then the top k of each row.

index = towers.index(recent, now)
found = index.retrieve(towers.users(examples, recent), k=100, exclude=examples.history)
index = index.follow(recent.updated(items, times, attributes), now)     # as clicks come
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY
from models.retrieval.recent_clicks import RecentClicks
from models.tables.rows import Floats, Ids
from models.tensors import one_thread, tensor

Vectors = Callable[[Ids, Ids], Floats]
"""Vectors [M, E] of items [M] with their attributes [M, A]."""

SCORES_AT_ONCE = 1 << 23
"""Scores in memory at once."""


@dataclass(frozen=True, eq=False)
class Retrieved:
    """The best items of N rows, best first."""

    ids: Ids
    """[N, k]; ``EMPTY`` from where on no item is left."""

    scores: Floats
    """[N, k]; minus infinity there. Comparable within a row: log probabilities up to a constant."""


@dataclass(frozen=True, eq=False)
class Index:
    """M items and their columns of the score."""

    items: RecentClicks
    """Those alive at ``now``."""

    now: float

    vectors: Floats
    """[M, E]."""

    popularity: Floats
    """[M, H]; logarithms of shares."""

    item_vectors: Vectors
    """For items that are new."""

    rows: Floats = field(init=False)
    """[M, E + H]: both side by side, which the vectors of users are multiplied with."""

    def __post_init__(self) -> None:
        rows, width = np.concatenate([self.vectors, self.popularity], axis=1), self.vectors.shape[1]
        for name, columns in (("rows", rows), ("vectors", rows[:, :width]), ("popularity", rows[:, width:])):
            object.__setattr__(self, name, columns)  # views: there is one copy of them

    @staticmethod
    def of(recent: RecentClicks, now: float, item_vectors: Vectors) -> Index:
        items = recent.as_of(now)
        return Index(items, now, item_vectors(items.ids, items.attributes), log_shares(items, now), item_vectors)

    def __len__(self) -> int:
        return len(self.items)

    def follow(self, recent: RecentClicks, now: float) -> Index:
        """The index after more clicks: popularity as of ``now``, and new items, with vectors of the same towers."""
        items = recent.as_of(now)
        at, known = self.items.find(items.ids)
        known[known] = (self.items.attributes[at[known]] == items.attributes[known]).all(1)
        vectors = np.empty((len(items), self.vectors.shape[1]), np.float32)
        vectors[known] = self.vectors[at[known]]
        vectors[~known] = self.item_vectors(items.ids[~known], items.attributes[~known])
        return Index(items, now, vectors, log_shares(items, now), self.item_vectors)

    def scores(self, users: Floats) -> Floats:
        """[N, M]: every item's score, for the vectors [N, E + H] of N users."""
        with one_thread():
            return np.asarray((tensor(users) @ tensor(self.rows).T).numpy())

    def retrieve(self, users: Floats, k: int, exclude: Ids | None = None) -> Retrieved:
        """The top k items of each of N users (vectors [N, E + H]) except those of ``exclude`` [N, L]."""
        step = max(1, SCORES_AT_ONCE // max(1, len(self)))
        parts = [
            top_items(self.items, self.scores(users[some]), k, None if exclude is None else exclude[some])
            for some in (slice(start, start + step) for start in range(0, max(1, len(users)), step))
        ]
        if len(parts) == 1:
            return parts[0]
        return Retrieved(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "scores")))


def top_items(items: RecentClicks, scores: Floats, k: int, exclude: Ids | None = None) -> Retrieved:
    """The k items of each row's highest ``scores`` [N, M] except those of ``exclude`` [N, L]. Writes to scores."""
    if k < 1:
        raise ValueError(f"k is {k}: retrieve at least 1 item")
    if exclude is not None:
        at, alive = items.find(exclude)
        row, column = np.nonzero(alive)
        scores[row, at[row, column]] = -np.inf
    chosen = top_columns(scores, k)
    ids, found = np.full((len(scores), k), EMPTY, np.int64), np.full((len(scores), k), -np.inf, np.float32)
    count = chosen.shape[1]
    found[:, :count] = np.take_along_axis(scores, chosen, axis=1)
    ids[:, :count] = np.where(np.isneginf(found[:, :count]), EMPTY, items.ids[chosen] if count else EMPTY)
    return Retrieved(ids, found)


def log_shares(items: RecentClicks, now: float) -> Floats:
    """[M, H]."""
    return np.log(items.shares(now)).astype(np.float32)


def top_columns(scores: Floats, k: int) -> NDArray[np.int64]:
    """[N, min(k, M)]: columns of each row's highest scores, best first, of equals the first column first."""
    count = scores.shape[1]
    top = np.arange(count)[None].repeat(len(scores), 0)
    if k < count:
        top = np.sort(np.argpartition(scores, count - k, axis=1)[:, count - k :], axis=1)
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(top, order, axis=1))
