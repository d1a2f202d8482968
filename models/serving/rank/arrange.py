"""Which of the scored candidates are shown, and in which order.

    shown = arrange(scored, limit, surface.explore, rng)
    shown.places          # of the candidates, first the one that is shown first

A surface that explores leaves both to chance, one apart from the other (:mod:`models.exploration.explorer`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.exploration.explorer import Explorer, Scored, best_first


@dataclass(frozen=True, eq=False)
class Arranged:
    """K of N candidates, in the order in which they are shown."""

    places: NDArray[np.int64]
    """[K]; of each, its place among the candidates."""

    propensities: NDArray[np.float64]
    """[K]; the chance with which it is shown at its position, given that these K are shown."""


def arrange(
    scored: Scored, limit: int | None, explorer: Explorer | None = None, rng: np.random.Generator | None = None
) -> Arranged:
    """``limit`` of N candidates, all where it is None. Without an explorer the best, first the best, of equal ones the
    one that comes first. ``rng``: the request's, for the explorer."""
    if explorer is None:
        places = best_first(scored.scores)[:limit]
        return Arranged(places, np.ones(len(places)))
    assert rng is not None, "an explorer needs chance"
    selected = best_first(explorer.drawn(scored, rng))[:limit]
    return in_order(scored, np.sort(selected), explorer, rng)


def in_order(scored: Scored, shown: NDArray[np.int64], explorer: Explorer, rng: np.random.Generator) -> Arranged:
    """Those of the candidates that are ``shown`` [K], in the order that chance gives them."""
    if not len(shown):
        return Arranged(shown, np.ones(0))
    ordered = explorer.ordered(scored[shown], rng)
    return Arranged(shown[ordered.order], ordered.propensities)
