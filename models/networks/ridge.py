"""The linear part that every ranker stands on: logistic regression on the numbers, with a ridge, by second order.

    logits = ridge(z)                                   b + v . z, one for each feedback kind
    ridge.learn(known, z, target, weight, strength)     after each batch, in place

What the rows say of w = [v ; b] is kept as two sums, from which w follows under a ridge R. A batch adds to them, each
row by the second-order expansion of its loss at the w before:

    C <- C + sum_i p_i (1 - p_i) z_i z_i^T
    d <- d + sum_i (p_i (1 - p_i) z_i . w + y_i - p_i) z_i,        w <- (C + R)^-1 d

That is iteratively reweighted least squares in one pass (Spiegelhalter & Lauritzen 1990; the same as an extended Kalman
filter, Fahrmeir 1992). It comes to what fitting all rows at once would, whatever the batches are: there is no rate to
choose, and numbers that say nearly the same, as counters do, do not slow it. Before anything was learned there is the
ridge alone, so few rows move little beyond the base rate. After ``ENOUGH`` rows it stays as it is, and what changes
from there on the network learns.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

CURVATURE, PULL, ROWS = "ridge.curvature", "ridge.pull", "ridge.rows"
"""What is known beside the weights: C [kinds, D + 1, D + 1], d [kinds, D + 1] and the rows in them [kinds]."""

BIAS = 0.1
"""Ridge of the bias: weak, or rare clicks would be taken for more than they are."""

FADING, AT_FIRST = 400.0, 20.0
"""At first the ridge is so many times as strong, which fades over so many rows: the counters of a surface that has
just begun still change their meaning. Chosen on the first hours of a news feed, begun at four times of its week."""

ENOUGH = 20_000.0
"""Rows from which on the network does better alone (measured): a floor that moves is one more thing to follow."""


class Ridge(nn.Module):
    """b + v . z, with weights that only :meth:`learn` moves."""

    def __init__(self, columns: int, kinds: int) -> None:
        super().__init__()
        self.weight: Tensor
        self.register_buffer("weight", torch.zeros(kinds, columns + 1))  # the bias last

    def nothing(self) -> dict[str, Tensor]:
        """What is known beside the weights before anything was learned."""
        kinds, width = self.weight.shape
        return {
            CURVATURE: torch.zeros(kinds, width, width),
            PULL: torch.zeros(kinds, width),
            ROWS: torch.zeros(kinds),
        }

    def forward(self, numbers: Tensor) -> Tensor:
        """numbers [B, D], standardised -> logits [B, kinds]."""
        with torch.autocast(numbers.device.type, enabled=False):
            return functional.linear(numbers, self.weight[:, :-1], self.weight[:, -1])

    @torch.no_grad()
    def learn(
        self,
        known: Mapping[str, Tensor],
        numbers: Tensor,
        target: Tensor,
        weight: Tensor,
        strength: float,
    ) -> None:
        """Take in rows [B, D] with their target and weight [B, kinds]; ``known`` is moved in place.

        ``strength``: of the ridge, the inverse of the ``C`` of scikit-learn.
        """
        curvature, pull, seen = known[CURVATURE], known[PULL], known[ROWS]
        rows = weight.sum(0)
        # The first rows' rate is nearer to the truth than even odds are, and so is the curvature there.
        rate = ((target * weight).sum(0) + 0.5) / (rows + 1)
        self.weight[:, -1] = torch.where((seen > 0) | (rows == 0), self.weight[:, -1], rate.logit())
        x = torch.cat([numbers, numbers.new_ones(len(numbers), 1)], dim=1)
        logits = functional.linear(x, self.weight)
        p = torch.sigmoid(logits)
        bend = weight * p * (1 - p)
        seen.add_(rows)
        pull.add_((bend * logits + weight * (target - p)).t() @ x)
        for kind in range(len(seen)):
            curvature[kind].addmm_((x * bend[:, kind, None]).t(), x)
        ridge = (strength * (1 + (AT_FIRST - 1) * torch.exp(-seen / FADING)))[:, None].repeat(1, x.shape[1])
        ridge[:, -1] = BIAS
        factor = torch.linalg.cholesky_ex(curvature + torch.diag_embed(ridge)).L
        solved = torch.cholesky_solve(pull[:, :, None], factor).squeeze(2)
        self.weight.copy_(torch.where(seen[:, None] > 0, solved, self.weight))
