"""Recent clicks: for each item still alive, decaying counts of its clicks, and the item's attributes.

    recent = RecentClicks.new(half_lives=(300.0, 3600.0), alive_s=86400.0, attributes=1)
    recent = recent.updated(items, times, sections)
    popular = recent.shares(now)

It is both the popularity of an item and how often a batch of clicks holds it, estimated online. Yi et al. 2019
(algorithm 2) estimate the latter from the steps between an item's batches; a count that halves every so many seconds of
event time does the same and does not depend on how clicks were cut into batches. Like a table it is immutable:
:meth:`RecentClicks.updated` gives a new one. A call costs a pass over the items alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY
from models.tables.rows import Ids

PSEUDO_CLICKS = 0.02
"""Added to the count of every item alive, so that a share has a logarithm."""


@dataclass(frozen=True, eq=False)
class RecentClicks:
    """The items clicked within ``alive_s`` of the last click: M of them."""

    half_lives: tuple[float, ...]
    """H spans, seconds, after each of which its count of a click has halved."""

    alive_s: float
    """Seconds after its last click for which an item can be found."""

    time: float
    """Seconds since 1970 of the last click; the counts are as of then."""

    ids: Ids
    """[M], ascending."""

    clicked_at: NDArray[np.float64]
    """[M]; when each was clicked last."""

    counts: NDArray[np.float64]
    """[M, H]."""

    attributes: Ids
    """[M, A]; ids of the item's attributes (its section, ...) as of its last click; ``EMPTY`` where there is none."""

    @staticmethod
    def new(*, half_lives: tuple[float, ...], alive_s: float, attributes: int) -> RecentClicks:
        """No clicks. ``attributes``: the number of ids that describe an item."""
        if not half_lives or not all(life > 0 for life in half_lives):
            raise ValueError(f"half_lives is {half_lives}: give one or more, each above 0 seconds")
        if not alive_s > 0:
            raise ValueError(f"alive_s is {alive_s}: give more than 0 seconds")
        none = np.zeros(0, np.int64)
        counts = np.zeros((0, len(half_lives)))
        return RecentClicks(half_lives, alive_s, 0.0, none, np.zeros(0), counts, np.zeros((0, attributes), np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def updated(self, ids: Ids, times: NDArray[np.float64], attributes: Ids) -> RecentClicks:
        """With clicks on ``ids`` [n] at ``times`` [n], in any order, and the items' attributes [n, A].

        Clicks on ``EMPTY`` are ignored. A late one counts as if it had come in time.
        """
        chosen = np.flatnonzero(ids != EMPTY)
        if not len(chosen):
            return self
        chosen = chosen[np.argsort(times[chosen], kind="stable")]
        ids, times, attributes = ids[chosen], times[chosen], attributes[chosen]
        time = max(self.time, float(times[-1]))
        both, place = np.unique(np.concatenate([self.ids, ids]), return_inverse=True)
        old, new = place[: len(self)], place[len(self) :]
        clicked_at = np.full(len(both), -np.inf)
        clicked_at[old] = self.clicked_at
        np.maximum.at(clicked_at, new, times)
        counts = np.zeros((len(both), len(self.half_lives)))
        counts[old] = self.counts * self._decay(time - self.time)
        np.add.at(counts, new, self._decay(time - times))
        of_items = np.zeros((len(both), self.attributes.shape[1]), np.int64)
        of_items[old] = self.attributes
        of_items[new] = attributes  # the last assignment wins: that of the latest click
        alive = clicked_at > time - self.alive_s
        return replace(
            self,
            time=time,
            ids=both[alive],
            clicked_at=clicked_at[alive],
            counts=counts[alive],
            attributes=of_items[alive],
        )

    def as_of(self, now: float) -> RecentClicks:
        """Without the items that are no longer alive at ``now``; the counts stay as of the last click."""
        alive = self.clicked_at > now - self.alive_s
        if alive.all():
            return self
        return replace(
            self,
            ids=self.ids[alive],
            clicked_at=self.clicked_at[alive],
            counts=self.counts[alive],
            attributes=self.attributes[alive],
        )

    def shares(self, now: float) -> NDArray[np.float64]:
        """[M, H]: each item's share of the clicks at ``now``, above 0; a column sums to 1."""
        counts = self._counts(now)
        return np.asarray(counts / counts.sum(0))

    def shares_of(self, ids: Ids, now: float) -> NDArray[np.float64]:
        """[n, H], for ids [n]; one that is not alive has the share of an item whose clicks have decayed."""
        at, alive = self.find(ids)
        counts = self._counts(now)
        own = np.full((len(ids), len(self.half_lives)), PSEUDO_CLICKS)
        own[alive] = counts[at[alive]]
        return np.asarray(own / np.maximum(counts.sum(0), PSEUDO_CLICKS))

    def _counts(self, now: float) -> NDArray[np.float64]:
        return self.counts * self._decay(max(0.0, now - self.time)) + PSEUDO_CLICKS

    def find(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Index of each id (an array of any shape) among the items, and whether it is one of them."""
        if not len(self):
            return np.zeros(ids.shape, np.int64), np.zeros(ids.shape, np.bool_)
        at = np.minimum(self.ids.searchsorted(ids), len(self) - 1)
        return at, self.ids[at] == ids

    def attributes_of(self, ids: Ids) -> Ids:
        """[..., A], for ids [...]; ``EMPTY`` for an item that is not alive."""
        at, alive = self.find(ids)
        found = np.full((*ids.shape, self.attributes.shape[1]), EMPTY, np.int64)
        found[alive] = self.attributes[at[alive]]
        return found

    def _decay(self, seconds: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., H]: what a click counts after so long."""
        return np.asarray(np.exp2(-np.asarray(seconds)[..., None] / np.array(self.half_lives)))
