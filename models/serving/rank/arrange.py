"""Which of the scored candidates are shown, and in which order.

    shown = arrange(scored, limit, surface.explore, rng)
    shown = arrange(scored, limit, choose=choose)     # choose(scores): the places that are shown, the first first
    shown.places          # of the candidates, first the one that is shown first

A surface that explores leaves both to chance, one apart from the other (:mod:`models.exploration.explorer`).
"""

from collections.abc import Callable
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


Choose = Callable[[NDArray[np.floating]], NDArray[np.int64]]
"""Of scores [N] the K places that are shown, first the one that is shown first."""


def arrange(
    scored: Scored,
    limit: int | None,
    explorer: Explorer | None = None,
    rng: np.random.Generator | None = None,
    choose: Choose | None = None,
) -> Arranged:
    """``limit`` of N candidates, all where it is None: the best, first the best, of equals the one that comes first; or
    what ``choose`` makes of the scores. With an explorer both which and in what order are left to chance. ``rng``: the
    request's, for the explorer."""
    by = scored.scores
    if explorer is not None:
        assert rng is not None, "an explorer needs chance"
        by = explorer.drawn(scored, rng)
    places = best_first(by)[:limit] if choose is None else choose(by)
    if explorer is None or rng is None or not len(places):
        return Arranged(places, np.ones(len(places)))
    places = np.sort(places)
    ordered = explorer.ordered(scored[places], rng)
    return Arranged(places[ordered.order], ordered.propensities)
