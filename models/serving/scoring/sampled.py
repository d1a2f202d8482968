"""The scores of a request's candidates by draws from the posterior of the last layer, beside their own.

draws = Draws.of(model.posterior, model.design.learning.ridge, 32, seed)      # once for each version
sampled = SampledScores(draws, layout.shares, len(examples))
scores = scorer.score(examples, sampled)
sampled.scores                                                               # [N, 32]
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.learning.posterior import Posterior
from models.serving.scoring.weights import Weights

LARGEST = 500.0
"""Log-odds whose exponential is still a number."""


@dataclass(frozen=True, eq=False)
class Draws:
    """M draws of the weights of the last layer."""

    offsets: NDArray[np.float32]
    """[kinds, H, M], less the weights themselves."""

    @staticmethod
    def of(posterior: Posterior, ridge: float, count: int, version: str) -> Draws:
        """Those of a version: its text is their seed, so that every process has the same."""
        seed = int.from_bytes(blake2b(version.encode(), digest_size=16).digest(), "big")
        return Draws(posterior.offsets(ridge, count, np.random.default_rng(seed)))


class SampledScores:
    """Of N rows, as they are scored."""

    def __init__(self, draws: Draws, shares: NDArray[np.float64], rows: int) -> None:
        """``shares``: of the kinds, in the score."""
        self._draws, self._shares = draws, shares
        self.scores = np.zeros((rows, draws.offsets.shape[2]))
        """[N, M]"""

    def add(self, rows: slice, x: Tensor, d: Tensor, logits: NDArray[np.float32], weights: Weights) -> None:
        """Some of the rows, of which x_L and d_M are what the last layer reads, and ``logits`` [n, kinds] what comes of
        it, less the bias."""
        ones = np.ones((len(logits), 1), np.float32)
        read = (x.numpy()[:, : weights.of_cross.shape[1]], d.numpy()[:, : weights.of_deep.shape[1]], ones)
        hidden, scores = np.concatenate(read, axis=1), self.scores[rows]
        for kind in np.flatnonzero(self._shares):
            odds = hidden @ self._draws.offsets[kind] + (logits[:, kind] + weights.bias[kind])[:, None]
            scores += self._shares[kind] / (1 + np.exp(-np.clip(odds.astype(np.float64), -LARGEST, LARGEST)))
