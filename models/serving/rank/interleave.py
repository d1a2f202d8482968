"""Team-draft interleaving: one list of two rankings, and which of the two each item is there for.

    drafted = draft(champion_order, canary_order, limit=10, seed=7)
    drafted.places       # of the candidates, first the one that is shown first
    drafted.of_canary    # of each, whether the canary's team picked it

Radlinski, Kurup & Joachims 2008, "How does clickthrough data reflect retrieval quality?", algorithm 2: in each round a
coin says who picks first, and each team picks its best candidate that is not taken.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Drafted:
    """K of N candidates, in the order in which they are shown."""

    places: NDArray[np.int64]
    """[K]; of each, its place among the candidates."""

    of_canary: NDArray[np.bool_]
    """[K]."""


def draft(champion: NDArray[np.int64], canary: NDArray[np.int64], *, limit: int | None, seed: int) -> Drafted:
    """The first of both teams' orders, of places [N] of the candidates; N where ``limit`` is None. The same seed draws
    the same list."""
    teams = [iter(order.tolist()) for order in (champion, canary)]
    wanted = len(champion) if limit is None else min(limit, len(champion))
    random = np.random.default_rng(seed)
    taken, places, picked_by = set[int](), list[int](), list[int]()
    while len(places) < wanted:
        first = int(random.integers(2))
        for team in (first, 1 - first):
            if len(places) < wanted:
                pick = next(place for place in teams[team] if place not in taken)
                taken.add(pick)
                places.append(pick)
                picked_by.append(team)
    return Drafted(np.array(places, np.int64), np.array(picked_by, np.int64) == 1)
