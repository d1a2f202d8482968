"""Two groups' distributions over the same bins: are they further apart than is allowed, at every look?

    apart = distance(counts, users, counts_of_control, users_of_control, level=0.001, tuned_for=10_000)
    apart.at_least > 0.2        # shown

The distance is Kolmogorov's and Smirnov's: the largest difference between the cumulative shares, here at the edges of
the bins. A fresh model gives scores a little different from the last one's, so a test of *any* difference would always
find one in the end; what is tested is whether they are further apart than a limit.

At each edge both groups' cumulative shares are means of values within 0 and 1, which are sub-Gaussian with variance
1/4 (Hoeffding 1963), so the mixture of `sequential.py` bounds their difference at all looks (Howard, Ramdas, McAuliffe
& Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"); the level is shared among edges and
sides. With twenty bins this is narrower than the time-uniform inequality of Dvoretzky, Kiefer and Wolfowitz by Howard
& Ramdas 2022, which holds at all points and for each group by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from monitoring.statistics.sequential import boundary


@dataclass(frozen=True)
class Distance:
    """How far two distributions are apart, 0 to 1."""

    found: float = 0.0

    at_least: float = -inf
    """It is above this at all looks together; below 0 where nothing is known."""


def distance(
    counts: Sequence[int],
    independent: float,
    counts_control: Sequence[int],
    independent_control: float,
    *,
    level: float,
    tuned_for: int,
) -> Distance:
    """The distance between two histograms [B] of the same bins.

    `independent`: how many values of their own the counts are worth, where those of one user hang together
    (`split.independent`): what one user adds has one cumulative share, of a variance of 1/4 at most.
    """
    if min(independent, independent_control) < 1:
        return Distance()
    ours, theirs = (np.cumsum(each)[:-1] / np.sum(each) for each in (counts, counts_control))
    found = float(np.abs(ours - theirs).max())
    z = boundary(int(min(independent, independent_control)), level / (2 * len(ours)), tuned_for)
    return Distance(found, found - z / 2 * sqrt(1 / independent + 1 / independent_control))
