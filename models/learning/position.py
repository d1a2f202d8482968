"""The position term: how much more, or less, is clicked where an impression was shown, whatever it is.

    term = PositionTerm(sums)                                   # sums: a mapping of tensors, changed in place
    logits = network(...) + term.of(rows)                       # in training: rows [B] = position_rows(examples)
    term.update(network(...), target, weight, rows)             # after each batch
    scores = sigmoid(network(...) + term.fixed)                 # served: every candidate as at the average position

What is shown first is looked at most (Craswell et al. 2008), and a ranker that does not know it learns the order of the
one before it. So positions have log-odds of their own that are trained with the network and fixed when serving (the
shallow tower of Zhao et al. 2019, Recommending what video to watch next; the position module of PAL, Guo et al. 2019).

A row of the term is one position or, further down, some: few parameters. Each is fitted by second order with the
network's logits as offset, as an extended Kalman filter does (Fahrmeir 1992), from a prior around 0:

    b <- b + sum(y - p) / (LOOK_BACK C + sum p (1 - p) + PRIOR),    C <- min(C + sum p (1 - p), MEMORY)

A new network does not know yet what the ranker before it knew, and a row takes that for its own; so it looks back over
the last quarter of its information alone, and gives back what the network takes over. Row 0 is
of impressions whose position is not known, and of all when serving. It is fitted to the predictions that know the
position instead of to labels: so scores with the position fixed are on average what came of the positions trained on.

Some logs have positions that were made after the fact, the clicked item first. A term would then explain the clicks and
leave the network nothing to learn. While positions alone explain more than ``MOST_EXPLAINED`` of a label, which where
people looked does not (clicks of the first ten places of a search page: about a fifth), its term is 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.examples import UNKNOWN_POSITION, Examples

FIRST_OF_ROW = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""The first position of each row from row 1 on; what comes after the last shares its row."""

ROWS = 1 + len(FIRST_OF_ROW)

WEIGHT, INFORMATION = "position.weight", "position.information"
"""Log-odds b [kinds, ROWS], and C [kinds, ROWS]."""

SHOWN, CLICKED = "position.shown", "position.clicked"
"""Impressions and labels of each row [kinds, ROWS], of the latest ``EVIDENCE`` impressions."""

PRIOR = 25.0
"""Information that the prior around 0 is worth: one of a standard deviation of .2."""

MEMORY, LOOK_BACK = 8000.0, 0.25
"""Information of a row that counts, at most, and the part of it that a row looks back over: 2000 tell log-odds to
within .02."""

MOST_EXPLAINED = 0.5
"""Share of a label's entropy (McFadden 1974)."""

EVIDENCE, PSEUDO_IMPRESSIONS = 20_000.0, 20.0
"""Impressions that the share is of; those at the overall rate that each row begins with."""


def position_rows(examples: Examples) -> NDArray[np.int64]:
    """[N], the row of each impression: 0 where the position is not known. A request whose impressions all have one
    position, as one of a single candidate has, says nothing of positions, and knows none."""
    if examples.position is None or not len(examples):
        return np.zeros(len(examples), np.int64)
    starts = np.flatnonzero(np.diff(examples.request, prepend=examples.request[:1] - 1))
    first, last = (reduce.reduceat(examples.position, starts) for reduce in (np.minimum, np.maximum))
    several = np.repeat(first < last, np.diff(np.append(starts, len(examples))))
    rows = np.searchsorted(FIRST_OF_ROW, examples.position, side="right")
    return np.where(several & (examples.position > UNKNOWN_POSITION), rows, 0).astype(np.int64)


def empty_sums(kinds: int) -> dict[str, Tensor]:
    """Those of a term that knows nothing."""
    return {name: torch.zeros(kinds, ROWS) for name in (WEIGHT, INFORMATION, SHOWN, CLICKED)}


class PositionTerm:
    """The term by its sums; without any it is 0 and is not trained."""

    def __init__(self, sums: Mapping[str, Tensor], kinds: int) -> None:
        own = empty_sums(kinds)
        self.trains = WEIGHT in sums
        self.sums = {name: sums[name] for name in own} if self.trains else own

    @property
    def fixed(self) -> Tensor:
        """Log-odds [kinds] that every candidate gets when serving."""
        return self.sums[WEIGHT][:, 0]

    @property
    def knows(self) -> bool:
        """Whether any position differs from another."""
        return bool(self.sums[WEIGHT].any())

    def of(self, rows: Tensor) -> Tensor:
        """Log-odds [B, kinds] of rows [B]."""
        return self.sums[WEIGHT].t()[rows]

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor, weight: Tensor, rows: Tensor) -> None:
        """Train on impressions whose ``logits`` [B, kinds] are the network's; target and weight [B, kinds]."""
        at = functional.one_hot(rows, ROWS).to(logits.dtype)
        weight = weight * (rows > 0)[:, None]
        p, fixed = torch.sigmoid(logits + self.of(rows)), torch.sigmoid(logits + self.fixed)
        gradient, hessian = (weight * (target - p)).t() @ at, (weight * p * (1 - p)).t() @ at
        gradient[:, 0], hessian[:, 0] = (weight * (p - fixed)).sum(0), (weight * fixed * (1 - fixed)).sum(0)
        b, information = self.sums[WEIGHT], self.sums[INFORMATION]
        b.add_(gradient / (LOOK_BACK * information + hessian + PRIOR))
        information.add_(hessian).clamp_(max=MEMORY)
        for name, added in ((SHOWN, weight), (CLICKED, weight * target)):
            self.sums[name].add_(added.t() @ at)
        kept = (EVIDENCE / self.sums[SHOWN].sum(1, keepdim=True)).clamp(max=1)
        for name in (SHOWN, CLICKED):
            self.sums[name].mul_(kept)
        credible = (explained(self.sums[SHOWN], self.sums[CLICKED]) <= MOST_EXPLAINED)[:, None]
        b.mul_(credible)
        information.mul_(credible)


def explained(shown: Tensor, clicked: Tensor) -> Tensor:
    """[kinds], the share of the labels' entropy that rows [kinds, ROWS] alone explain; 0 where there is none."""
    rate = clicked.sum(1, keepdim=True) / shown.sum(1, keepdim=True).clamp(min=1)
    own = (clicked + PSEUDO_IMPRESSIONS * rate) / (shown + PSEUDO_IMPRESSIONS)
    entropy, left = (
        -(torch.xlogy(clicked, r) + torch.xlogy(shown - clicked, 1 - r)).sum(1) for r in (rate.expand_as(own), own)
    )
    return torch.where(entropy > 0, 1 - left / entropy.clamp(min=1e-12), 0.0)
