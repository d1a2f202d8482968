"""What every kind of exploration does: two draws that know nothing of each other.

    by = explorer.drawn(scored, rng)                # [N], to select by: the K highest are shown
    shown = np.sort(np.argsort(-by)[:K])            # or what diversity and caps make of it
    ordered = explorer.ordered(scored[shown], rng)  # in which order, and the chance of each item in its place

*Which* items are shown is left to chance by the first, *in which order* by the second, a fresh draw of the same policy
over these items alone. So the propensity is exact, whatever stands between the two: the chance of an item in its place,
given the items that are shown. That is what ``monitoring.evaluation.reranking`` takes it for.

The randomness is that of one request (:func:`of_request`): sent twice, it is explored alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scored:
    """N candidates as a model scores them."""

    scores: Floats
    """[N], 0 to 1: what they are ranked by."""

    samples: Floats | None = None
    """[N, M], their scores by M draws from the posterior of the model's last layer; None where it has none."""

    def __getitem__(self, places: Places) -> Scored:
        """Some of them, in that order."""
        return Scored(self.scores[places], None if self.samples is None else self.samples[places])

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Ordered:
    """K items in the order in which they are shown."""

    order: Places
    """[K]; of each place, which of the items."""

    propensities: Floats
    """[K]; the chance, above 0 and up to 1, of that item in that place, given the K items."""


class Explorer(Protocol):
    """A kind of exploration. Immutable; any thread may use it."""

    @property
    def words(self) -> str:
        """For people: what it does, as "epsilon-greedy, 5 % at random"."""

    def drawn(self, scored: Scored, rng: np.random.Generator) -> Floats:
        """What N candidates are selected by [N], the highest first."""

    def ordered(self, scored: Scored, rng: np.random.Generator) -> Ordered:
        """K items in order."""


def of_request(surface: str, user: str, request_id: str) -> np.random.Generator:
    """The randomness of one request. The same request sent again, to whichever process, is explored alike, so that what
    is logged of it once is what was shown each time. Nobody foresees it who does not know the request's id; where ids
    are left to Millrace, they are random. It is no secret: whoever chooses the ids of their own requests can look for
    one that is explored as they like."""
    texts = (surface, user, request_id)
    named = b"".join(len(text.encode()).to_bytes(4, "big") + text.encode() for text in texts)
    return np.random.Generator(np.random.PCG64(int.from_bytes(blake2b(named, digest_size=16).digest(), "big")))


def best_first(scores: Floats) -> Places:
    """Places [N] of the scores, the highest first; of equal ones the first."""
    return np.argsort(-scores, kind="stable")


def mixed(order: Places, chances: Floats, epsilon: float) -> Ordered:
    """An order of K items, drawn with ``chances`` [K] of its items in their places, or with chance ``epsilon``
    uniformly."""
    return Ordered(order, np.minimum((1 - epsilon) * chances + epsilon / len(order), 1.0))
