"""What was clicked lately: for each item still alive, decaying counts of its clicks, and what tells of it.

    lately = Lately.new(half_lives=(300.0, 3600.0), alive_s=86400.0, attributes=1)
    lately = lately.see(items, times, sections)
    popular = lately.shares(now)

It is both the popularity of an item and how often a batch of clicks holds it, estimated online. Yi et al. 2019
(algorithm 2) estimate the latter from the steps between an item's batches; a count that halves every so many seconds of
event time does the same and does not depend on how clicks were cut into batches. Like a table it never changes:
:meth:`Lately.see` gives a new one. A call costs a pass over the items alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY

Ids = NDArray[np.int64]

LEAST = 0.02
"""Clicks that every item alive is taken to have beside its own, so that a share has a logarithm."""


@dataclass(frozen=True, eq=False)
class Lately:
    """The items clicked within ``alive_s`` of the last click seen: M of them."""

    half_lives: tuple[float, ...]
    """H spans, seconds, after each of which its count of a click has halved."""

    alive_s: float
    """Seconds after its last click for which an item can be found."""

    time: float
    """Seconds since 1970 of the last click seen; the counts are as of then."""

    ids: Ids
    """[M], ascending."""

    clicked_at: NDArray[np.float64]
    """[M]; when each was clicked last."""

    counts: NDArray[np.float64]
    """[M, H]."""

    attributes: Ids
    """[M, A]; ids that tell of the item (its section, ...), as last told; ``EMPTY`` where there is none."""

    @staticmethod
    def new(*, half_lives: tuple[float, ...], alive_s: float, attributes: int) -> Lately:
        """Nothing was clicked yet. ``attributes``: how many ids tell of an item."""
        if not half_lives or not all(life > 0 for life in half_lives):
            raise ValueError(f"half_lives is {half_lives}: give one or more, each above 0 seconds")
        if not alive_s > 0:
            raise ValueError(f"alive_s is {alive_s}: give more than 0 seconds")
        none = np.zeros(0, np.int64)
        counts, told = np.zeros((0, len(half_lives))), np.zeros((0, attributes), np.int64)
        return Lately(half_lives, alive_s, 0.0, none, np.zeros(0), counts, told)

    def __len__(self) -> int:
        return len(self.ids)

    def see(self, ids: Ids, times: NDArray[np.float64], attributes: Ids) -> Lately:
        """With clicks on ``ids`` [n] at ``times`` [n], in any order, and the items' attributes [n, A].

        A click on ``EMPTY`` is passed over. One that comes late counts as if it had come in time.
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
        told = np.zeros((len(both), self.attributes.shape[1]), np.int64)
        told[old] = self.attributes
        told[new] = attributes  # the last assignment stands: that of the latest click
        alive = clicked_at > time - self.alive_s
        return replace(
            self,
            time=time,
            ids=both[alive],
            clicked_at=clicked_at[alive],
            counts=counts[alive],
            attributes=told[alive],
        )

    def as_of(self, now: float) -> Lately:
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
        """[n, H], for ids [n]; one that is not alive has the share of an item whose clicks are long gone."""
        at, alive = self.find(ids)
        counts = self._counts(now)
        own = np.full((len(ids), len(self.half_lives)), LEAST)
        own[alive] = counts[at[alive]]
        return np.asarray(own / np.maximum(counts.sum(0), LEAST))

    def _counts(self, now: float) -> NDArray[np.float64]:
        return self.counts * self._decay(max(0.0, now - self.time)) + LEAST

    def find(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Place of each id (an array of any shape) among the items, and whether it is one of them."""
        if not len(self):
            return np.zeros(ids.shape, np.int64), np.zeros(ids.shape, np.bool_)
        at = np.minimum(self.ids.searchsorted(ids), len(self) - 1)
        return at, self.ids[at] == ids

    def attributes_of(self, ids: Ids) -> Ids:
        """[..., A], for ids [...]; ``EMPTY`` for an item that is not alive."""
        at, alive = self.find(ids)
        told = np.full((*ids.shape, self.attributes.shape[1]), EMPTY, np.int64)
        told[alive] = self.attributes[at[alive]]
        return told

    def _decay(self, seconds: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., H]: what is left of a click after so long."""
        return np.asarray(np.exp2(-np.asarray(seconds)[..., None] / np.array(self.half_lives)))
