"""Of several arms that are shown in turns, is one worse than another? By sets of impressions matched in time.

    found = matched(arms, clicked, count=3)
    found.pair[0, 1]             # log evidence that arm 0 is worse than arm 1
    found.rest[0]                # ... that it is worse than some of the others

Who chooses what to show learns from what was clicked, and what is shown fades meanwhile: so the shares of clicks of two
arms differ though the arms do not, where one was shown while all were clicked more. Here an impression of one arm is
compared with some of the other at about the same time. A set has one impression of the arm that was shown less so far
and ``m`` of the other, ``m`` by how much less, settled before it begins; it takes the next that come, and only when it
is whole the next set begins. So none is left out for what became of it. Of a set with T clicks among 1 + m impressions
the single one has a click with chance T / (1 + m) where the arms do not differ, whatever both are clicked at then, and
with more or less where their odds do: the likelihood of conditional logistic regression (Breslow & Day 1980, chapter
7), which for m = 1 is that of McNemar's test.

The evidence is its ratio to that of equal odds, set after set, mixed over how much worse the arm may be: a test
martingale, no more than 1 in the mean where the arm is no worse. So it reaches 1 / level at some look with chance level
at most (Ville's inequality; Ramdas, Grünwald, Vovk & Shafer 2023, "Game-theoretic statistics and safe anytime-valid
inference"), however the allocation adapts.

It takes for granted that who sees one arm or the other at about the same time is alike, and that what is worse stays
worse.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.compiled import numba

Floats = npt.NDArray[np.float64]

LOG_ODDS = np.array([0.15, 0.3, 0.5, 0.75, 1.1])
"""How much worse an arm may be, in log-odds of a click: each is as likely, beforehand."""

MOST = 6
"""Impressions that one is matched with, at most."""


@dataclass(frozen=True, eq=False)
class Matched:
    """Natural logarithms of evidence, of K arms."""

    pair: Floats
    """[K, K]: that the first is worse than the second; 0 on the diagonal."""
    rest: Floats
    """[K]: that it is worse than some of the others, whichever they are."""


def matched(arms: npt.ArrayLike, clicked: npt.ArrayLike, count: int) -> Matched:
    """Of N impressions in order of time, of arms [N] from 0 to ``count`` and whether each was clicked [N]."""
    pair, rest = np.zeros((count, count, len(LOG_ODDS))), np.zeros((count, len(LOG_ODDS)))
    _follow(np.asarray(arms, np.int64), np.asarray(clicked, np.bool_), np.exp(LOG_ODDS), MOST, pair, rest)
    return Matched(_mixed(pair), _mixed(rest))


def _mixed(each: Floats) -> Floats:
    return np.asarray(np.logaddexp.reduce(each, axis=-1) - np.log(each.shape[-1]), np.float64)


@numba.njit(cache=True)
def _follow(arms, clicked, odds, most, pair, rest):  # type: ignore[no-untyped-def]
    """Adds to ``pair`` [K, K, G] and ``rest`` [K, G] the log likelihood ratios of every set that is whole."""
    count = len(rest)
    shown = np.zeros(count, np.int64)
    # A set of arms i < j lies at [i, j], one of arm i and all others at [i, i]: which arm is single in it, how many
    # others it takes and has, their clicks, and what became of the single one, -1 while it has not come.
    single, wants = np.full((count, count), -1), np.zeros((count, count), np.int64)
    has, clicks = np.zeros((count, count), np.int64), np.zeros((count, count), np.int64)
    alone = np.full((count, count), -1)
    for t in range(len(arms)):
        arm, click = arms[t], np.int64(clicked[t])
        for n in range(2 * count):
            # first the sets of this arm with each other, then those of each with all others
            i, j = (min(arm, n), max(arm, n)) if n < count else (n - count, n - count)
            if n == arm:
                continue
            if single[i, j] < 0:
                own, others = shown[i], shown[j] if i != j else t - shown[i]
                less = i == j or own <= others
                single[i, j] = i if less else j
                fewer, more = (own, others) if less else (others, own)
                wants[i, j] = min(max(more // max(fewer, 1), 1), most)
                has[i, j], clicks[i, j], alone[i, j] = 0, 0, -1
            if arm == single[i, j]:
                if alone[i, j] < 0:
                    alone[i, j] = click
            elif has[i, j] < wants[i, j]:
                has[i, j] += 1
                clicks[i, j] += click
            if alone[i, j] >= 0 and has[i, j] == wants[i, j]:
                one, total = single[i, j], clicks[i, j] + alone[i, j]
                if i == j:
                    _add(rest[i], odds, True, alone[i, j], total, wants[i, j] + 1)
                else:
                    other = i + j - one
                    _add(pair[one, other], odds, True, alone[i, j], total, wants[i, j] + 1)
                    _add(pair[other, one], odds, False, alone[i, j], total, wants[i, j] + 1)
                single[i, j] = -1
        shown[arm] += 1


@numba.njit(cache=True)
def _add(logs, odds, worse, alone, total, size):  # type: ignore[no-untyped-def]
    """Adds to ``logs`` [G] the log likelihood ratio of a set in which the single one's odds are less (``worse``) or
    more."""
    if total == 0 or total == size:
        return
    even = total / size
    for g in range(len(odds)):
        times = 1 / odds[g] if worse else odds[g]
        share = times * total / (times * total + size - total)
        logs[g] += np.log(share / even) if alone else np.log((1 - share) / (1 - even))
