"""Epsilon-greedy: the best first, and now and then any items in any order (Sutton & Barto 2018, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.declare.expected import is_number
from models.exploration.explorer import Floats, Ordered, Scored, best_first, mixed


@dataclass(frozen=True)
class EpsilonGreedy:
    """With chance ``epsilon`` any K of the candidates are shown, else the best; and apart from that, with the same
    chance, in any order, else the best first."""

    epsilon: float = 0.05

    def __post_init__(self) -> None:
        if not is_number(self.epsilon) or not 0 < self.epsilon <= 1:
            raise ValueError(f"EpsilonGreedy: epsilon {self.epsilon!r} must be a number above 0 and up to 1")

    @property
    def words(self) -> str:
        return f"epsilon-greedy, {100 * self.epsilon:g} % at random"

    def drawn(self, scored: Scored, rng: np.random.Generator) -> Floats:
        return rng.random(len(scored)) if rng.random() < self.epsilon else scored.scores

    def ordered(self, scored: Scored, rng: np.random.Generator) -> Ordered:
        """P(i in place j) = (1 - epsilon) [the best order has it there] + epsilon / K."""
        best = best_first(scored.scores)
        order = rng.permutation(len(scored)) if rng.random() < self.epsilon else best
        return mixed(order, (order == best).astype(np.float64), self.epsilon)
