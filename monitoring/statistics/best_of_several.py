"""Several variants of one thing, each with answers of yes or no: which is the best, and how much so, at every look?

    found = against_the_best(clicks, impressions, thing, risk=0.05)
    found.gain_lower > 0        # the best of its thing: of things looked at for ever, 5 % at most name a wrong one

A variant's gain is its share less that of the best of the others, so one number says both: above 0 it is the best, at
what margin; below, by how much it is behind. These are multiple comparisons with the best (Hsu 1984, "Constrained
simultaneous confidence intervals for multiple comparisons with the best", Annals of Statistics; Hsu 1996, chapter 4).
What they compare with is fixed, as the mean of the others' answers would not be where the better ones are shown more.

Each is put together of the bounds on all pairs (`share_bounds.above`), at a level divided by the bounds of the thing
(Bonferroni), so that all the gains of a thing hold together, at all looks, whatever was shown next because of what was
found so far. That asks that a variant's share stays what it is while it is shown: see there. Things are not counted
against each other: of many things, the share `risk` has some bound that fails.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.statistics import share_bounds
from monitoring.statistics.mantel_haenszel import ordered_pairs

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AgainstTheBest:
    """Of V variants, in the order given, each f[V]; those of a thing hold together."""

    share: Floats
    lower: Floats
    upper: Floats
    gain: Floats
    """Share less the highest of the thing's others; nan where there is none. Its bounds are then -1 and 1."""

    gain_lower: Floats
    gain_upper: Floats


def against_the_best(
    yes: npt.ArrayLike, of: npt.ArrayLike, thing: npt.NDArray[np.int64], *, risk: float
) -> AgainstTheBest:
    """Of counts [V] and the number of each variant's thing [V]; the shares of a thing hold with chance 1 - `risk`, and
    so do its gains. Raises ValueError for a `risk` that is not between 0 and 1, or a variant that was never shown."""
    if not 0 < risk < 1:
        raise ValueError(f"risk={risk}: wants a chance between 0 and 1")
    clicks, shown = np.asarray(yes, np.float64), np.asarray(of, np.float64)
    if not np.all(shown > 0):
        raise ValueError("a variant was shown 0 times: leave out those that were not shown")
    _, group, sizes = np.unique(thing, return_inverse=True, return_counts=True)
    several = sizes[group].astype(np.float64)
    lower, upper = share_bounds.bounds(clicks, shown, risk / several)
    share = clicks / shown
    ours, theirs = ordered_pairs(group)
    level = risk / (several[ours] * (several[ours] - 1))
    pair_lower = share_bounds.above(clicks[ours], shown[ours], clicks[theirs], shown[theirs], level)
    gain, gain_lower, gain_upper = (np.full(len(share), end) for end in (np.inf, 1.0, 1.0))
    np.minimum.at(gain, ours, share[ours] - share[theirs])
    np.minimum.at(gain_lower, ours, pair_lower)
    np.minimum.at(gain_upper, theirs, -pair_lower)
    alone = several == 1
    gain[alone], gain_lower[alone] = np.nan, -1.0
    return AgainstTheBest(share, lower, upper, gain, gain_lower, gain_upper)
