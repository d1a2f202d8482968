"""What chance does: every check consults it before it speaks.

Impressions of one user or request hang together, so what is counted is *draws*: rows over their dispersion, or
requests. Chance is bounded by Chernoff's inequality (Hoeffding 1963, Theorem 1): for n independent values in 0..1 with
mean m, P(mean >= a) <= exp(-n KL(a || m)), which holds for any n, for unequal probabilities, and for no label at all.
-log of that bound is called the surprise.
"""

from collections.abc import Sequence
from math import log
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CANNOT_BE = log(1e9)
"""Surprise from which a thing is no chance: only then is a window passed over for good, since what is passed over by
its labels is not there to learn from."""

ERRORS_CANNOT_BE = 6.0
"""The same in standard errors of what is normal."""

SMALLEST_MEAN = 1e-9
"""Means are kept this far from 0 and 1."""

MANY_GROUPS = 50
"""Users from which one of them is no sign of how the others are."""

BOUNDED = 0.84
"""Mean of the square of a normal variable, no more than two standard deviations of it counted."""

ODDS = np.arange(-20.0, 20.0, 0.01)
"""Log-odds among which the likeliest past rate is looked for."""


def divergence(found: NDArray[np.float64] | float, mean: NDArray[np.float64] | float) -> Floats:
    """Kullback-Leibler divergence of Bernoulli(found) from Bernoulli(mean), in nats."""
    found, mean = np.clip(found, 0.0, 1.0), np.clip(mean, SMALLEST_MEAN, 1 - SMALLEST_MEAN)
    yes = np.where(found > 0, found * np.log(np.maximum(found, 1e-300) / mean), 0.0)
    clear = np.where(found < 1, (1 - found) * np.log(np.maximum(1 - found, 1e-300) / (1 - mean)), 0.0)
    return np.asarray(yes + clear)


def surprise_above(share: float, draws: float, limit: float) -> float:
    """Surprise of so high a share of the draws where the true one is at most `limit`; 0 where it is not above it."""
    return float(draws * divergence(share, limit)) if share > limit else 0.0


def surprise_below(share: float, draws: float, limit: float) -> float:
    """The same of so low a share where the true one is at least `limit`."""
    return float(draws * divergence(share, limit)) if share < limit else 0.0


def surely_above(share: float, draws: float, level: float) -> float:
    """What a true share is above, with chance 1 - `level`, where `share` of the draws was found: a lower bound."""
    low, high, enough = 0.0, share, -log(level)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if surprise_above(share, draws, middle) >= enough else (low, middle)
    return low


def surprise_of_odds(
    share: float, draws: float, usual: float, usual_draws: float, factor: float
) -> tuple[float, float]:
    """Surprise of odds so low, and of odds so high, where they are in truth within `factor` of the usual ones.

    The usual share is itself known from so many draws alone, so the likeliest pair of true shares is looked for: what
    is left of the log likelihood is the surprise (the generalised likelihood ratio).
    """
    past = usual_draws * divergence(usual, _share_of(ODDS))
    now = [draws * divergence(share, _share_of(ODDS + side * log(factor))) for side in (-1, 1)]
    found = [float(np.min(past + each)) for each in now]
    odds, usually = (log(max(of, SMALLEST_MEAN) / max(1 - of, SMALLEST_MEAN)) for of in (share, usual))
    return (
        found[0] if odds < usually - log(factor) else 0.0,
        found[1] if odds > usually + log(factor) else 0.0,
    )


def dispersion(off: Floats, variance: Floats, user: NDArray[np.int64]) -> float:
    """Variance of what users sum up to, over that of independent rows, at least 1.

    `off` [N]: each row's label minus what was expected; `variance` [N]: of it; `user` [N]: codes of whose they are. Of
    many users the part of one is bounded: a bot is no sign that readers hang together. Of few each one's labels are
    much of the whole, and what they give is itself off by chance: it is taken as nineteen in twenty such would have it.
    """
    summed, expected = _by(user, off), _by(user, variance)
    whole, users = float(expected.sum()), int(np.count_nonzero(expected))
    if whole <= 0:
        return 1.0
    many = users >= MANY_GROUPS
    least = BOUNDED if many else float(_least(np.array(users)))
    return max(1.0, float(_squares(summed, expected, many=many).sum()) / whole / least)


def dispersion_apart(
    off: Floats, variance: Floats, user: NDArray[np.int64], group: NDArray[np.int64], groups: int
) -> Floats:
    """[groups] the same of the rows outside each group, by their codes `group` [N]: what a group has lost, or one user
    has too much, is no sign of how the others are. Of a group that has all rows, of these."""
    summed, expected = _by(user, off), _by(user, variance)
    many = int(np.count_nonzero(expected)) >= MANY_GROUPS
    pair, place = np.unique(user * groups + group, return_inverse=True)
    whose, of = pair // groups, pair % groups
    inside = _by(place, variance)
    all_theirs = np.isclose(inside, expected[whose])
    left_off = np.where(all_theirs, 0.0, summed[whose] - _by(place, off))
    left = np.where(all_theirs, 0.0, expected[whose] - inside)
    of_users = _squares(summed, expected, many=many)
    changed = _squares(left_off, left, many=many) - of_users[whose]
    outside = expected.sum() - np.bincount(of, inside, groups)
    users = np.count_nonzero(expected) - np.bincount(of, all_theirs, groups)
    found = (of_users.sum() + np.bincount(of, changed, groups)) / np.maximum(outside, SMALLEST_MEAN)
    found = found / (BOUNDED if many else _least(users))
    return np.where(outside > SMALLEST_MEAN, np.maximum(found, 1.0), dispersion(off, variance, user))


def _by(code: NDArray[np.int64], values: Floats) -> Floats:
    """Sums of values [N] by code."""
    return np.bincount(code, values).astype(np.float64)


def _squares(off: Floats, variance: Floats, *, many: bool) -> Floats:
    return np.minimum(off**2, 4 * variance) if many else off**2


def _least(users: NDArray[np.int64]) -> Floats:
    """A chi-squared variable of as many degrees of freedom over its mean, which one in twenty is below (Wilson &
    Hilferty 1931)."""
    spread = 2 / (9 * np.maximum(users, 1))
    return np.asarray(np.maximum(1 - spread + NormalDist().inv_cdf(0.05) * np.sqrt(spread), 0.2) ** 3)


def effective(group: NDArray[np.int64]) -> float:
    """How many independent rows say as much as these [N], where those of one group say the same: their number squared
    over the sum of the groups' (Kish 1965, "Survey Sampling")."""
    counts = np.unique(group, return_counts=True)[1].astype(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if len(counts) else 0.0


def together(values: Floats, user: NDArray[np.int64]) -> float:
    """Share of the variance of values [N] that lies between the users they are of [N], beyond what chance puts there
    (ANOVA): 1, all rows of one have a value; 0, they are as any rows. 1 where they have no variance."""
    off, counts = values - values.mean(), np.bincount(user)
    between_users = float((_by(user, off) ** 2 / np.maximum(counts, 1)).sum())
    return _beyond_chance([(between_users, float((off**2).sum()), int(np.count_nonzero(counts)), len(values))])


def together_by_category(parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> float:
    """The same of categories, by their codes, over parts that have each its own rows, users and shares."""
    found = []
    for category, user in parts:
        counts, of_user = np.bincount(category).astype(np.float64), np.bincount(user)
        pairs, both = np.unique(np.stack([user, category]), axis=1, return_counts=True)
        usual = float((counts**2).sum()) / len(category)
        between_users = float((both**2 / of_user[pairs[0]]).sum()) - usual
        found.append((between_users, float(counts.sum()) - usual, int(np.count_nonzero(of_user)), len(category)))
    return _beyond_chance(found)


def _beyond_chance(parts: Sequence[tuple[float, float, int, int]]) -> float:
    """Of variance between users, all of it, users and rows, by part."""
    between_users = whole = by_chance = 0.0
    for theirs, variance, users, rows in parts:
        if 2 <= users < rows:
            between_users, whole = between_users + theirs, whole + variance
            by_chance += variance * (users - 1) / (rows - 1)
    return float(np.clip((between_users - by_chance) / (whole - by_chance), 0.0, 1.0)) if whole > by_chance else 1.0


def draws(rows: float, users: float, hang_together: Floats | float) -> Floats:
    """How many independent rows say as much as so many of `users` (`effective`), where such a share of the variance
    lies between users: rows over the design effect (Kish 1965)."""
    return np.asarray(rows / (1 + (max(rows / max(users, 1.0), 1.0) - 1) * hang_together))


def between(labels: Sequence[float], rows: Sequence[float]) -> float:
    """Dispersion between windows [M], from their counts of labels and rows (Pearson's statistic); at least 1."""
    counted, of = np.asarray(labels, np.float64), np.asarray(rows, np.float64)
    rate = float(counted.sum() / of.sum()) if len(of) and of.sum() else 0.0
    if len(of) < 2 or not 0 < rate < 1:
        return 1.0
    return max(1.0, float(((counted - of * rate) ** 2 / (of * rate * (1 - rate))).sum()) / (len(of) - 1))


def _share_of(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds)))
