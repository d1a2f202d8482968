"""Which of the scored candidates are shown: caps, diversity and a quota over their scores.

    places = select(scores, 20, caps=(Cap("section", 3, of_first=10),), diversity=0.2, columns={"section": keys})

A pure function of the scores, which may have been drawn at random: what is shown is then a random choice too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.declare.recommend import Cap

Keys = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Quota:
    """At least so many of the shown are of these candidates, as far as there are."""

    of: NDArray[np.bool_]
    """[N]"""
    least: int


def select(
    scores: NDArray[np.floating],
    limit: int | None,
    caps: Sequence[Cap] = (),
    diversity: float = 0.0,
    columns: Mapping[str, Keys] | None = None,
    quota: Quota | None = None,
) -> NDArray[np.int64]:
    """[K]; places of at most ``limit`` of N candidates with scores [N], first the one that is shown first.

    ``columns``: of each column that says of what kind an item is, its keys [N, T], 0 where there is none. One place
    after the other gets the best candidate left by maximal marginal relevance (Carbonell & Goldstein 1998):
    (1 - diversity) times its score, scaled to 0..1 over the candidates, less diversity times its largest likeness to
    one that is placed. Two are alike by the share of the columns that have a key in common. A cap makes way where
    nothing else is left; the quota, in the last places, for nothing. Of equals the first comes first.
    """
    count = len(scores) if limit is None else min(limit, len(scores))
    columns = columns or {}
    if not caps and not diversity and quota is None:
        return np.argsort(-scores, kind="stable")[:count]
    worth = _scaled(scores) * (1.0 - diversity) if diversity else scores.astype(np.float64)
    left = np.ones(len(scores), np.bool_)
    alike = np.zeros(len(scores))
    shown_of = [_ShownOf.nothing(columns[cap.column]) for cap in caps]
    wanted = 0 if quota is None else min(quota.least, count, int(quota.of.sum()))
    chosen = np.empty(count, np.int64)
    for place in range(count):
        eligible = left
        if quota is not None and wanted >= count - place:
            eligible = eligible & quota.of
        for cap, shown in zip(caps, shown_of, strict=True):
            if place < cap.of_first and (free := eligible & (shown.most() < cap.most)).any():
                eligible = free
        best = int(np.argmax(np.where(eligible, worth - diversity * alike, -np.inf)))
        chosen[place], left[best] = best, False
        if quota is not None and quota.of[best]:
            wanted = max(0, wanted - 1)
        for shown in shown_of:
            shown.add(best)
        if diversity and columns:
            likeness = sum(_in_common(keys, best).astype(np.float64) for keys in columns.values())
            alike = np.maximum(alike, likeness / len(columns))
    return chosen


@dataclass(frozen=True, eq=False)
class _ShownOf:
    """How many are placed of each value of a column."""

    codes: NDArray[np.int64]
    """[N, T]; of each value a number from 0."""
    counts: NDArray[np.int64]
    """By number."""
    absent: NDArray[np.bool_]
    """By number, whether it is that of no value."""

    @staticmethod
    def nothing(keys: Keys) -> "_ShownOf":
        values, codes = np.unique(keys, return_inverse=True)
        return _ShownOf(codes.reshape(keys.shape), np.zeros(len(values), np.int64), values == 0)

    def add(self, candidate: int) -> None:
        own = np.unique(self.codes[candidate])
        self.counts[own[~self.absent[own]]] += 1

    def most(self) -> NDArray[np.int64]:
        """[N]; of each candidate, how many are placed of that of its values of which most are."""
        return np.asarray(self.counts[self.codes].max(1, initial=0))


def _scaled(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The scores as 0 to 1; all 0 where they are equal."""
    if not len(scores):
        return np.zeros(0)
    least, most = float(scores.min()), float(scores.max())
    return np.asarray((scores.astype(np.float64) - least) / (most - least if most > least else 1.0))


def _in_common(keys: Keys, with_: int) -> NDArray[np.bool_]:
    """[N]; which of the candidates, with keys [N, T], have one of those of one of them."""
    own = keys[with_]
    own = own[own != 0]
    if len(own) == 1:
        return np.asarray((keys == own[0]).any(1))
    return np.asarray(np.isin(keys, own).any(1))
