"""Limits that follow what a surface's own windows do by chance.

    own_limit([1.0, 1.1, 1.4, 1.0, 1.2, 1.3], 1.3, factor=True)

Each window says how far a limit would have to be for it to pass. The tail of these is taken for exponential, as tails
of maxima are, so that one window in a thousand is beyond what is returned, or fewer where many figures of a window have
limits of their own. A limit that windows do not come near is wide enough, and stays. Windows held one after another
hold the same impressions and count once, so a fault does not make itself usual by lasting.
"""

import math
from collections.abc import Sequence

import numpy as np

KNOWN_FROM = 6
"""Windows from which they say what is usual."""

HIGH = 0.9
"""Quantile that says how wide the tail is: beyond it may lie faults."""

NEAR, FEWEST_NEAR = 0.8, 2
"""Share of the declared limit from which a window comes near it (of a ratio, of its logarithm), and how many do before
it is too narrow: one may be a fault."""

ONCE_IN = 1_000
"""Windows of which one is beyond the limit."""


def own_limit(needed: Sequence[float], declared: float, *, factor: bool, once_in: int = ONCE_IN) -> float | None:
    """The limit that all but one in so many of such windows pass, where they come near the `declared` one; where they
    do not, that one. None while too few are known.

    `needed`: the least limit with which each passed. `factor`: it is a ratio, so that ratios of it count; else a share
    or a distance.
    """
    if len(needed) < KNOWN_FROM:
        return None
    values = np.log(needed) if factor else np.asarray(needed, dtype=np.float64)
    edge = NEAR * (math.log(declared) if factor else declared)
    if int(np.count_nonzero(values > edge)) < FEWEST_NEAR:
        return declared
    middle, high = np.quantile(values, [0.5, HIGH], method="lower" if np.isinf(values).any() else "linear")
    # From the median to where an exponential tail has so few, in distances from the median to `HIGH`.
    beyond = math.log(once_in / 2) / math.log(0.5 / (1 - HIGH))
    limit = float(middle + beyond * (high - middle))
    return math.exp(limit) if factor else limit
