"""How far back counters should look, from a sample of a log: what differs between a feed and a catalogue is its pace.

lives = half_lives(item_id, user_id, at, positive)
families = standard(columns, short=lives.short, long=lives.long, user=lives.user, rate=lives.rate)
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.declare.families import DAY, HOUR, MINUTE

ROUND = (
    *(1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(count * MINUTE for count in (1, 2, 3, 5, 10, 15, 20, 30)),
    *(count * HOUR for count in (1, 2, 3, 4, 6, 8, 12)),
    *(count * DAY for count in (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180)),
    *(count * 365 * DAY for count in (1, 2, 3, 5, 10, 20, 50, 100)),
)
"""Spans that a person would write, in seconds."""

APART = 1.3
"""Half-lives closer than this factor say the same twice."""


@dataclass(frozen=True)
class HalfLives:
    """The pace of a log, as :func:`features.declare.standard.standard` takes it."""

    short: float
    """Seconds in which a typical item gets about one positive label: less would be noise."""

    long: float
    """Seconds for which a typical item is shown."""

    user: float
    """Seconds in which a user does a few things in a row."""

    rate: float
    """Share of impressions that are positive."""


def half_lives(
    item_id: ArrayLike, user_id: ArrayLike, at: ArrayLike, positive: ArrayLike, *, share: float = 1.0
) -> HalfLives:
    """The pace of a sample of N impressions, which are such a share of the log's.

    All are [N]: ids of any one type, ``at`` in seconds since 1970, in any order. The sample must be a stretch of the
    log with all that was shown in it: rows or users drawn at random are sparser than the log is. No item lives longer
    than the sample lasts, so it should last for some days, or for years where items are kept for years.
    Raises ValueError for no impressions.
    """
    at, clicked = np.asarray(at, np.float64), np.asarray(positive, np.bool_)
    if not at.size:
        raise ValueError("half_lives: at has no impressions: give a longer sample")
    rate = (float(clicked.sum()) + 0.5) / (at.size + 1)
    item = np.unique(np.asarray(item_id), return_inverse=True)[1].reshape(-1)
    shown = np.bincount(item).astype(np.float64)
    first, last = np.full(shown.size, np.inf), np.full(shown.size, -np.inf)
    np.minimum.at(first, item, at)
    np.maximum.at(last, item, at)
    lived = last - first
    long = max(_typical(lived, shown), MINUTE)
    positives_per_second = _typical(shown / np.maximum(lived, 1.0), shown) * rate / share
    # A counter of this half-life holds one positive at a time: its sum is rate of events * half-life / ln 2.
    short = min(math.log(2) / positives_per_second, long / 32)
    user = min(4 * _gap(np.unique(np.asarray(user_id), return_inverse=True)[1].reshape(-1), at, long), long / 80)
    return HalfLives(short=float(max(short, 5.0)), long=long, user=float(max(user, 5.0)), rate=rate)


def rounded(seconds: float) -> float:
    """The span of ``ROUND`` that is nearest, as a ratio."""
    return min(ROUND, key=lambda span: abs(math.log(span / seconds)))


def spread(spans: Iterable[float]) -> tuple[float, ...]:
    """These half-lives rounded to spans that a person would write, rising, without near doubles."""
    found = list[float]()
    for span in sorted(map(rounded, spans)):
        if not found or span > found[-1] * APART:
            found.append(span)
    return tuple(found)


def ladder(short: float, long: float, rungs: int) -> tuple[float, ...]:
    """So many half-lives from the one to the other, each the same factor longer."""
    return tuple(short * (long / short) ** (rung / (rungs - 1)) for rung in range(rungs))


def _typical(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """The weighted median: what half of the impressions are of items below."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _gap(user: NDArray[np.intp], at: NDArray[np.float64], otherwise: float) -> float:
    """Median seconds between two moments of a user; ``otherwise`` where nobody came twice."""
    order = np.lexsort((at, user))
    gaps = np.diff(at[order])[np.diff(user[order]) == 0]
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if gaps.size else otherwise
