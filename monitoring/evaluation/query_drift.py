"""Do the queries of a window mean something else than those that the champion was trained on?

    found = measure(Asked(keys, users, texts), Asked(*now), base.encode, seed=update_id)
    found.mmd, found.limit, found.farthest

Different queries are compared by their vectors, as the encoder comes, so that nothing that an update moves is in it.
The figure is Evidently's: the squared maximum mean discrepancy (MMD²: Gretton et al. 2012, "A kernel two-sample
test"), unbiased, with a Gaussian kernel as wide as the median distance. What chance gives is found by permutation: the
side of those queries that are on one side alone is dealt out anew among the users who asked, since one asks for the
same thing in several ways. As many requests are drawn of either side: of more requests more of the queries are rare.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.checks.own import own_limit
from monitoring.evaluation.drift import ONCE_IN, WIDER
from monitoring.evaluation.lost_queries import shortened

MOST_QUERIES = 500
"""Queries of each side, at most: encoding takes some 5 ms each."""

FEWEST_QUERIES = 30
"""Queries of a side below which it says nothing."""

THRESHOLD = 0.004
"""MMD² beyond chance up to which queries have not drifted, whatever the surface's own windows had. Of a shop's queries,
a thing of which one in 26 speaks gives .003 when every fifth request more is for it, and .01 when every second is."""

DEALT = 999
"""Permutations: the largest MMD² of these is exceeded by chance once in a thousand times."""

FARTHEST = 5
"""Queries that are named."""

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Asked:
    """What was asked for."""

    keys: NDArray[np.int64]
    """[R], of the query of each request."""

    users: NDArray[np.int64]
    """[R], codes of who asked."""

    texts: Mapping[int, str]
    """By key; queries that it has not are left out."""

    def drawn(self, random: np.random.Generator) -> list[tuple[int, int]]:
        """Query and user of the requests whose texts are known, in a random order."""
        order = random.permutation(len(self.keys))
        asked = zip(self.keys[order].tolist(), self.users[order].tolist(), strict=True)
        return [(key, user) for key, user in asked if key in self.texts]


@dataclass(frozen=True)
class FarQuery:
    """A query that is not among those before, and of these the one that is likest to it."""

    query: str
    likest: str
    cosine: float


@dataclass(frozen=True)
class QueryDrift:
    """How the different queries of a window differ from those of before."""

    reference_queries: int
    current_queries: int
    """Drawn at most."""

    new: float
    """Share of the window's that are not among those of before."""

    mmd: float
    by_chance: float
    """MMD² that chance exceeds once in a thousand times."""

    limit: float
    """MMD² that is usual at most."""

    farthest: tuple[FarQuery, ...]
    """Of the new ones, the one that is least like any before first."""

    against: str = "what was before"
    """What the reference is, for people."""

    @property
    def beyond_chance(self) -> float:
        """What later windows remember of it."""
        return max(self.mmd - self.by_chance, 0.0)

    @property
    def ratio(self) -> float:
        """MMD² over its limit."""
        return self.mmd / self.limit


def measure(
    before: Asked,
    now: Asked,
    encode: Callable[[Sequence[str]], Vectors],
    *,
    usual: Sequence[float] = (),
    against: str = "what was before",
    seed: int,
) -> QueryDrift | None:
    """The different queries of both; None where either side has too few. ``encode`` gives the vectors of texts, and
    ``usual`` is what past windows had beyond chance."""
    random = np.random.default_rng(seed)
    reference, current = as_many(before.drawn(random), now.drawn(random))
    if min(len(reference), len(current)) < FEWEST_QUERIES:
        return None
    from monitoring.evaluation import evidently_metrics  # takes seconds to import

    texts, known = {**before.texts, **now.texts}, set(before.keys.tolist())
    every = sorted(reference.keys() | current.keys())
    vectors = encode([texts[key] for key in every])
    sides = np.array([[key in side for key in every] for side in (reference, current)])
    mmd = evidently_metrics.mmd(*(vectors[side] for side in sides))
    users = np.array([(reference.get(key, -1), current.get(key, -1)) for key in every]).T
    chance = max(float(dealt(kernel(vectors, sides), sides, users, random).max()), 0.0)
    own = own_limit(usual, THRESHOLD, factor=False, once_in=ONCE_IN)
    new = np.array([key not in known for key in every])
    return QueryDrift(
        len(reference),
        len(current),
        float(new[sides[1]].mean()),
        mmd,
        chance,
        chance + (WIDER * THRESHOLD if own is None else max(THRESHOLD, own)),
        tuple(_farthest([texts[key] for key in every], vectors, sides[0], sides[1] & new)),
        against,
    )


def as_many(before: Sequence[tuple[int, int]], now: Sequence[tuple[int, int]]) -> tuple[dict[int, int], dict[int, int]]:
    """The different queries, each with who asked first, of as many requests of either side: of so many that neither has
    more than ``MOST_QUERIES``."""
    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for asked in zip(before, now, strict=False):
        for side, (key, user) in zip(sides, asked, strict=True):
            side.setdefault(key, user)
        if max(map(len, sides)) >= MOST_QUERIES:
            break
    return sides


def kernel(vectors: Vectors, sides: NDArray[np.bool_]) -> Floats:
    """[n, n]: exp(-d² / s²), s the median distance between a query of one side and one of the other."""
    product = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    length = np.diag(product)
    squared = np.maximum(length[:, None] + length[None, :] - 2 * product, 0.0)
    across = np.median(np.sqrt(squared[np.ix_(sides[0], sides[1])])) ** 2
    found: Floats = np.exp(-squared / max(float(across), 1e-12))
    return found


def dealt(k: Floats, sides: NDArray[np.bool_], users: NDArray[np.int64], random: np.random.Generator) -> Floats:
    """[DEALT]: MMD² where the sides [2, n] of the queries on one side alone are dealt out among who asked [2, n]."""
    alone = np.flatnonzero(sides.sum(0) == 1)
    of_current = sides[1, alone].astype(np.int64)
    theirs = 2 * users[of_current, alone] + of_current
    groups, group = np.unique(theirs, return_inverse=True)
    found = np.repeat(sides[:, :, None], DEALT, axis=2).astype(np.float64)
    for time in range(DEALT):
        found[1, alone, time] = (random.permutation(groups) % 2)[group]
    found[0, alone] = 1 - found[1, alone]
    return mmd_of(k, found)


def mmd_of(k: Floats, sides: Floats) -> Floats:
    """[times]: the unbiased MMD² of the queries on either side, 1 or 0 [2, n, times], by their kernel [n, n]."""
    summed, count = [k @ side for side in sides], sides.sum(1)
    inside = [
        ((side * sums).sum(0) - np.diag(k) @ side) / (of * (of - 1))
        for side, sums, of in zip(sides, summed, count, strict=True)
    ]
    found: Floats = inside[0] + inside[1] - 2 * (sides[0] * summed[1]).sum(0) / (count[0] * count[1])
    return found


def _farthest(
    texts: Sequence[str], vectors: Vectors, known: NDArray[np.bool_], new: NDArray[np.bool_]
) -> Iterator[FarQuery]:
    """The new ones [n] that are least like any of those known [n]."""
    came, there = np.flatnonzero(new), np.flatnonzero(known)
    if not len(came):
        return
    cosine = vectors[came] @ vectors[there].T
    likest, closest = cosine.argmax(1), cosine.max(1)
    for place in np.argsort(closest, kind="stable")[:FARTHEST].tolist():
        query, like = texts[came[place]], texts[there[likest[place]]]
        yield FarQuery(shortened(query), shortened(like), float(closest[place]))
