"""Which of the scored candidates are shown: caps, diversity and a quota over their scores.

    places = select(scores, 20, caps=(Cap("section", 3, of_first=10),), diversity=0.2, columns={"section": keys})

A pure function of the scores, which may have been drawn at random: what is shown is then a random choice too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
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
    places = {name: place for place, name in enumerate(columns)}
    width = max((keys.shape[1] for keys in columns.values()), default=0)
    codes = np.full((len(columns), len(scores), width), ABSENT)
    for own, keys in zip(codes, columns.values(), strict=True):
        own[:, : keys.shape[1]] = _coded(keys)
    quota_of = np.zeros(0, np.bool_) if quota is None else quota.of
    chosen = np.empty(count, np.int64)
    _choose(
        worth,
        diversity,
        codes,
        np.array([(places[cap.column], cap.most, cap.of_first) for cap in caps], np.int64).reshape(-1, 3),
        quota_of,
        0 if quota is None else min(quota.least, count, int(quota.of.sum())),
        chosen,
    )
    return chosen


ABSENT = np.int64(-1)
"""Stands for a key that there is not."""


def _coded(keys: Keys) -> Keys:
    """[N, T]; the keys as numbers from 0, ``ABSENT`` where there is none."""
    values, codes = np.unique(keys, return_inverse=True)
    return np.where(values == 0, ABSENT, np.arange(len(values)))[codes.reshape(keys.shape)]


@numba.njit(cache=True, nogil=True)
def _choose(worth, diversity, codes, caps, quota_of, wanted, chosen):  # type: ignore[no-untyped-def]
    """Fill ``chosen`` [K]. ``codes`` [columns, N, T]; ``caps`` [C, 3]: column, how many, of how many first;
    ``quota_of`` [N], empty where there is no quota; ``wanted``: how many of it must be among the K."""
    columns, candidates, width = codes.shape
    placed = np.zeros((columns, candidates * width), np.int64)
    left, alike = np.ones(candidates, np.bool_), np.zeros(candidates)
    eligible, free = np.empty(candidates, np.bool_), np.empty(candidates, np.bool_)
    for place in range(len(chosen)):
        must = len(quota_of) > 0 and wanted >= len(chosen) - place
        for i in range(candidates):
            eligible[i] = left[i] and (not must or quota_of[i])
        for cap in range(len(caps)):
            column, most, of_first = caps[cap]
            if place >= of_first:
                continue
            for i in range(candidates):
                free[i] = eligible[i]
                for k in range(width):
                    code = codes[column, i, k]
                    free[i] = free[i] and (code == ABSENT or placed[column, code] < most)
            if free.any():
                eligible[:] = free
        best = -1
        for i in range(candidates):
            if eligible[i] and (best < 0 or worth[i] - diversity * alike[i] > worth[best] - diversity * alike[best]):
                best = i
        chosen[place], left[best] = best, False
        if len(quota_of) > 0 and quota_of[best]:
            wanted = max(0, wanted - 1)
        for column in range(columns):
            for k in range(width):
                code = codes[column, best, k]
                if code != ABSENT and not _earlier(codes[column, best], k):
                    placed[column, code] += 1
        if diversity > 0:
            for i in range(candidates):
                common = 0
                for column in range(columns):
                    common += _in_common(codes[column, i], codes[column, best])
                alike[i] = max(alike[i], common / max(columns, 1))


@numba.njit(cache=True, nogil=True)
def _earlier(codes, k):  # type: ignore[no-untyped-def]
    """Whether a code stands before place ``k`` already."""
    found = False
    for j in range(k):
        found = found or codes[j] == codes[k]
    return found


@numba.njit(cache=True, nogil=True)
def _in_common(one, other):  # type: ignore[no-untyped-def]
    """Whether two candidates have a code in common."""
    found = False
    for j in range(len(one)):
        for k in range(len(other)):
            found = found or (one[j] == other[k] and one[j] != ABSENT)
    return found


def _scaled(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The scores as 0 to 1; all 0 where they are equal."""
    if not len(scores):
        return np.zeros(0)
    least, most = float(scores.min()), float(scores.max())
    return np.asarray((scores.astype(np.float64) - least) / (most - least if most > least else 1.0))
