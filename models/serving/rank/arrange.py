"""Which of the scored candidates are shown, and in which order.

shown = arrange(scores, limit)
shown = arrange(scores, limit, choose)     # choose(scores): the places that are shown, the first first
shown.places          # of the candidates, first the one that is shown first
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Arranged:
    """K of N candidates, in the order in which they are shown."""

    places: NDArray[np.int64]
    """[K]; of each, its place among the candidates."""

    propensities: NDArray[np.float64]
    """[K]; the chance with which it is shown at its position, given that these K are shown."""


Choose = Callable[[NDArray[np.floating]], NDArray[np.int64]]
"""Of scores [N] the K places that are shown, first the one that is shown first."""


def arrange(scores: NDArray[np.floating], limit: int | None, choose: Choose | None = None) -> Arranged:
    """The best ``limit`` of N candidates with scores [N], all where it is None; of equal ones the first comes first.
    ``choose`` takes the place of that."""
    places = np.argsort(-scores, kind="stable")[:limit] if choose is None else choose(scores)
    return Arranged(places, np.ones(len(places)))
