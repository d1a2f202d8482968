"""How good predictions are: pooled, calibrated, by request, and one model against another on the same requests.

Arrays: ``probability`` f8[N] in 0..1, ``label`` [N] of 0 and 1, ``request`` [N] codes. A row whose label is NaN (not
known) does not count. A figure that its data do not define (one class only, no clicked request) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Array = NDArray[Any]

SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1 before a logarithm is taken."""

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
    known = np.isfinite(np.asarray(label, np.float64))
    positive = np.asarray(label)[known] > 0.5
    _, place, count = np.unique(np.asarray(probability)[known], return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    clicked, others = int(positive.sum()), int((~positive).sum())
    if not clicked or not others:
        return float("nan")
    return float((rank[positive].sum() - clicked * (clicked + 1) / 2) / (clicked * others))


def calibration_error(probability: Array, label: Array, bins: int = 20) -> float:
    """Expected calibration error: mean over equally filled bins of |mean probability - mean label|."""
    known = np.isfinite(np.asarray(label, np.float64))
    p, y = np.asarray(probability, np.float64)[known], np.asarray(label, np.float64)[known]
    if not len(p):
        return float("nan")
    order = np.argsort(p, kind="stable")
    # Equal probabilities belong to one bin, or their order in the log would decide the figure.
    _, value = np.unique(p[order], return_inverse=True)
    first = np.searchsorted(value, value, side="left")
    bin_of = first * min(bins, len(p)) // len(p)
    gap = np.bincount(bin_of, p[order] - y[order])
    return float(np.abs(gap).sum() / len(p))


def mrr(probability: Array, label: Array, request: Array) -> float:
    """Mean over requests with a click of 1 / rank of the highest clicked row. Rows that tie share their mean rank."""
    rank = first_click(probability, label, request)
    return mean(1 / rank)


def hit_rate(probability: Array, label: Array, request: Array, k: int = 1) -> float:
    """Share of the requests with a click whose highest clicked row is among the first ``k``."""
    rank = first_click(probability, label, request)
    return mean((rank <= k).astype(np.float64))


def first_click(probability: Array, label: Array, request: Array) -> Floats:
    """Rank, from 1, of the highest clicked row of each request that has one: [requests with a click]."""
    p, y = np.asarray(probability, np.float64), np.asarray(label, np.float64)
    known = np.isfinite(y)
    p, clicked, group = p[known], y[known] > 0.5, np.unique(np.asarray(request)[known], return_inverse=True)[1]
    best = np.full(group.max(initial=-1) + 1, -np.inf)
    np.maximum.at(best, group[clicked], p[clicked])
    above = np.bincount(group, p > best[group], minlength=len(best))
    level = np.bincount(group, p == best[group], minlength=len(best))
    rank: Floats = (1 + above + (level - 1) / 2)[np.isfinite(best)]
    return rank


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
    y = np.asarray(label, np.float64)
    known = np.isfinite(y)
    gain = losses(np.asarray(champion)[known], y[known]) - losses(np.asarray(challenger)[known], y[known])
    _, group, rows = np.unique(np.asarray(request)[known], return_inverse=True, return_counts=True)
    by_request = np.bincount(group, gain, minlength=len(rows)) / rows
    n = len(by_request)
    if n < 2:
        return Difference(mean(by_request), float("inf"), -float("inf"), float("inf"), n)
    centre, error = float(by_request.mean()), float(by_request.std(ddof=1) / np.sqrt(n))
    return Difference(centre, error, centre - ONE_SIDED_95 * error, centre + ONE_SIDED_95 * error, n)


def mean(values: Floats) -> float:
    """Mean of those that are numbers; NaN where there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
