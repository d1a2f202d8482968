"""Bounds on a share of yes, and on the difference of two, that hold at every look and whoever is asked next.

    lower, upper = bounds(clicks, impressions, 0.05)
    above(clicks, impressions, clicks_of_other, impressions_of_other, 0.05) > 0      # the first is higher

What rules out a share p is the likelihood of the answers, mixed over shares about p by two betas of mean p that count
as `PSEUDO_ANSWERS`, over their likelihood at p. At the true p that is a martingale that begins at 1, and reaches
1 / level with chance `level` at most (Robbins 1970, "Statistical methods related to the law of the iterated
logarithm"; the beta-binomial mixture of Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform, nonparametric,
nonasymptotic confidence sequences"). It is exact at any count. For two groups the product of theirs is one too; a
difference is ruled out where every pair of shares that far apart is.

Who is asked next may be chosen by the answers so far, as a bandit does: the product stays a martingale as long as each
group's share does not change meanwhile. Where shares move with the hour and the groups' parts of the answers move too,
a difference is one of the hours as well.

`proportions.log_evidence` is of the same kind, over all shares from 0 to 1: made for errors, where one arm may have a
hundred times the other's. Of shares that are near each other it wants 5.3 standard errors where this wants 4.2 (5,000
answers each, level .05 / 6).
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

PSEUDO_ANSWERS = np.array([20.0, 500.0])
"""Two betas, of half the weight each: the one serves dozens of answers, the other thousands. From 200 answers to
100,000 a bound is 3.2 to 3.5 standard errors away (level .05), where a single look wants 2."""

HALVINGS, STEPS = 24, 14
"""For a bound, and for the likeliest pair within it."""

EDGE = 1e-12


def bounds(yes: npt.ArrayLike, of: npt.ArrayLike, level: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Between these the share `yes` / `of` [...] lies at all looks together, with chance 1 - `level` [...]."""
    wanted = -np.log(_levels(level))
    clicks, no = np.asarray(yes, np.float64), np.asarray(of, np.float64) - np.asarray(yes, np.float64)
    share = clicks / np.maximum(clicks + no, 1)
    shape = np.broadcast_shapes(share.shape, wanted.shape)
    ends = []
    for end in (0.0, 1.0):
        out, within = np.full(shape, end), np.broadcast_to(share, shape)
        for _ in range(HALVINGS):
            at = (out + within) / 2
            ruled_out = _log_evidence(at, clicks, no) >= wanted
            out, within = np.where(ruled_out, at, out), np.where(ruled_out, within, at)
        ends.append(np.asarray(out))
    return ends[0], ends[1]


def above(
    yes: npt.ArrayLike, of: npt.ArrayLike, yes_other: npt.ArrayLike, of_other: npt.ArrayLike, level: npt.ArrayLike
) -> Floats:
    """The share `yes` / `of` [...] less the other's is above this at all looks together, with chance 1 - `level` [...].
    Of the groups changed over and negated it is the upper bound."""
    wanted = -np.log(_levels(level))
    ours, theirs = np.asarray(yes, np.float64), np.asarray(yes_other, np.float64)
    ours_no, theirs_no = np.asarray(of, np.float64) - ours, np.asarray(of_other, np.float64) - theirs
    share, share_other = (a / np.maximum(a + b, 1) for a, b in ((ours, ours_no), (theirs, theirs_no)))
    shape = np.broadcast_shapes(share.shape, share_other.shape, wanted.shape)
    low, high = np.full(shape, -1.0), np.broadcast_to(share - share_other, shape)
    for _ in range(HALVINGS):
        by = (low + high) / 2
        # The likeliest pair lies between the two shares found: there one side's evidence rises as the other's falls.
        first, last = np.maximum(share_other, -by), np.minimum(share - by, 1.0)
        for _ in range(STEPS):
            at = (first + last) / 2
            rising = _slope(at + by, ours, ours_no) + _slope(at, theirs, theirs_no) > 0
            first, last = np.where(rising, first, at), np.where(rising, at, last)
        at = (first + last) / 2
        ruled_out = _log_evidence(at + by, ours, ours_no) + _log_evidence(at, theirs, theirs_no) >= wanted
        low, high = np.where(ruled_out, by, low), np.where(ruled_out, high, by)
    return np.asarray(low)


def _log_evidence(share: Floats, yes: Floats, no: Floats) -> Floats:
    """Natural logarithm of the evidence against `share`."""
    p = np.clip(share, EDGE, 1 - EDGE)
    mixed = np.logaddexp(*(_mixed(size, p, yes, no) for size in PSEUDO_ANSWERS)) - math.log(2)
    return np.asarray(mixed - special.xlogy(yes, p) - special.xlog1py(no, -p))


def _mixed(size: float, p: Floats, yes: Floats, no: Floats) -> Floats:
    """Of one beta, the logarithm of the answers' likelihood."""
    a, b = size * p, size * (1 - p)
    return np.asarray(special.betaln(a + yes, b + no) - special.betaln(a, b))


def _slope(share: Floats, yes: Floats, no: Floats) -> Floats:
    """The derivative of the evidence by the share."""
    p = np.clip(share, EDGE, 1 - EDGE)
    small, large = PSEUDO_ANSWERS
    part = special.expit(_mixed(small, p, yes, no) - _mixed(large, p, yes, no))
    mixed = part * _mixed_slope(small, p, yes, no) + (1 - part) * _mixed_slope(large, p, yes, no)
    return np.asarray(mixed - yes / p + no / (1 - p))


def _mixed_slope(size: float, p: Floats, yes: Floats, no: Floats) -> Floats:
    a, b = size * p, size * (1 - p)
    return np.asarray(size * (special.psi(a + yes) - special.psi(a) - special.psi(b + no) + special.psi(b)))


def _levels(level: npt.ArrayLike) -> Floats:
    levels = np.asarray(level, np.float64)
    if not np.all((levels > 0) & (levels < 1)):
        raise ValueError(f"level={levels}: a level lies between 0 and 1")
    return levels
