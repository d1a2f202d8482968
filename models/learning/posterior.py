"""How well a model knows the weights of its network's last layer: a normal distribution around them, for each kind.

    posterior = Posterior.unknown(network).updated(model, examples)       # after an update; fine_tune does
    posterior.offsets(ridge, count, rng)                                  # draws, less the weights themselves

Laplace's approximation with the network below held fixed: the precision of the weights is a ridge and the information
of the rows trained on, sum_i p_i (1 - p_i) h_i h_i^T (MacKay 1992; Riquelme, Tucker & Snoek 2018). The layers below
move on, so what earlier updates knew counts for less with each.

Only a model that is explored by Thompson sampling has one. It changes neither what the model learns nor its scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks.last_layer import hidden_width
from models.networks.rankers import Ranker

DECAY = 0.98
"""Of the precision, with each update: it looks back over some fifty."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """The precision, less the ridge."""

    precision: NDArray[np.float32]
    """[kinds, H, H], of the weights of h (``models.networks.last_layer``)."""

    @staticmethod
    def unknown(network: Ranker) -> Posterior:
        """That of a model that was trained on nothing."""
        width = hidden_width(network)
        return Posterior(np.zeros((network.kinds, width, width), np.float32))

    def updated(self, rows: Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> Posterior:
        """After an update on some rows, in parts: their h [B, H], log-odds and weights [B, kinds]."""
        total = DECAY * torch.from_numpy(self.precision).double()
        for hidden, logits, weight in rows:
            p = torch.sigmoid(logits)
            for kind, curvature in enumerate((weight * p * (1 - p)).unbind(1)):
                total[kind] += (hidden * curvature[:, None]).t() @ hidden
        return Posterior(total.float().numpy())

    def offsets(self, ridge: float, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """``count`` draws [kinds, H, count] of the weights, less the weights; ``ridge``: their precision before
        anything is known."""
        precision = self.precision.astype(np.float64) + ridge * np.eye(self.precision.shape[1])
        noise = rng.standard_normal((*self.precision.shape[:2], count))
        factor = np.linalg.cholesky(precision)
        # of precision L L^T, L^-T times noise has the covariance that is its inverse
        return np.linalg.solve(factor.transpose(0, 2, 1), noise).astype(np.float32)
