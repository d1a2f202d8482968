"""The items alive, ready to be searched for one user's candidates: by two towers, and by what is popular now.

    index = LiveIndex.of(towers, recent_clicks, names, now)
    index = index.follow(clicks, now)                                # as the log is followed
    items = index.candidates(ids[:1], history[:1], k=200)

Nothing here changes: ``retriever``, which follows the log, puts a new one in place of the last, and requests take what
is there. New towers begin with :meth:`LiveIndex.with_towers`, which keeps what was clicked since they were trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from models.retrieval.index import Index
from models.retrieval.recent_clicks import RecentClicks
from models.retrieval.towers import Towers
from models.tables.rows import Ids


@dataclass(frozen=True, eq=False)
class Clicks:
    """Clicks of the log, n of them in any order."""

    items: Ids
    """[n]; their keys."""

    names: tuple[str, ...]
    """[n]; the items' ids as the log has them, which a response is made of."""

    attributes: Ids
    """[n, A]; keys of the attributes that the towers were designed with."""

    times: NDArray[np.float64]
    """[n]; seconds since 1970."""


@dataclass(frozen=True, eq=False)
class LiveIndex:
    """One surface's items alive, ready to be searched."""

    towers: Towers
    recent_clicks: RecentClicks
    index: Index
    names: Mapping[int, str]
    """The id of each item alive, by its key; an item without one is never a candidate."""

    @staticmethod
    def of(towers: Towers, recent_clicks: RecentClicks, names: Mapping[int, str], now: float) -> LiveIndex:
        """``recent_clicks``: up to now, which are more than the towers were trained on."""
        return LiveIndex(towers, recent_clicks, towers.index(recent_clicks, now), names)

    def follow(self, clicks: Clicks, now: float) -> LiveIndex:
        """With more clicks. Costs a pass over the items alive."""
        recent = self.recent_clicks.updated(clicks.items, clicks.times, clicks.attributes).as_of(now)
        names = dict(self.names) | dict(zip(clicks.items.tolist(), clicks.names, strict=True))
        if len(names) > 2 * len(recent) + 1000:
            names = {item: names[item] for item in recent.ids.tolist() if item in names}
        return replace(self, recent_clicks=recent, index=self.index.follow(recent, now), names=names)

    def with_towers(self, towers: Towers, now: float) -> LiveIndex:
        """With towers that were trained further, and all else as it is. They must be of the same design and layout."""
        if (towers.layout, towers.design) != (self.towers.layout, self.towers.design):
            raise ValueError("the towers are of another layout or design: make a new LiveIndex, with their own counts")
        return LiveIndex.of(towers, self.recent_clicks, self.names, now)

    def candidates(self, ids: Ids, history: Ids, k: int) -> list[str]:
        """At most ``k`` items for one user, best first, without their last items.

        ``ids`` [1, K] and ``history`` [1, L] are those of any item read for that user (``LiveFeatures.read``): of the
        item's own columns nothing is used. Empty when no item is alive: the caller then says so.
        """
        query = Examples(
            dense=np.zeros((1, len(self.towers.layout.dense)), np.float32),
            ids=ids,
            history=history,
            label=np.zeros(1, np.float32),
            request=np.zeros(1, np.int64),
            time=np.array([self.index.now]),
        )
        found = self.index.retrieve(self.towers.users(query, self.recent_clicks), k, history)
        return [self.names[item] for item in found.ids[0].tolist() if item in self.names]
