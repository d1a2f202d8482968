"""Events that fall to one of two sides: does one side get the share that it should, at every look?

    log_evidence(canary_users, all_users, 0.5)                        # is the split of users right?
    log_evidence(canary_clicks, all_clicks, 0.45, side="below")       # does the canary get less than 45 % of clicks?

Users of two arms, wins and losses, and the clicks of two arms are one thing: an event falls to the first side with
chance `share`, whatever went before. Of two Poisson processes with intensities a λ(t) and b λ(t) the next event is of
the first with chance a / (a + b), however λ moves over the day (Lindon & Malek 2022, "Anytime-valid inference for
multinomial count data", NeurIPS, section on inhomogeneous Poisson processes; Lindon & Kallus 2024).

The evidence is the chance that a mixture of other shares gives what was found, over the chance that `share` gives it:
a martingale that begins at 1, which reaches 1 / level at some look with chance `level` at most (Ville). Two-sided, the
mixture is the Beta case of Lindon & Malek's Dirichlet. One-sided, it is that Beta cut off at `share`, against every
share on the other side: their likelihood ratio falls the further the true share lies that way.
"""

from math import inf, log
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

HALVINGS = 40

STRENGTH = 100.0
"""Pseudo-counts of the mixture: it is tightest after some ten times as many events."""


def log_evidence(
    count: npt.ArrayLike,
    of: npt.ArrayLike,
    share: float,
    *,
    side: Literal["both", "above", "below"] = "both",
    strength: float = STRENGTH,
) -> Floats:
    """Natural logarithm of the evidence that `count` of `of` events [...] have another share, or one above or below.

    Counts need not be whole: see `independent`. Raises ValueError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share}: a share of events lies between 0 and 1")
    first, second = np.asarray(count, np.float64), np.asarray(of, np.float64) - np.asarray(count, np.float64)
    if side == "below":
        return log_evidence(second, first + second, 1 - share, side="above", strength=strength)
    ours, theirs = strength * share, strength * (1 - share)
    found = special.betaln(ours + first, theirs + second) - special.betaln(ours, theirs)
    found = found - first * np.log(share) - second * np.log1p(-share)
    if side == "above":
        with np.errstate(divide="ignore"):
            found = found + np.log(special.betaincc(ours + first, theirs + second, share))
        found = found - np.log(special.betaincc(ours, theirs, share))
    return np.asarray(found, np.float64)


def p_value(evidence: float) -> float:
    """The chance at most of such evidence at some look, when there is nothing to find; `evidence` is a logarithm."""
    return float(np.exp(min(0.0, -evidence)))


def independent(events: float, squared: float) -> float:
    """How many independent events say as much as these, where those of one user hang together.

    `squared`: the sum over users of the square of each one's events. When users are put on a side by a coin, the
    difference between the sides' events has just that variance, so events count for one over squared / events.

    A user who comes back adds to events and to squares; so the ratio grows, and what is left grows slower, just as fast
    as the difference forgets what it was: the test stays valid over looks (`tests/monitoring/test_split.py`).
    """
    return events * events / squared if squared else 0.0


def odds(first: int, second: int, alpha: float, *, strength: float = STRENGTH) -> tuple[float, float]:
    """Bounds on the odds that an event falls to the first side, where `first` and `second` did: it lies above the lower
    at all looks together with chance 1 - alpha, and below the upper with the same."""
    lower, other = (_odds_above(*each, alpha, strength) for each in ((first, second), (second, first)))
    return lower, 1 / other if other else inf


def _odds_above(first: int, second: int, alpha: float, strength: float) -> float:
    """The odds at which the evidence for more reaches 1 / alpha: it falls as they grow, and halving finds them."""
    low, high = 0.0, first / max(first + second, 1)
    for _ in range(HALVINGS):
        at = (low + high) / 2
        if at == 0.0:
            return 0.0
        shown = float(log_evidence(first, first + second, at, side="above", strength=strength)) >= -log(alpha)
        low, high = (at, high) if shown else (low, at)
    return low / (1 - low)
