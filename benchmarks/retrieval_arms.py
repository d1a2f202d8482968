"""What the bench of retrieval asks: two towers, and the simple peers popularity and co-clicks."""

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

LONGEST = 60.0
"""Half-lives after which co-clicks are written in a new unit, long before a float overflows."""


class Arm(Protocol):
    """Something that retrieves. It is asked for the clicks of a tick, then sees those that came in it."""

    name: str

    def retrieve(self, asked: Examples, now: float, k: int) -> Ids:
        """[N, k], best first, for the users of N requests, by what was seen; without what they clicked lately."""
        ...

    def see(self, clicks: Examples, now: float) -> None:
        """Clicks, in the order of their times, up to ``now``."""
        ...


class Popular:
    """What was clicked most lately, for everyone alike."""

    def __init__(self, half_life: float, alive_s: float, item: int) -> None:
        self.name = f"popularity, half-life {timedelta(seconds=half_life)}"
        self.lately = RecentClicks.new(half_lives=(half_life,), alive_s=alive_s, attributes=0)
        self.item = item

    def retrieve(self, asked: Examples, now: float, k: int) -> Ids:
        index = Index.of(self.lately, now, lambda ids, told: np.zeros((len(ids), 0), np.float32))
        return index.retrieve(np.ones((len(asked), 1), np.float32), k, asked.history).ids

    def see(self, clicks: Examples, now: float) -> None:
        self.lately = self.lately.updated(clicks.ids[:, self.item], clicks.time, np.zeros((len(clicks), 0), np.int64))


class CoClicks:
    """What was clicked most lately after the user's last item, shrunk toward what is popular.

    The counts stand in a square matrix; the place of an item that is no longer alive is given to another. They are
    written in units that grow as a count halves, so that nothing has to be touched as time passes.
    """

    def __init__(self, half_life: float, strength: float, popular: Popular) -> None:
        """``strength``: clicks after an item whose number popularity is worth. ``popular`` sees each click first."""
        self.name = f"co-clicks, half-life {timedelta(seconds=half_life)}, strength {strength:g}"
        self.half_life, self.strength, self.popular = half_life, strength, popular
        self.held = np.zeros(0, np.int64)
        """[places]; the item of each, or ``EMPTY``."""
        self.counts = np.zeros((0, 0), np.float32)
        """[places, places]; clicks on a column's item by users whose last was the row's, as of ``unit_at``."""
        self.unit_at = 0.0

    def retrieve(self, asked: Examples, now: float, k: int) -> Ids:
        items = self.popular.lately.as_of(now)
        last, known = self._places(asked.history[:, 0])
        column, _ = self._places(items.ids)
        scores = np.repeat(self.strength * items.shares(now).T, len(asked), 0)
        scores[known] += self.counts[np.ix_(last[known], column)] * np.exp2((self.unit_at - now) / self.half_life)
        return top_items(items, scores.astype(np.float32), k, asked.history).ids

    def see(self, clicks: Examples, now: float) -> None:
        if now - self.unit_at > LONGEST * self.half_life:
            self.counts *= np.float32(np.exp2((self.unit_at - now) / self.half_life))
            self.unit_at = now
        self._make_room(now)
        last, known = self._places(clicks.history[:, 0])
        item, alive = self._places(clicks.ids[:, self.popular.item])
        both = known & alive
        grown = np.exp2((clicks.time[both] - self.unit_at) / self.half_life)
        np.add.at(self.counts, (last[both], item[both]), grown.astype(np.float32))

    def _places(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The place of each id, and whether it has one."""
        if not len(self.held):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        order = np.argsort(self.held, kind="stable")
        at = order[np.minimum(self.held[order].searchsorted(ids), len(order) - 1)]
        return at, (self.held[at] == ids) & (ids != EMPTY)

    def _make_room(self, now: float) -> None:
        """Give every item alive a place."""
        alive = self.popular.lately.as_of(now).ids
        new = alive[~self._places(alive)[1]]
        if not len(new):
            return
        if (self.held == EMPTY).sum() < len(new):
            dead = ~np.isin(self.held, alive)
            self.held[dead] = EMPTY
            self.counts[dead] = 0
            self.counts[:, dead] = 0
            if dead.sum() < len(new):
                size = 2 * (len(self.held) + len(new))
                counts = np.zeros((size, size), np.float32)
                counts[: len(self.held), : len(self.held)] = self.counts
                self.held = np.concatenate([self.held, np.zeros(size - len(self.held), np.int64)])
                self.counts = counts
        self.held[np.flatnonzero(self.held == EMPTY)[: len(new)]] = new


class TwoTowers:
    """Our towers, updated from all clicks since their last update; their index follows every tick."""

    def __init__(self, towers: Towers, every: timedelta, begins: float, seed: int) -> None:
        """``begins``: seconds since 1970 before which no update is made; the first learns all of what came before."""
        self.name = f"two towers, updated every {every}"
        self.towers, self.every, self.seed = towers, every.total_seconds(), seed
        self.lately, self.index = towers.recent_clicks, towers.index(towers.recent_clicks, begins)
        self.due, self.seen = begins, list[Examples]()
        self.learning_s, self.clicks = 0.0, 0

    def retrieve(self, asked: Examples, now: float, k: int) -> Ids:
        self._update(now)
        self.index = self.index.follow(self.lately, now)
        return self.index.retrieve(self.towers.users(asked, self.lately), k, asked.history).ids

    def see(self, clicks: Examples, now: float) -> None:
        item, attributes = item_columns(self.towers, clicks)
        self.lately = self.lately.updated(item, clicks.time, attributes)
        self.seen.append(clicks)

    def _update(self, now: float) -> None:
        if now < self.due or not self.seen:
            return
        self.due += (np.floor((now - self.due) / self.every) + 1) * self.every
        began = process_time()
        window = concat(self.seen)
        self.towers, learned = fine_tune(self.towers, window, seed=self.seed, device="cpu")
        self.learning_s += process_time() - began
        self.clicks += learned.clicks
        self.seen = []
        self.index = self.towers.index(self.lately, now)
