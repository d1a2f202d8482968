"""From counters to dense values: shrunk click rates as log-odds, sizes, ages, and the user's own numbers.

The arithmetic is done value by value in compiled loops, so a row's values do not depend on how many rows are read
with it: the same to the bit in a request of one item and in a replay of a million.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from features.counters.logarithm import logs
from features.counters.users import CLICKS, LAST_CLICK, LAST_SEEN, SESSION_CLICKS, SESSION_START
from features.counters.users import SHOWN as USER_SHOWN
from features.declare.families import Family
from features.declare.features import USER_COLUMNS

Float = NDArray[np.float64]

DAY = 86400.0
NEVER = math.log1p(30 * DAY)
"""Given as the log of an age where there is none."""


@dataclass(frozen=True)
class Rates:
    """A family's shrunk click rates: the prior of other families."""

    values: Float  # (N, H)
    log_odds: Float  # (N, H)
    half_lives: tuple[float, ...]

    @classmethod
    def of(cls, values: Float, half_lives: tuple[float, ...]) -> "Rates":
        log_odds = np.empty(values.shape)
        _log_odds_of(values, log_odds)
        return cls(values, log_odds, half_lives)

    @classmethod
    def all_of(cls, rate: float, count: int) -> "Rates":
        """The same rate for N rows."""
        one = cls.of(np.array([[rate]]), (1.0,))
        return cls(np.repeat(one.values, count, axis=0), np.repeat(one.log_odds, count, axis=0), one.half_lives)


def read_family(
    family: Family, sums: Float, times: Float, at: Float, prior: Rates, whole: Float | None = None
) -> tuple[Float, Rates]:
    """Dense columns (N, C) of one family, and its shrunk rates (N, H), the prior of other families.

    A rate is shrunk as the mean of a beta posterior: (clicks + n * prior) / (impressions + n), n the pseudo-counts.
    ``sums`` (N, 2H), or (N, M * 2H) with ``naive_bayes``, and ``times`` (N, 3) are what the fold read at ``at`` (N,);
    ``prior`` (N, P) are the rates of the prior family; ``whole`` (N, 2H) are the sums of ``share_of``.
    """
    own, log_odds = np.empty((len(at), len(family.half_lives))), np.empty((len(at), len(family.half_lives)))
    dense = np.empty((len(at), len(family.columns)))
    family_values(
        family.pseudo_counts,
        nearest_lives(family.half_lives, prior.half_lives),
        (family.naive_bayes, family.trend, family.sizes, family.share_of is not None, family.ages),
        sums,
        sums if whole is None else whole,
        times,
        at,
        prior.values,
        prior.log_odds,
        own,
        log_odds,
        dense,
    )
    return dense, prior if family.naive_bayes else Rates(own, log_odds, family.half_lives)


def nearest_lives(own: tuple[float, ...], others: tuple[float, ...]) -> NDArray[np.int64]:
    """Of each half-life (H,) the place of the nearest of the prior's."""
    distance = [abs(math.log(a) - math.log(b)) for a in own for b in others]
    return np.asarray(np.array(distance).reshape(len(own), len(others)).argmin(axis=1))


def read_user(numbers: Float, at: Float, hour_at: Float, base_rate: float) -> Float:
    """Dense columns (N, 9), those of ``USER_COLUMNS``, from a user's numbers (N, 6)."""
    dense = np.empty((len(at), len(USER_COLUMNS)))
    user_values(numbers, at, hour_at, base_rate, dense)
    return dense


@numba.njit(cache=True, nogil=True, error_model="numpy")
def family_values(  # type: ignore[no-untyped-def]
    pseudo_counts, nearest, has, sums, whole, times, at, prior_rates, prior_log_odds, rates, log_odds, dense
):
    """Fill a family's ``rates`` and their ``log_odds`` (N, H), unless it is ``naive_bayes``, and ``dense`` (N, C).

    ``has``: whether it has ``naive_bayes``, ``trend``, how many ``sizes``, whether ``share_of`` and ``ages``.
    """
    naive_bayes, trend, sizes, shares, ages = has
    lives = len(nearest)
    if naive_bayes:
        pooled = np.empty((len(at), 2 * lives))
        _naive_bayes(sums, prior_rates, nearest, pseudo_counts, pooled, dense)
        _sizes(pooled, sizes, 2 * lives, dense)
        column = 2 * lives + sizes
    else:
        if trend:
            _trend(sums, prior_rates, pseudo_counts, rates)
        else:
            _shrunk(sums, prior_rates, nearest, pseudo_counts, rates)
        _log_odds_of(rates, log_odds)
        for i in range(len(at)):
            for h in range(lives):
                dense[i, h] = log_odds[i, h] if trend else log_odds[i, h] - prior_log_odds[i, nearest[h]]
        _sizes(sums, sizes, lives, dense)
        column = lives + sizes
    if shares:
        _shares(sums, whole, dense, column)
        column += lives
    if ages:
        _ages(times, at, dense, column)


@numba.njit(cache=True, error_model="numpy")
def _odds(rate):  # type: ignore[no-untyped-def]
    rate = min(max(rate, 1e-6), 1.0 - 1e-6)
    return rate / (1.0 - rate)


@numba.njit(cache=True, error_model="numpy")
def _trend(sums, prior, pseudo_counts, rates):  # type: ignore[no-untyped-def]
    lives = rates.shape[1]
    for i in range(len(rates)):
        rate = prior[i, prior.shape[1] - 1]
        for h in range(lives - 1, -1, -1):
            rate = (sums[i, h] + pseudo_counts * rate) / (sums[i, lives + h] + pseudo_counts)
            rates[i, h] = rate


@numba.njit(cache=True, error_model="numpy")
def _log_odds_of(rates, log_odds):  # type: ignore[no-untyped-def]
    for i in range(len(rates)):
        for h in range(rates.shape[1]):
            log_odds[i, h] = _odds(rates[i, h])
    logs(log_odds.reshape(-1))


@numba.njit(cache=True, error_model="numpy")
def _shrunk(sums, prior, nearest, pseudo_counts, rates):  # type: ignore[no-untyped-def]
    lives = rates.shape[1]
    for i in range(len(rates)):
        for h in range(lives):
            rates[i, h] = (sums[i, h] + pseudo_counts * prior[i, nearest[h]]) / (sums[i, lives + h] + pseudo_counts)


@numba.njit(cache=True, error_model="numpy")
def _naive_bayes(sums, prior, nearest, pseudo_counts, pooled, dense):  # type: ignore[no-untyped-def]
    lives = len(nearest)
    together, most = np.empty(len(sums) * lives), np.empty(len(sums) * lives)
    for i in range(len(sums)):
        for h in range(2 * lives):
            total = 0.0
            for first in range(0, sums.shape[1], 2 * lives):
                total += sums[i, first + h]
            pooled[i, h] = total
        for h in range(lives):
            rate_of_prior = prior[i, nearest[h]]
            odds = _odds(rate_of_prior)
            product, largest = 1.0, 1.0
            # one that was never counted has the prior's rate, and a ratio of 1
            for first in range(0, sums.shape[1], 2 * lives):
                rate = (sums[i, first + h] + pseudo_counts * rate_of_prior) / (
                    sums[i, first + lives + h] + pseudo_counts
                )
                ratio = _odds(rate) / odds
                product *= ratio
                largest = max(largest, ratio)
            together[i * lives + h] = product
            most[i * lives + h] = largest
    logs(together)
    logs(most)
    for i in range(len(sums)):
        for h in range(lives):
            dense[i, h] = together[i * lives + h]
            dense[i, lives + h] = most[i * lives + h]


@numba.njit(cache=True)
def _log_counts(sums, last):  # type: ignore[no-untyped-def]
    """The logs (N * last,), row by row, of one more than the last so many columns of ``sums``."""
    first = sums.shape[1] - last
    values = np.empty(len(sums) * last)
    for i in range(len(sums)):
        for h in range(last):
            values[i * last + h] = 1.0 + sums[i, first + h]
    logs(values)
    return values


@numba.njit(cache=True)
def _sizes(sums, sizes, column, dense):  # type: ignore[no-untyped-def]
    values = _log_counts(sums, sizes)
    for i in range(len(sums)):
        for h in range(sizes):
            dense[i, column + h] = values[i * sizes + h]


@numba.njit(cache=True)
def _shares(sums, whole, dense, column):  # type: ignore[no-untyped-def]
    lives = sums.shape[1] // 2
    own, others = _log_counts(sums, lives), _log_counts(whole, lives)
    for i in range(len(sums)):
        for h in range(lives):
            dense[i, column + h] = own[i * lives + h] - others[i * lives + h]


@numba.njit(cache=True)
def _ages(times, at, dense, column):  # type: ignore[no-untyped-def]
    values = np.empty(times.size)
    for i in range(len(at)):
        for j in range(3):
            known = not math.isnan(times[i, j])
            values[i * 3 + j] = 1.0 + (max(at[i] - times[i, j], 0.0) if known else 0.0)
    logs(values)
    for i in range(len(at)):
        for j in range(3):
            dense[i, column + j] = NEVER if math.isnan(times[i, j]) else values[i * 3 + j]


@numba.njit(cache=True)
def _age(at, then):  # type: ignore[no-untyped-def]
    if math.isnan(then):
        return NEVER
    return math.log1p(max(at - then, 0.0))


@numba.njit(cache=True)
def user_values(numbers, at, hour_at, base_rate, dense):  # type: ignore[no-untyped-def]
    """Fill what :func:`read_user` gives."""
    for i in range(len(at)):
        dense[i, 0] = _age(at[i], numbers[i, LAST_CLICK])
        dense[i, 1] = _age(at[i], numbers[i, LAST_SEEN])
        dense[i, 2] = _age(at[i], numbers[i, SESSION_START])
        dense[i, 3] = math.log1p(numbers[i, SESSION_CLICKS])
        dense[i, 4] = math.log1p(numbers[i, CLICKS])
        dense[i, 5] = math.log1p(numbers[i, USER_SHOWN])
        rate = (numbers[i, CLICKS] + 20.0 * base_rate) / (numbers[i, USER_SHOWN] + 20.0)
        dense[i, 6] = math.log(_odds(rate))
        hour = 2.0 * math.pi * (hour_at[i] % DAY) / DAY
        dense[i, 7] = math.sin(hour)
        dense[i, 8] = math.cos(hour)
