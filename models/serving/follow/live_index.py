"""Candidates for a request that names none: the items alive that two towers and what is popular now put first.

    retrieval = Retrieval.of(towers, lately, names, now)
    retrieval = retrieval.follow(clicks, now)                        # as the log is followed
    items = retrieval.candidates(read.ids[:1], read.history[:1], k=200)

Nothing here changes: whoever follows the log puts a new one in place of the last, and requests take what is there. New
towers begin with :meth:`Retrieval.taught`, which keeps what was seen since they learned.
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
    """Clicks as the log tells them, n of them in any order."""

    items: Ids
    """[n]; their keys."""

    names: tuple[str, ...]
    """[n]; the items' ids as the log has them, which a response is made of."""

    attributes: Ids
    """[n, A]; keys of the attributes that the towers were designed with."""

    times: NDArray[np.float64]
    """[n]; seconds since 1970."""


@dataclass(frozen=True, eq=False)
class Retrieval:
    """One surface's items alive, ready to be searched."""

    towers: Towers
    lately: RecentClicks
    index: Index
    names: Mapping[int, str]
    """The id of each item alive, by its key; an item without one is never a candidate."""

    @staticmethod
    def of(towers: Towers, lately: RecentClicks, names: Mapping[int, str], now: float) -> Retrieval:
        """``lately``: the clicks up to now, which are more than the towers learned from."""
        return Retrieval(towers, lately, towers.index(lately, now), names)

    def follow(self, clicks: Clicks, now: float) -> Retrieval:
        """With more clicks. Costs a pass over the items alive."""
        lately = self.lately.updated(clicks.items, clicks.times, clicks.attributes).as_of(now)
        names = dict(self.names) | dict(zip(clicks.items.tolist(), clicks.names, strict=True))
        if len(names) > 2 * len(lately) + 1000:
            names = {item: names[item] for item in lately.ids.tolist() if item in names}
        return replace(self, lately=lately, index=self.index.follow(lately, now), names=names)

    def taught(self, towers: Towers, now: float) -> Retrieval:
        """With towers that have learned on, and all else as it is. They must be of the same design and layout."""
        if (towers.layout, towers.design) != (self.towers.layout, self.towers.design):
            raise ValueError("the towers are of another layout or design: make a new Retrieval, with their own counts")
        return Retrieval.of(towers, self.lately, self.names, now)

    def candidates(self, ids: Ids, history: Ids, k: int) -> list[str]:
        """At most ``k`` items for one user, best first, without their last items.

        ``ids`` [1, K] and ``history`` [1, L] are those of any item read for that user (``Knowledge.read``): of the
        item's own columns nothing is used. Empty when nothing was clicked lately: the caller then says so.
        """
        asked = Examples(
            dense=np.zeros((1, len(self.towers.layout.dense)), np.float32),
            ids=ids,
            history=history,
            label=np.zeros(1, np.float32),
            request=np.zeros(1, np.int64),
            time=np.array([self.index.now]),
        )
        found = self.index.retrieve(self.towers.users(asked, self.lately), k, history)
        return [self.names[item] for item in found.ids[0].tolist() if item in self.names]
