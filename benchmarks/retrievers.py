"""What the bench of retrieval compares: two towers, and the peers popularity and co-clicks."""

from datetime import timedelta
from time import process_time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY, Examples, concat
from models.retrieval.index import Index, top_items
from models.retrieval.learner import fine_tune
from models.retrieval.recent_clicks import RecentClicks
from models.retrieval.sampling import item_columns
from models.retrieval.towers import Towers
from models.tables.rows import Ids

REBASE_HALF_LIVES = 60.0
"""After so many half-lives co-clicks are written in a new unit, long before a float overflows."""


class ItemRetriever(Protocol):
    """Something that retrieves. It serves the requests of a tick, then observes the clicks that came in it."""

    name: str

    def retrieve(self, requests: Examples, now: float, k: int) -> Ids:
        """[N, k], best first, for the users of N requests, by what was observed; without their recent clicks."""
        ...

    def observe(self, clicks: Examples, now: float) -> None:
        """Clicks, in the order of their times, up to ``now``."""
        ...


class Popular:
    """What was clicked most of late, for everyone alike."""

    def __init__(self, half_life: float, alive_s: float, item: int) -> None:
        self.name = f"popularity, half-life {timedelta(seconds=half_life)}"
        self.recent = RecentClicks.new(half_lives=(half_life,), alive_s=alive_s, attributes=0)
        self.item = item

    def retrieve(self, requests: Examples, now: float, k: int) -> Ids:
        index = Index.of(self.recent, now, lambda ids, attributes: np.zeros((len(ids), 0), np.float32))
        return index.retrieve(np.ones((len(requests), 1), np.float32), k, requests.history).ids

    def observe(self, clicks: Examples, now: float) -> None:
        self.recent = self.recent.updated(clicks.ids[:, self.item], clicks.time, np.zeros((len(clicks), 0), np.int64))


class CoClicks:
    """What was clicked most of late after the user's last item, with popularity as the prior.

    The counts stand in a square matrix; the place of an item that is no longer alive is given to another. They are
    written in units that grow as a count halves, so that nothing has to be touched as time passes.
    """

    def __init__(self, half_life: float, pseudo_clicks: float, popular: Popular) -> None:
        """``pseudo_clicks``: clicks after an item that the prior counts for. ``popular`` observes each click first."""
        self.name = f"co-clicks, half-life {timedelta(seconds=half_life)}, prior of {pseudo_clicks:g} clicks"
        self.half_life, self.pseudo_clicks, self.popular = half_life, pseudo_clicks, popular
        self.items = np.zeros(0, np.int64)
        """[places]; the item of each, or ``EMPTY``."""
        self.counts = np.zeros((0, 0), np.float32)
        """[places, places]; clicks on a column's item by users whose last was the row's, as of ``unit_at``."""
        self.unit_at = 0.0

    def retrieve(self, requests: Examples, now: float, k: int) -> Ids:
        alive = self.popular.recent.as_of(now)
        last, known = self._places(requests.history[:, 0])
        column, _ = self._places(alive.ids)
        scores = np.repeat(self.pseudo_clicks * alive.shares(now).T, len(requests), 0)
        scores[known] += self.counts[np.ix_(last[known], column)] * np.exp2((self.unit_at - now) / self.half_life)
        return top_items(alive, scores.astype(np.float32), k, requests.history).ids

    def observe(self, clicks: Examples, now: float) -> None:
        if now - self.unit_at > REBASE_HALF_LIVES * self.half_life:
            self.counts *= np.float32(np.exp2((self.unit_at - now) / self.half_life))
            self.unit_at = now
        self._place_alive(now)
        last, known = self._places(clicks.history[:, 0])
        item, alive = self._places(clicks.ids[:, self.popular.item])
        both = known & alive
        grown = np.exp2((clicks.time[both] - self.unit_at) / self.half_life)
        np.add.at(self.counts, (last[both], item[both]), grown.astype(np.float32))

    def _places(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The place of each id, and whether it has one."""
        if not len(self.items):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        order = np.argsort(self.items, kind="stable")
        at = order[np.minimum(self.items[order].searchsorted(ids), len(order) - 1)]
        return at, (self.items[at] == ids) & (ids != EMPTY)

    def _place_alive(self, now: float) -> None:
        """Give every item alive a place."""
        alive = self.popular.recent.as_of(now).ids
        new = alive[~self._places(alive)[1]]
        if not len(new):
            return
        if (self.items == EMPTY).sum() < len(new):
            dead = ~np.isin(self.items, alive)
            self.items[dead] = EMPTY
            self.counts[dead] = 0
            self.counts[:, dead] = 0
            if dead.sum() < len(new):
                size = 2 * (len(self.items) + len(new))
                counts = np.zeros((size, size), np.float32)
                counts[: len(self.items), : len(self.items)] = self.counts
                self.items = np.concatenate([self.items, np.zeros(size - len(self.items), np.int64)])
                self.counts = counts
        self.items[np.flatnonzero(self.items == EMPTY)[: len(new)]] = new


class TwoTowers:
    """Our towers, updated from all clicks since their last update; their index follows every tick."""

    def __init__(self, towers: Towers, every: timedelta, begins: float, seed: int) -> None:
        """``begins``: seconds since 1970 before which no update is made; the first trains on all clicks before."""
        self.name = f"two towers, updated every {every}"
        self.towers, self.every, self.seed = towers, every.total_seconds(), seed
        self.recent, self.index = towers.recent_clicks, towers.index(towers.recent_clicks, begins)
        self.due, self.pending = begins, list[Examples]()
        self.training_s, self.clicks = 0.0, 0

    def retrieve(self, requests: Examples, now: float, k: int) -> Ids:
        self._update(now)
        self.index = self.index.follow(self.recent, now)
        return self.index.retrieve(self.towers.users(requests, self.recent), k, requests.history).ids

    def observe(self, clicks: Examples, now: float) -> None:
        item, attributes = item_columns(self.towers, clicks)
        self.recent = self.recent.updated(item, clicks.time, attributes)
        self.pending.append(clicks)

    def _update(self, now: float) -> None:
        if now < self.due or not self.pending:
            return
        self.due += (np.floor((now - self.due) / self.every) + 1) * self.every
        began = process_time()
        window = concat(self.pending)
        self.towers, result = fine_tune(self.towers, window, seed=self.seed, device="cpu")
        self.training_s += process_time() - began
        self.clicks += result.clicks
        self.pending = []
        self.index = self.towers.index(self.recent, now)
