"""Thompson sampling: ranked as by a model that might be the right one (Thompson 1933), drawn from what is not known of
its last layer (Riquelme, Tucker & Snoek 2018, "Deep Bayesian bandits showdown": the neural linear model)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.declare.expected import is_number
from models.exploration.explorer import Floats, Ordered, Scored, mixed


@dataclass(frozen=True)
class Thompson:
    """A version has ``samples`` draws from its posterior (``models.learning.posterior``), always the same: so the
    chance of a place is the share of the draws that put the item there, exactly. With chance ``epsilon`` everything is
    left to chance instead, so that no order is impossible. A version without a posterior is explored as if it were
    sure of its scores."""

    samples: int = 32
    epsilon: float = 0.05

    def __post_init__(self) -> None:
        if not is_number(self.samples) or self.samples not in range(2, 1025):
            raise ValueError(f"Thompson: samples {self.samples!r} must be a whole number from 2 to 1024")
        if not is_number(self.epsilon) or not 0 < self.epsilon <= 1:
            raise ValueError(f"Thompson: epsilon {self.epsilon!r} must be a number above 0 and up to 1")

    @property
    def words(self) -> str:
        return f"Thompson sampling, {self.samples} draws, {100 * self.epsilon:g} % at random"

    def drawn(self, scored: Scored, rng: np.random.Generator) -> Floats:
        if rng.random() < self.epsilon:
            return rng.random(len(scored))
        samples = _samples(scored)
        return samples[:, rng.integers(samples.shape[1])]

    def ordered(self, scored: Scored, rng: np.random.Generator) -> Ordered:
        """P(i in place j) = (1 - epsilon) (share of the draws whose order has it there) + epsilon / K."""
        orders = np.argsort(-_samples(scored), axis=0, kind="stable")
        if rng.random() < self.epsilon:
            order = rng.permutation(len(scored))
        else:
            order = orders[:, rng.integers(orders.shape[1])]
        return mixed(order, (orders == order[:, None]).mean(axis=1), self.epsilon)


def _samples(scored: Scored) -> Floats:
    return scored.scores[:, None] if scored.samples is None else scored.samples
