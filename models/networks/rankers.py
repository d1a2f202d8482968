"""The rankers, all behind one interface: ``ranker(dense, ids, history, table) -> logits``, one for each feedback kind.

    popularity   logit = r + b + w_c                                        c: the candidate; the floor
    logistic     logit = r(z) + b + v . z + sum_k w_k                       z: the numbers, standardised
    cross        logit = r(z) + V [x_L ; MLP(x_0)] + b + sum_k w_k,  x_0 = [z ; e]
    attention    the same with x_0 = [z ; e ; u],  u = sum_j a(h_j, c) h_j  h: the user's last items

``r`` is the linear part of all of them (:mod:`models.networks.ridge`), fitted to the labels by itself. V, the cross
layers, v and w begin at zero and fit its residual: a new ranker is the base rate, then a regularised linear model, and
becomes a network as data come. ``w_k`` and ``e_k`` are the wide weight and the embedding in the row of the k-th id
column, hashed crosses among them. A score depends on its own impression alone, never on the request's other candidates.

dense [B, D]; ids [B, K] and history [B, L] are rows of table [R, kinds + E], 0 those of ``EMPTY``; logits [B, kinds].
``columns`` are the places of the id columns that a ranker reads, ``reads_history`` whether it reads the last items:
id columns that it does not read get no rows. ``observe`` updates the statistics of the numbers with those [N, D] it is
about to be trained on; ``numbers`` [B, D] are those of some rows as ``r`` reads them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.examples import Layout
from models.networks.deep_cross import deep_cross
from models.networks.layers import Attention, Standardise
from models.networks.ridge import Ridge
from models.networks.shape import RankerKind, Shape
from models.tables.lookup import lookup


def candidate_column(layout: Layout) -> int | None:
    """Place of the candidate's id among the id columns, if it is there."""
    return layout.ids.index(layout.history_of) if layout.history_of in layout.ids else None


class Popularity(nn.Module):
    """Each candidate's own log-odds, whoever the user is; a new one has those of its out-of-vocabulary row.

    The tables' optimiser moves these weights like all others, so an item's odds follow its last impressions.
    """

    reads_history = False

    def __init__(self, layout: Layout, shape: Shape) -> None:
        super().__init__()
        candidate = candidate_column(layout)
        self.columns = () if candidate is None else (candidate,)
        self.kinds = len(layout.kinds)
        self.bias = nn.Parameter(torch.zeros(self.kinds))
        self.ridge = Ridge(0, self.kinds)

    def observe(self, dense: Tensor, look_back: float) -> None:
        """It reads no numbers."""

    def numbers(self, dense: Tensor) -> Tensor:
        return dense[:, :0]

    def forward(self, dense: Tensor, ids: Tensor, history: Tensor, table: Tensor) -> Tensor:
        wide = lookup(table[:, : self.kinds], ids[:, list(self.columns)])
        logits: Tensor = self.ridge(self.numbers(dense)) + self.bias + wide.sum(1)
        return logits


class Logistic(nn.Module):
    """Logistic regression on the numbers, the ids and their hashed crosses.

    As in McMahan et al. 2013 (Ad Click Prediction: a View from the Trenches), with crosses hashed to a fixed number
    of weights (Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning).
    """

    reads_history = False

    def __init__(self, layout: Layout, shape: Shape) -> None:
        super().__init__()
        self.columns = tuple(range(len(layout.ids) + len(shape.crosses)))
        self.kinds = len(layout.kinds)
        self.standardise = Standardise(len(layout.dense), shape.clip)
        self.ridge = Ridge(len(layout.dense), self.kinds)
        self.weight = nn.Parameter(torch.zeros(self.kinds, len(layout.dense)))
        self.bias = nn.Parameter(torch.zeros(self.kinds))

    def observe(self, dense: Tensor, look_back: float) -> None:
        self.standardise.observe(dense, look_back)

    def numbers(self, dense: Tensor) -> Tensor:
        standardised: Tensor = self.standardise(dense)
        return standardised

    def forward(self, dense: Tensor, ids: Tensor, history: Tensor, table: Tensor) -> Tensor:
        wide, numbers = lookup(table[:, : self.kinds], ids), self.numbers(dense)
        logits: Tensor = self.ridge(numbers) + functional.linear(numbers, self.weight, self.bias) + wide.sum(1)
        return logits


class Cross(nn.Module):
    """Deep and cross: x_l+1 = x_0 * (W_l x_l + b_l) + x_l beside an MLP, and wide weights.

    Wang et al. 2021 (DCN V2, eq. 1, the parallel structure); the wide part is of Cheng et al. 2016 (Wide & Deep).
    """

    reads_history = False

    def __init__(self, layout: Layout, shape: Shape, width: int = 0) -> None:
        """``width``: of what x_0 holds beside the numbers and the embeddings."""
        super().__init__()
        self.columns = tuple(range(len(layout.ids) + len(shape.crosses)))
        self.kinds = len(layout.kinds)
        self.standardise = Standardise(len(layout.dense), shape.clip)
        self.ridge = Ridge(len(layout.dense), self.kinds)
        width += len(layout.dense) + shape.embedding * len(self.columns)
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(shape.cross_layers))
        sizes = [width, *shape.hidden]
        self.deep = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.out = nn.Linear(width + (sizes[-1] if shape.hidden else 0), self.kinds)
        with torch.no_grad():
            for layer in (*self.cross, self.out):
                layer.weight.zero_(), layer.bias.zero_()

    def observe(self, dense: Tensor, look_back: float) -> None:
        self.standardise.observe(dense, look_back)

    def numbers(self, dense: Tensor) -> Tensor:
        standardised: Tensor = self.standardise(dense)
        return standardised

    def forward(self, dense: Tensor, ids: Tensor, history: Tensor, table: Tensor) -> Tensor:
        numbers, more = self.numbers(dense), self.of_history(ids, history, table[:, self.kinds :])
        deep = deep_cross(numbers, ids, more, table, self.kinds, self.cross, self.deep, self.out)
        logits: Tensor = self.ridge(numbers) + deep
        return logits

    def of_history(self, ids: Tensor, history: Tensor, embeddings: Tensor) -> list[Tensor]:
        """What x_0 holds of the user's last items, given the embeddings [R, E] of the table's rows. Here nothing."""
        return []


class LastItems(Cross):
    """Deep and cross with the user's last items as seen from the candidate.

    Zhou et al. 2018 (Deep Interest Network, eq. 3): weights are not normalised over the history, so that a strong
    interest counts for more. Without attention units the last items are averaged (Covington et al. 2016).
    """

    def __init__(self, layout: Layout, shape: Shape) -> None:
        self.reads_history = bool(layout.history)
        super().__init__(layout, shape, width=shape.embedding * self.reads_history)
        self.candidate = candidate_column(layout)
        has_attention = self.reads_history and shape.attention
        self.attention = Attention(shape.embedding, shape.attention) if has_attention else None

    def of_history(self, ids: Tensor, history: Tensor, embeddings: Tensor) -> list[Tensor]:
        if not self.reads_history:
            return []
        h = lookup(embeddings, history)
        present = (history != 0).to(h.dtype)
        if self.attention is None:
            return [h.sum(1) / present.sum(1, keepdim=True).clamp(min=1)]
        return [self.attention(lookup(embeddings, ids[:, self.candidate]), h, present)]


Ranker = Popularity | Logistic | Cross

RANKERS: dict[RankerKind, type[Popularity] | type[Logistic] | type[Cross]] = {
    "popularity": Popularity,
    "logistic": Logistic,
    "cross": Cross,
    "attention": LastItems,
}
"""By the name in ``Shape.ranker``."""


def row_width(layout: Layout, shape: Shape) -> int:
    """Floats in an id's row: a wide weight for each kind, then the embedding of those rankers that have one."""
    return len(layout.kinds) + (shape.embedding if shape.ranker in ("cross", "attention") else 0)
