"""Passive-aggressive updates (Crammer et al. 2006, figure 1, PA-I), for the rows of a table and for a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.networks.shape import Shape


@dataclass(frozen=True)
class PassiveAggressive:
    """What a step does in another way where passive-aggressive updates the network, the rows or both."""

    network: bool
    rows: bool

    @staticmethod
    def of(shape: Shape) -> PassiveAggressive | None:
        chosen = PassiveAggressive(
            shape.optimiser == "passive_aggressive", shape.table_optimiser == "passive_aggressive"
        )
        return chosen if chosen.network or chosen.rows else None

    def square(self, of_network: Tensor, of_rows: Tensor) -> Tensor:
        """Squared length of the gradients by which it updates."""
        parts = [g.square().sum() for g, own in ((of_network, self.network), (of_rows, self.rows)) if own]
        return torch.stack(parts).sum()


def hinge(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of max(0, 1 - y logit), y = -1 or 1 (eq. 5), over known labels: 0 where all are right by a margin."""
    loss = weight * torch.relu(1 - (2 * target - 1) * logits)
    return loss.sum() / weight.sum().clamp(min=1)


def passive_aggressive(
    weights: Tensor, gradient: Tensor, cap: float, loss: Tensor | float, square: Tensor | float
) -> None:
    """The smallest step that, to first order, brings the batch's hinge loss to 0, but at most ``cap`` times the
    gradient: tau = min(C, loss / |g|^2). For one row and a linear score it is PA-I to the letter.

    ``square``: |g|^2 over all the weights that this optimiser updates in the step.
    """
    square = torch.as_tensor(square, device=gradient.device).clamp(min=torch.finfo(torch.float32).tiny)
    weights.sub_(gradient * (loss / square).clamp(max=cap))
