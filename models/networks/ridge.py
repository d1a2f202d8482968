"""The linear part of every ranker: logistic regression on the numbers, with a ridge penalty, by second order.

    logits = ridge(z)                                   b + v . z, one for each feedback kind
    ridge.update(sums, z, target, weight, strength)     after each batch, in place

The sufficient statistics of w = [v ; b] are two sums, from which w follows under a ridge R. A batch adds to them, each
row by the second-order expansion of its loss at the w before:

    C <- C + sum_i p_i (1 - p_i) z_i z_i^T
    d <- d + sum_i (p_i (1 - p_i) z_i . w + y_i - p_i) z_i,        w <- (C + R)^-1 d

That is iteratively reweighted least squares in one pass (Spiegelhalter & Lauritzen 1990; the same as an extended Kalman
filter, Fahrmeir 1992). It comes to what fitting all rows at once would, whatever the batches are: there is no rate to
choose, and collinear numbers, as counters are, do not slow it. A new one has the ridge alone, so few rows move it
little beyond the base rate. After ``FROZEN_AFTER`` rows it is frozen, and the network fits what changes from there on.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

CURVATURE, LINEAR, ROWS = "ridge.curvature", "ridge.linear", "ridge.rows"
"""The sums beside the weights: C [kinds, D + 1, D + 1], d [kinds, D + 1] and the number of rows in them [kinds]."""

BIAS = 0.1
"""Ridge of the bias: weak, or the rate of rare clicks would be overestimated."""

DECAY_ROWS, AT_FIRST = 400.0, 20.0
"""At first the ridge is ``AT_FIRST`` times as strong, which decays over so many rows: the counters of a new surface
still change their meaning. Tuned on the first hours of a news feed, begun at four times of its week."""

FROZEN_AFTER = 20_000.0
"""Rows after which the network does better on a frozen linear part (measured)."""


class Ridge(nn.Module):
    """b + v . z, with weights that only :meth:`update` changes."""

    def __init__(self, columns: int, kinds: int) -> None:
        super().__init__()
        self.weight: Tensor
        self.register_buffer("weight", torch.zeros(kinds, columns + 1))  # the bias last

    def empty_sums(self) -> dict[str, Tensor]:
        """The sums of a new linear part."""
        kinds, width = self.weight.shape
        return {
            CURVATURE: torch.zeros(kinds, width, width),
            LINEAR: torch.zeros(kinds, width),
            ROWS: torch.zeros(kinds),
        }

    def forward(self, numbers: Tensor) -> Tensor:
        """numbers [B, D], standardised -> logits [B, kinds]."""
        with torch.autocast(numbers.device.type, enabled=False):
            return functional.linear(numbers, self.weight[:, :-1], self.weight[:, -1])

    @torch.no_grad()
    def update(
        self, sums: Mapping[str, Tensor], numbers: Tensor, target: Tensor, weight: Tensor, strength: float
    ) -> None:
        """Train on rows [B, D] with their target and weight [B, kinds]; ``sums`` change in place.

        ``strength``: of the ridge, the inverse of the ``C`` of scikit-learn.
        """
        curvature, linear, seen = sums[CURVATURE], sums[LINEAR], sums[ROWS]
        rows = weight.sum(0)
        # The first rows' own click rate is a better expansion point than even odds.
        rate = ((target * weight).sum(0) + 0.5) / (rows + 1)
        self.weight[:, -1] = torch.where((seen > 0) | (rows == 0), self.weight[:, -1], rate.logit())
        x = torch.cat([numbers, numbers.new_ones(len(numbers), 1)], dim=1)
        logits = functional.linear(x, self.weight)
        p = torch.sigmoid(logits)
        hessian = weight * p * (1 - p)
        seen.add_(rows)
        linear.add_((hessian * logits + weight * (target - p)).t() @ x)
        for kind in range(len(seen)):
            curvature[kind].addmm_((x * hessian[:, kind, None]).t(), x)
        ridge = (strength * (1 + (AT_FIRST - 1) * torch.exp(-seen / DECAY_ROWS)))[:, None].repeat(1, x.shape[1])
        ridge[:, -1] = BIAS
        factor = torch.linalg.cholesky_ex(curvature + torch.diag_embed(ridge)).L
        solved = torch.cholesky_solve(linear[:, :, None], factor).squeeze(2)
        self.weight.copy_(torch.where(seen[:, None] > 0, solved, self.weight))
