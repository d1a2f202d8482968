"""Plackett-Luce: item after item is drawn in proportion to its odds of a click, raised to 1 / temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.declare.expected import is_number
from models.exploration.explorer import Floats, Ordered, Scored, best_first

SURE = 1e-12
"""How near to 0 or 1 a score counts."""

RAREST = 1e-12
"""A chance below which the integral knows no more than that it is next to nothing."""


@dataclass(frozen=True)
class PlackettLuce:
    """The lower the temperature, the more often the best are first: two items whose log-odds differ by as much as the
    temperature change places in 27 of 100 draws."""

    temperature: float = 0.2

    def __post_init__(self) -> None:
        if not is_number(self.temperature) or not 0.001 <= self.temperature <= 1000:
            raise ValueError(f"PlackettLuce: temperature {self.temperature!r} must be a number from 0.001 to 1000")

    @property
    def words(self) -> str:
        return f"Plackett-Luce, temperature {self.temperature:g}"

    def drawn(self, scored: Scored, rng: np.random.Generator) -> Floats:
        """Log weights with Gumbel noise: the K highest are K draws without putting back (Yellott 1977)."""
        drawn: Floats = self._log_weights(scored.scores) + rng.gumbel(size=len(scored))
        return drawn

    def ordered(self, scored: Scored, rng: np.random.Generator) -> Ordered:
        """The chances are those of ``models.exploration.race``."""
        from models.exploration.race import NODES, SHARES, chances  # numba, which a surface's file need not wait for

        log_weights = self._log_weights(scored.scores)
        order = best_first(log_weights + rng.gumbel(size=len(scored)))
        if len(order) == 1:
            return Ordered(order, np.ones(1))
        found = chances(log_weights[order], np.arange(len(order)), NODES, SHARES)
        return Ordered(order, np.clip(found, RAREST, 1.0))

    def _log_weights(self, scores: Floats) -> Floats:
        odds = np.clip(np.nan_to_num(scores, nan=0.0), SURE, 1 - SURE)
        log_weights: Floats = np.log(odds / (1 - odds)) / self.temperature
        return log_weights
