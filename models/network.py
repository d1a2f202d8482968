"""The ranker: id embeddings and standardised numbers, crossed (DCN-v2), an MLP, attention over the last items, wide.

    e    = embeddings of the ids;  w = their wide weights
    u    = sum_j a(h_j, c) h_j                              the user's last items h_j seen from the candidate c
    x0   = [(dense - mean) / deviation ; e ; u]
    x_l+1 = x0 * (W_l x_l + b_l) + x_l                      for each cross layer
    logit = V [x_L ; MLP(x0)] + b + sum w                   one for each feedback kind

Sources: Wang et al. 2021 (DCN V2, eq. 1, parallel structure); Zhou et al. 2018 (DIN, eq. 3: weights are not
normalised over the history, so that a strong interest counts for more); Cheng et al. 2016 (wide & deep).
A score depends on its own impression alone, never on the request's other candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Standardise(nn.Module):
    """(value - mean) / deviation, within ``limit`` deviations; what is not a number becomes the mean.

    Mean and variance are the running ones of what was learned from: all rows alike up to ``memory`` rows, from
    there on as an exponential average over about that many.
    """

    def __init__(self, columns: int, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.mean: Tensor
        self.variance: Tensor
        self.rows: Tensor
        self.register_buffer("mean", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(columns, dtype=torch.float64))
        self.register_buffer("rows", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def observe(self, dense: Tensor, memory: float) -> None:
        """Take in rows [N, D] (Chan et al. 1979: merging means and variances)."""
        known = torch.isfinite(dense)
        values = torch.where(known, dense, 0).double()
        count = known.sum(0).double()
        mean = values.sum(0) / count.clamp(min=1)
        variance = (torch.where(known, values - mean, 0) ** 2).sum(0) / count.clamp(min=1)
        share = count / (count + self.rows.clamp(max=memory)).clamp(min=1)
        shift = mean - self.mean
        self.variance.copy_((1 - share) * self.variance + share * variance + share * (1 - share) * shift**2)
        self.mean.add_(share * shift)
        self.rows.add_(len(dense))

    def forward(self, dense: Tensor) -> Tensor:
        deviation = self.variance.sqrt()
        # A column that never varied says nothing; divided by its rounding errors it would shout.
        scale = torch.where(deviation > 1e-6 * (1 + self.mean.abs()), 1 / deviation, 0)
        x = (dense - self.mean.float()) * scale.float()
        return torch.nan_to_num(x, nan=0.0, posinf=self.limit, neginf=-self.limit).clamp(-self.limit, self.limit)


class Attention(nn.Module):
    """u = sum_j a(h_j, c) h_j with a = MLP([h ; c ; h * c]) (Zhou et al. 2018, eq. 3)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # W [h ; c ; h*c] is written as three products, so that the candidate's is made once and not for each slot.
        self.of_history = nn.Linear(width, hidden)
        self.of_candidate = nn.Linear(width, hidden, bias=False)
        self.of_both = nn.Linear(width, hidden, bias=False)
        self.weight = nn.Linear(hidden, 1)

    def forward(self, candidate: Tensor, history: Tensor, present: Tensor) -> Tensor:
        """candidate [B, E], history [B, L, E], present [B, L] -> [B, E]."""
        c = candidate.unsqueeze(1)
        hidden = torch.relu(self.of_history(history) + self.of_candidate(c) + self.of_both(history * c))
        a = self.weight(hidden).squeeze(-1) * present
        return torch.einsum("bl,ble->be", a, history)


class Network(nn.Module):
    """See the head of this file. The embeddings are no part of it: :meth:`forward` is given the rows it needs."""

    def __init__(
        self,
        *,
        dense: int,
        ids: int,
        candidate: int | None,
        kinds: int,
        embedding: int,
        attention: int,
        cross_layers: int,
        hidden: Sequence[int],
        limit: float,
    ) -> None:
        """``candidate``: place of the candidate's id among the ids, None without a history; ``attention``: hidden
        units of a, 0 to leave attention out (the history is then averaged)."""
        super().__init__()
        self.kinds, self.candidate = kinds, candidate
        self.standardise = Standardise(dense, limit)
        self.attention = Attention(embedding, attention) if attention and candidate is not None else None
        width = dense + embedding * (ids + (candidate is not None))
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(cross_layers))
        sizes = [width, *hidden]
        self.deep = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.out = nn.Linear(width + (sizes[-1] if hidden else 0), kinds)

    def forward(self, dense: Tensor, ids: Tensor, history: Tensor, table: Tensor) -> Tensor:
        """Logits [B, kinds]; dense [B, D]; ids [B, K] and history [B, L] are rows of table [R, kinds + E], 0 empty."""
        rows = functional.embedding(ids, table, padding_idx=0)
        wide, e = rows[..., : self.kinds], rows[..., self.kinds :]
        parts = [self.standardise(dense), e.flatten(1)]
        if self.candidate is not None:
            h = functional.embedding(history, table, padding_idx=0)[..., self.kinds :]
            present = (history != 0).to(h.dtype)
            if self.attention is not None:
                parts.append(self.attention(e[:, self.candidate], h, present))
            else:
                parts.append(h.sum(1) / present.sum(1, keepdim=True).clamp(min=1))
        x0 = torch.cat(parts, dim=1)

        x = x0
        for layer in self.cross:
            x = x0 * layer(x) + x

        d = x0
        for layer in self.deep:
            d = torch.relu(layer(d))
        top = torch.cat([x, d], dim=1) if len(self.deep) else x
        logit: Tensor = self.out(top) + wide.sum(1)
        return logit
