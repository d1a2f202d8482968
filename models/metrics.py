"""Log loss and AUC of predictions, and one model's log loss against another's on the same requests.

Arrays: ``probability`` f8[N] in 0..1, ``label`` [N] of 0 and 1, ``request`` [N] codes. A row whose label is NaN (not
known) does not count. A figure that its data do not define (one class only, no rows) is NaN. Measures by request are in
:mod:`models.ranking_metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ranking_metrics import LabelledScores, codes

Floats = NDArray[np.float64]
Array = NDArray[Any]

SMALLEST = 1e-7
"""Probabilities are clipped this far from 0 and 1 before a logarithm is taken."""

CALIBRATION_BINS = 20
"""Equally filled bins of the expected calibration error."""

ONE_SIDED_95 = 1.6448536269514722
"""The 95 % point of the normal distribution."""


def losses(probability: Array, label: Array) -> Floats:
    """Log loss of each row, in nats."""
    p = np.clip(np.asarray(probability, np.float64), SMALLEST, 1 - SMALLEST)
    y = np.asarray(label, np.float64)
    loss: Floats = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return loss


def log_odds(probability: Array) -> Floats:
    """Of probabilities [...], log(p / (1 - p)); finite at 0 and 1 too."""
    p = np.clip(np.asarray(probability, np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(p) - np.log1p(-p))


def log_loss(probability: Array, label: Array) -> float:
    """Mean log loss, in nats."""
    return mean(losses(probability, label))


def auc(probability: Array, label: Array) -> float:
    """Chance that a clicked row is above one not clicked, both drawn from all rows; a tie counts half."""
    return LabelledScores.of(probability, label).auc()


@dataclass(frozen=True)
class PairedDifference:
    """Mean log loss by request of the champion minus that of the challenger, in nats: above 0 the challenger is better.

    The bounds are one-sided: with 95 % confidence (normal, requests independent) the truth is above ``lower``; with
    95 % confidence it is below ``upper``.
    """

    mean: float
    lower: float
    upper: float
    requests: int


def paired_difference(champion: Array, challenger: Array, label: Array, request: Array) -> PairedDifference:
    """Compare two models' probabilities for the same rows. A request counts once, however many rows it has.

    Rows of a request share their user and time, so the request, and not the row, is the unit of sampling. With fewer
    than two requests the bounds are infinite.
    """
    by_request = gains(champion, challenger, label, request)
    n = len(by_request)
    if n < 2:
        return PairedDifference(mean(by_request), -float("inf"), float("inf"), n)
    centre, error = float(by_request.mean()), float(by_request.std(ddof=1) / np.sqrt(n))
    return PairedDifference(centre, centre - ONE_SIDED_95 * error, centre + ONE_SIDED_95 * error, n)


def gains(champion: Array, challenger: Array, label: Array, request: Array) -> Floats:
    """[R], mean log loss of the champion minus that of the challenger on each request's rows, in nats."""
    y = np.asarray(label, np.float64)
    known = np.isfinite(y)
    gain = losses(np.asarray(champion)[known], y[known]) - losses(np.asarray(challenger)[known], y[known])
    group = codes(np.asarray(request)[known])
    by_request: Floats = np.bincount(group, gain) / np.bincount(group)
    return by_request


def equal_variance(champion: Array, challenger: Array) -> Floats:
    """[N], the variance of each row's gain in log loss if both models were equally good there.

    The gain is linear in the label, a + y d with d the difference of the log-odds: its mean is 0 where labels come with
    probability -a / d, which lies between the two predictions, and its variance is then that of such a label times d
    squared. With few clicks, or none, the sample variance of the gains is far too small.
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
