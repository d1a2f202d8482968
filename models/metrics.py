"""How good predictions are: pooled, calibrated, by request, and one model against another on the same requests.

Arrays: ``probability`` f8[N] in 0..1, ``label`` [N] of 0 and 1, ``request`` [N] codes. A row whose label is NaN (not
known) does not count, nor does, where order is measured, a request whose order cannot matter: without a click, with
nothing but clicks, with one candidate. A figure that its data do not define (one class only, no such request) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ranking_metrics import Scored, codes

Floats = NDArray[np.float64]
Array = NDArray[Any]

SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1 before a logarithm is taken."""

CALIBRATION_BINS = 20

ONE_SIDED_95 = 1.6448536269514722
"""The 95 % point of the normal distribution."""


def losses(probability: Array, label: Array) -> Floats:
    """Log loss of each row, in nats."""
    p = np.clip(np.asarray(probability, np.float64), SMALLEST, 1 - SMALLEST)
    y = np.asarray(label, np.float64)
    loss: Floats = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return loss


def log_loss(probability: Array, label: Array) -> float:
    """Mean log loss, in nats."""
    return mean(losses(probability, label))


def normalised_entropy(probability: Array, label: Array) -> float:
    """Log loss over that of always predicting the labels' own mean (He et al. 2014): 1 says nothing, 0 all."""
    base = np.full(len(label), mean(np.asarray(label, np.float64)))
    nothing_known = log_loss(base, label)
    return log_loss(probability, label) / nothing_known if nothing_known > 2 * SMALLEST else float("nan")


def auc(probability: Array, label: Array) -> float:
    """Chance that a clicked row is above one not clicked, both drawn from all rows; a tie counts half."""
    return Scored.of(probability, label).auc()


def grouped_auc(probability: Array, label: Array, request: Array) -> float:
    """Mean of the AUC within each request (or user) that has both classes, weighted by its rows (Zhu et al. 2017)."""
    by_request = Scored.of(probability, label, request).by_request()
    both = np.isfinite(by_request.auc)
    weight = by_request.rows[both].sum()
    return float((by_request.auc * by_request.rows)[both].sum() / weight) if weight else float("nan")


def calibration_error(probability: Array, label: Array, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: mean over equally filled bins of |mean probability - mean label|."""
    scored = Scored.of(probability, label)
    if not len(scored):
        return float("nan")
    gap = np.bincount(scored.calibration_bins(bins), scored.probability - scored.label)
    return float(np.abs(gap).sum() / len(scored))


def mrr(probability: Array, label: Array, request: Array) -> float:
    """Mean over requests of 1 / rank of the highest clicked row. Rows that tie share their mean rank."""
    return mean(1 / first_click(probability, label, request))


def hit_rate(probability: Array, label: Array, request: Array, k: int = 1) -> float:
    """Share of the requests whose highest clicked row is among the first ``k``, of those where it need not be: with
    ``k`` rows that are not clicked, or more."""
    found = Scored.of(probability, label, request).by_request()
    may_miss = np.isfinite(found.first_click) & (found.rows - found.clicks >= k)
    return mean((found.first_click[may_miss] <= k).astype(np.float64))


def ndcg(probability: Array, label: Array, request: Array) -> float:
    """Mean over requests of the discounted gain over that of the best order; see ``ByRequest.ndcg``."""
    return mean(Scored.of(probability, label, request).by_request().ndcg)


def first_click(probability: Array, label: Array, request: Array) -> Floats:
    """Rank, from 1, of the highest clicked row of each request whose order matters: [such requests]."""
    rank = Scored.of(probability, label, request).by_request().first_click
    return rank[np.isfinite(rank)]


@dataclass(frozen=True)
class Difference:
    """Mean log loss by request of the champion minus that of the challenger, in nats: above 0 the challenger is better.

    The bounds are one-sided: with 95 % confidence (normal, requests independent) the truth is above ``lower``; with
    95 % confidence it is below ``upper``.
    """

    mean: float
    standard_error: float
    lower: float
    upper: float
    requests: int


def paired_difference(champion: Array, challenger: Array, label: Array, request: Array) -> Difference:
    """Compare two models' probabilities for the same rows. A request counts once, however many rows it has.

    Rows of a request share their reader and moment, so the request, and not the row, is what is drawn. Fewer than two
    requests say nothing: the bounds are then infinite.
    """
    by_request = gains(champion, challenger, label, request)
    n = len(by_request)
    if n < 2:
        return Difference(mean(by_request), float("inf"), -float("inf"), float("inf"), n)
    centre, error = float(by_request.mean()), float(by_request.std(ddof=1) / np.sqrt(n))
    return Difference(centre, error, centre - ONE_SIDED_95 * error, centre + ONE_SIDED_95 * error, n)


def gains(champion: Array, challenger: Array, label: Array, request: Array) -> Floats:
    """[R], mean log loss of the champion minus that of the challenger on each request's rows, in nats."""
    y = np.asarray(label, np.float64)
    known = np.isfinite(y)
    gain = losses(np.asarray(champion)[known], y[known]) - losses(np.asarray(challenger)[known], y[known])
    group = codes(np.asarray(request)[known])
    by_request: Floats = np.bincount(group, gain) / np.bincount(group)
    return by_request


def equal_variance(champion: Array, challenger: Array) -> Floats:
    """[N], the variance of each row's gain in log loss were both models as good there.

    The gain is linear in the label, a + y d with d the difference of the log-odds: it is 0 on average where labels come
    with probability -a / d, which lies between the two predictions, and its variance is then that of such a label times
    d squared. Of few clicks, or none, the gains found say less: they all look alike.
    """
    before, now = (np.clip(np.asarray(each, np.float64), SMALLEST, 1 - SMALLEST) for each in (champion, challenger))
    without = np.log1p(-now) - np.log1p(-before)
    apart = np.log(now / before) - without
    chance = np.divide(-without, apart, out=before.copy(), where=np.abs(apart) > 1e-9)
    variance: Floats = chance * (1 - chance) * apart**2
    return variance


def mean(values: Floats) -> float:
    """Mean of those that are numbers; NaN where there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
