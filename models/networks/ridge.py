"""The linear part of every ranker: logistic regression on the numbers, with a ridge penalty, by second order.

    logits = ridge(z)                                   b + v . z, one for each feedback kind
    ridge.update(sums, z, target, weight, strength)     after each batch, in place

The sufficient statistics of w = [v ; b] are two sums, from which w follows under a ridge R. A batch adds to them, each
row by the second-order expansion of its loss at the w before:

    C <- C + sum_i p_i (1 - p_i) z_i z_i^T
    d <- d + sum_i (p_i (1 - p_i) z_i . w + y_i - p_i) z_i,        w_R = (C + R)^-1 d

That is iteratively reweighted least squares in one pass (Spiegelhalter & Lauritzen 1990; the same as an extended Kalman
filter, Fahrmeir 1992). It comes to what fitting all rows at once would, whatever the batches are: there is no rate to
choose, and collinear numbers, as counters are, do not slow it.

How strong the ridge should be, the labels say: w is the mean of the w_R of several strengths, each weighted by how well
it has predicted every batch before it was trained on (Bayesian model averaging by the prequential likelihood: Dawid
1984). Where the numbers say nothing, or labels are rare, the strong ones win, and w stays by the base rate. When a kind
of feedback has given enough information (``FROZEN_AFTER``) its w is frozen, and the network fits what changes from
there on.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

CURVATURE, LINEAR, ROWS = "ridge.curvature", "ridge.linear", "ridge.rows"
"""The sums beside the weights: C [kinds, D + 1, D + 1], d [kinds, D + 1] and the number of rows in them [kinds]."""

LOSSES, SOLUTIONS = "ridge.losses", "ridge.solutions"
"""Of each strength: the summed log loss of its predictions, less that of the best [kinds, S]; w_R [kinds, S, D + 1]."""

STRENGTHS, PRIOR = (0.1, 1.0, 10.0, 100.0), (-4.0, -2.0, 0.0, 0.0)
"""Parts of the strength asked for, and the log of how likely each is before anything is known: the counters of a new
surface still change their meaning, which favours the strong ones."""

TEMPERATURE = 0.5
"""Part of the log loss that counts as evidence: the rows of a batch share users and requests, and are worth fewer
(Gruenwald & van Ommen 2017, the learning rate of a generalised posterior). Measured on the first hours of a news feed
and of a shop with rare clicks."""

BIAS = 0.1
"""Ridge of the bias: weak, or the rate of rare clicks would be overestimated."""

FROZEN_AFTER = 3200.0
"""Information, the sum of p (1 - p), after which the network does better on a frozen linear part (measured). 20,000
impressions of which a fifth is clicked have as much; of rare labels it takes as many more as they are rarer."""


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
            LOSSES: torch.zeros(kinds, len(STRENGTHS)),
            SOLUTIONS: torch.zeros(kinds, len(STRENGTHS), width),
        }

    def forward(self, numbers: Tensor) -> Tensor:
        """numbers [B, D], standardised -> logits [B, kinds]."""
        with torch.autocast(numbers.device.type, enabled=False):
            return functional.linear(numbers, self.weight[:, :-1], self.weight[:, -1])

    @torch.no_grad()
    def update(
        self,
        sums: Mapping[str, Tensor],
        numbers: Tensor,
        target: Tensor,
        weight: Tensor,
        strength: float,
        offset: Tensor | None = None,
    ) -> None:
        """Train on rows [B, D] with their target and weight [B, kinds]; ``sums`` change in place.

        ``strength``: of the ridge, the inverse of the ``C`` of scikit-learn; what is tried lies around it. ``offset``:
        log-odds [B, kinds] that are explained already; None: 0.
        """
        curvature, linear, seen, losses, solutions = (
            sums[name] for name in (CURVATURE, LINEAR, ROWS, LOSSES, SOLUTIONS)
        )
        weight = weight * ~frozen(sums)
        offset = torch.zeros_like(target) if offset is None else offset
        rows = weight.sum(0)
        # The first rows' own click rate is a better expansion point than even odds.
        rate = ((target * weight).sum(0) + 0.5) / (rows + 1)
        self.weight[:, -1] = torch.where((seen > 0) | (rows == 0), self.weight[:, -1], rate.logit())
        x = torch.cat([numbers, numbers.new_ones(len(numbers), 1)], dim=1)
        # Before the first rows all are alike.
        losses.add_(losses_of(torch.einsum("bd,ksd->bks", x, solutions) + offset[:, :, None], target, weight))
        losses.sub_(losses.amin(1, keepdim=True))
        logits = functional.linear(x, self.weight)
        p = torch.sigmoid(logits + offset)
        hessian = weight * p * (1 - p)
        seen.add_(rows)
        linear.add_((hessian * logits + weight * (target - p)).t() @ x)
        for kind in range(len(seen)):
            curvature[kind].addmm_((x * hessian[:, kind, None]).t(), x)
        penalty = x.new_tensor(STRENGTHS)[:, None].repeat(1, x.shape[1]) * strength
        penalty[:, -1] = BIAS
        factor = torch.linalg.cholesky_ex(curvature[:, None] + torch.diag_embed(penalty)).L
        solved = torch.cholesky_solve(linear[:, None, :, None].expand(-1, len(penalty), -1, -1), factor).squeeze(3)
        moved = rows > 0
        solutions.copy_(torch.where(moved[:, None, None], solved, solutions))
        shares = torch.softmax(x.new_tensor(PRIOR) - TEMPERATURE * losses, dim=1)
        self.weight.copy_(torch.where(moved[:, None], (shares[:, :, None] * solutions).sum(1), self.weight))


def losses_of(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Log loss [kinds, S] of logits [B, kinds, S], summed."""
    same = [part[:, :, None].expand_as(logits) for part in (target, weight)]
    return functional.binary_cross_entropy_with_logits(logits, same[0], same[1], reduction="none").sum(0)


def frozen(sums: Mapping[str, Tensor]) -> Tensor:
    """Which kinds [kinds] have given enough information."""
    return sums[CURVATURE][:, -1, -1] >= FROZEN_AFTER


def information(sums: Mapping[str, Tensor]) -> float:
    """The mean of p (1 - p) of the rows so far, over all kinds: how much a row tells. A quarter, the most there can be,
    before there is any."""
    seen = sums[ROWS]
    each = torch.where(seen > 0, sums[CURVATURE][:, -1, -1] / seen.clamp(min=1), 0.25)
    return float(each.mean())
