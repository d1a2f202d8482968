"""The items alive, ready to be searched for one user's candidates: by two towers, and by what is popular now.

    index = LiveIndex.of(towers, recent_clicks, now)
    index = index.follow(items, times, attributes, now)              # as the log is followed
    keys = index.candidates(ids[:1], history[:1], k=200)

Nothing here changes: ``retriever``, which follows the log, puts a new one in place of the last, and requests take what
is there. New towers begin with :meth:`LiveIndex.with_towers`, which keeps what was clicked since they were trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from models.examples import Examples
from models.retrieval.index import Index
from models.retrieval.recent_clicks import RecentClicks
from models.retrieval.towers import Towers
from models.tables.rows import Ids
from models.tensors import one_thread


@dataclass(frozen=True, eq=False)
class LiveIndex:
    """One surface's M items alive, ready to be searched."""

    towers: Towers
    recent_clicks: RecentClicks
    index: Index

    @property
    def items(self) -> Ids:
        """[M]; their keys."""
        return self.index.items.ids

    @staticmethod
    def of(towers: Towers, recent_clicks: RecentClicks, now: float) -> LiveIndex:
        """``recent_clicks``: up to now, which are more than the towers were trained on."""
        return LiveIndex(towers, recent_clicks, towers.index(recent_clicks, now))

    def follow(self, items: Ids, times: NDArray[np.float64], attributes: Ids, now: float) -> LiveIndex:
        """With clicks more, n of them in any order: their items [n], when they came [n], and the items' attributes
        [n, A] that the towers were designed with. Costs a pass over the items alive."""
        recent = self.recent_clicks.updated(items, times, attributes).as_of(now)
        return replace(self, recent_clicks=recent, index=self.index.follow(recent, now))

    def with_towers(self, towers: Towers, now: float) -> LiveIndex:
        """With towers that were trained further, and all else as it is. They must be of the same design and layout."""
        if (towers.layout, towers.design) != (self.towers.layout, self.towers.design):
            raise ValueError("the towers are of another layout or design: make a new LiveIndex, with their own counts")
        return LiveIndex.of(towers, self.recent_clicks, now)

    def candidates(self, ids: Ids, history: Ids, k: int, allowed: NDArray[np.bool_] | None = None) -> Ids:
        """[at most k]; places of items for one user among :attr:`items`, best first, without their last items.

        ``ids`` [1, K] and ``history`` [1, L] are those of any item read for that user (``LiveFeatures.read``): of the
        item's own columns nothing is used. ``allowed`` [M]: which items may be found; None: all. Empty when no item is
        alive: the caller then says so.
        """
        query = Examples(
            dense=np.zeros((1, len(self.towers.layout.dense)), np.float32),
            ids=ids,
            history=history,
            label=np.zeros(1, np.float32),
            request=np.zeros(1, np.int64),
            time=np.array([self.index.now]),
        )
        scores = self.index.scores(self.towers.users(query, self.recent_clicks))[0]
        if allowed is not None:
            scores[~allowed] = -np.inf
        at, alive = self.index.items.find(history[0])
        scores[at[alive]] = -np.inf
        with one_thread():  # of many items several times as quick as numpy's argpartition
            best, found = torch.topk(torch.from_numpy(scores), min(k, len(scores)))
        return np.asarray(found[torch.isfinite(best)].numpy())
