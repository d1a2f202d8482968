"""Collaborative filtering for newcomers: a user nobody knows gets a vector from the items clicked in the session.

    factors = Factors.fit(sessions, FoldIn(), seed=0)
    index = factors.index(lately, now)
    found = index.retrieve(factors.users(session, index), k=50, leave_out=session)     # closed form, no training

Implicit-feedback factors (Hu, Koren & Volinsky 2008): p is 1 for an item that was clicked and 0 for all others, which
is believed with confidence c = 1 + alpha for a click and 1 for none. Given the items' vectors Y, the user's is

    x = (Y'CY + lambda I)^-1 Y'Cp,    Y'CY = Y'Y + alpha sum over the clicked items of y y'       (their eq. 4)

so that a fold-in costs the session's items, and not all items, once Y'Y is known. Items and users solve for each other
in turn. Of who clicked nothing, x is 0 and says nothing: popularity alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.examples import EMPTY
from models.retrieval.index import Index
from models.retrieval.recent_clicks import Lately
from models.tables.id_table import Floats, Ids

BLOCK = 1 << 18
"""Floats in one step of a solve."""


@dataclass(frozen=True)
class FoldIn:
    """How the factors are made."""

    width: int = 32

    alpha: float = 10.0
    """What a click adds to the confidence of 1."""

    regularisation: float = 1.0
    """lambda."""

    sweeps: int = 4
    """Times that users and items solve for each other."""

    popularity: float = 0.3
    """What the logarithm of an item's share of the clicks adds to its score."""

    def __post_init__(self) -> None:
        for name in ("width", "sweeps"):
            if getattr(self, name) < 1:
                raise ValueError(f"fold_in.{name} is {getattr(self, name)}: give at least 1")
        for name in ("alpha", "regularisation"):
            if not getattr(self, name) > 0:
                raise ValueError(f"fold_in.{name} is {getattr(self, name)}: give more than 0")


@dataclass(frozen=True, eq=False)
class Factors:
    """Vectors of the items that some sessions clicked."""

    design: FoldIn

    ids: Ids
    """[M], ascending."""

    vectors: NDArray[np.float64]
    """[M, width]; Y."""

    square: NDArray[np.float64]
    """[width, width]; Y'Y."""

    @staticmethod
    def fit(sessions: Ids, design: FoldIn, *, seed: int, start: Factors | None = None) -> Factors:
        """Factors of sessions [N, L]: the ids of the items clicked, ``EMPTY`` where there are fewer; a repeated id
        counts once. Items that ``start`` knows begin where it has them, so that a sweep or two are enough."""
        sessions = without_repeats(sessions)
        ids = np.unique(sessions[sessions != EMPTY])
        user, _ = np.nonzero(sessions != EMPTY)
        item = ids.searchsorted(sessions[sessions != EMPTY])
        y = np.random.default_rng(seed).normal(0, 0.1, (len(ids), design.width))
        if start is not None:
            at, known = start.find(ids)
            y[known] = start.vectors[at[known]]
        for _ in range(design.sweeps):
            x = solve(y, item, user, len(sessions), design)
            y = solve(x, user, item, len(ids), design)
        return Factors(design, ids, y, y.T @ y)

    def find(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Place of each id (an array of any shape) among the items, and whether it is one of them."""
        if not len(self.ids):
            return np.zeros(ids.shape, np.int64), np.zeros(ids.shape, np.bool_)
        at = np.minimum(self.ids.searchsorted(ids), len(self.ids) - 1)
        return at, self.ids[at] == ids

    def fold_in(self, sessions: Ids) -> NDArray[np.float64]:
        """[N, width]: the vectors of users who clicked ``sessions`` [N, L]; zeros where no item of theirs is known."""
        sessions = without_repeats(sessions)
        at, known = self.find(sessions)
        user, _ = np.nonzero(known)
        return solve(self.vectors, at[known], user, len(sessions), self.design, self.square)

    def items(self, ids: Ids, attributes: Ids) -> Floats:
        """[n, width]: the vectors of items [n]; zeros for one that the sessions did not know."""
        at, known = self.find(ids)
        vectors = np.zeros((len(ids), self.design.width), np.float32)
        vectors[known] = self.vectors[at[known]]
        return vectors

    def index(self, lately: Lately, now: float) -> Index:
        """All items alive at ``now``, ready to be searched."""
        return Index.of(lately, now, self.items)

    def users(self, sessions: Ids, index: Index) -> Floats:
        """[N, width + H]: what to ask ``index`` for users who clicked ``sessions`` [N, L]. Popularity, by its shortest
        half-life, orders what the factors know nothing of, and all of it for a session without a known item."""
        weights = np.zeros((len(sessions), index.popularity.shape[1]))
        weights[:, 0] = self.design.popularity
        return np.concatenate([self.fold_in(sessions), weights], axis=1).astype(np.float32)


def solve(
    fixed: NDArray[np.float64],
    clicked: NDArray[np.int64],
    of: NDArray[np.int64],
    count: int,
    design: FoldIn,
    square: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """[count, width]: the vectors of rows 0 .. count - 1, each of which clicked the rows ``clicked`` [n] of ``fixed``
    where ``of`` [n] names it; those who clicked nothing get zeros. ``square`` is fixed' fixed, where it is known."""
    width = design.width
    square = fixed.T @ fixed if square is None else square
    order = np.argsort(of, kind="stable")
    clicked, of = clicked[order], of[order]
    start = np.searchsorted(of, np.arange(count + 1))
    found = np.zeros((count, width))
    pairs = max(1, BLOCK // (width * width))
    first = 0
    while first < count:
        # As many rows as have so many clicks together, and at least one; each is solved whole.
        last = max(first + 1, int(np.searchsorted(start, start[first] + pairs, side="right")) - 1)
        last = min(last, count, first + pairs)
        some = slice(int(start[first]), int(start[last]))
        rows, own = np.unique(of[some], return_inverse=True)
        y = fixed[clicked[some]]
        system = np.zeros((len(rows), width, width))
        right = np.zeros((len(rows), width))
        for begin in range(0, len(y), pairs):
            part, whose = y[begin : begin + pairs], own[begin : begin + pairs]
            heads = np.flatnonzero(np.diff(whose, prepend=-1))
            right[whose[heads]] += (1 + design.alpha) * np.add.reduceat(part, heads)
            system[whose[heads]] += np.add.reduceat(part[:, :, None] * part[:, None, :], heads)
        system = square + design.alpha * system + design.regularisation * np.eye(width)
        found[rows] = np.linalg.solve(system, right[..., None])[..., 0]
        first = last
    return found


def without_repeats(sessions: Ids) -> Ids:
    """Sessions [N, L] with each id's first place alone, the others ``EMPTY``."""
    again = np.zeros(sessions.shape, np.bool_)
    for column in range(1, sessions.shape[1]):
        again[:, column] = (sessions[:, :column] == sessions[:, column : column + 1]).any(1)
    return np.where(again, EMPTY, sessions)
