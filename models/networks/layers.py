"""Layers of the rankers' networks: numbers standardised by running statistics, and attention over the last items."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS_SUMMED = 1 << 12
"""Rows of a window that are summed together: in double precision they still fit into a processor's cache."""


KNOWN_FROM = 2_000.0
"""Rows from which a column is known: of fewer, where others have more, it counts for as much less."""


class Standardise(nn.Module):
    """(value - mean) / deviation, clipped at ``clip`` deviations; a missing number becomes the mean.

    Mean and variance are running ones over the rows trained on: of all alike up to ``look_back`` rows, from there on
    an exponential average over about that many. A row in which a column is missing does not count for that column; and
    as long as a column stands still only the first of its rows does: by all of them, one that begins to vary late would
    seem to vary hardly at all for as long again, and its values would be many deviations out.
    """

    def __init__(self, columns: int, clip: float) -> None:
        super().__init__()
        self.clip = clip
        self.mean: Tensor
        self.variance: Tensor
        self.rows: Tensor
        self.register_buffer("mean", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(columns, dtype=torch.float64))
        self.register_buffer("rows", torch.zeros(columns, dtype=torch.float64))

    @torch.no_grad()
    def observe(self, dense: Tensor, look_back: float) -> None:
        """Update the statistics with rows [N, D] (Chan et al. 1979: merging means and variances)."""
        dense = self._counted(dense)
        count, mean, squares = (torch.zeros_like(self.mean) for _ in range(3))
        for first in range(0, len(dense), ROWS_SUMMED):
            rows = dense[first : first + ROWS_SUMMED]
            known = torch.isfinite(rows)
            values = torch.where(known, rows, 0).double()
            some = known.sum(0).double()
            centre = values.sum(0) / some.clamp(min=1)
            part, shift = some / (count + some).clamp(min=1), centre - mean
            squares += (torch.where(known, values - centre, 0) ** 2).sum(0) + shift**2 * count * part
            mean += shift * part
            count += some
        variance = squares / count.clamp(min=1)
        share = count / (count + self.rows.clamp(max=look_back)).clamp(min=1)
        shift = mean - self.mean
        self.variance.copy_((1 - share) * self.variance + share * variance + share * (1 - share) * shift**2)
        self.mean.add_(share * shift)
        self.rows.add_(count)

    def _counted(self, dense: Tensor) -> Tensor:
        """The rows, without the values of columns that stand still but the first."""
        still = ((self.rows == 0) | (self.variance == 0)).nonzero().squeeze(1)
        if not len(still) or not len(dense):
            return dense
        values = dense[:, still].double()
        known = torch.isfinite(values)
        met = self.rows[still] > 0
        first = known.byte().argmax(0, keepdim=True)
        value = torch.where(met, self.mean[still], values.gather(0, first).squeeze(0))
        counted = (known & (values != value)).cummax(0).values
        counted.scatter_(0, first, ~met[None] | counted.gather(0, first))
        dense = dense.clone()
        dense[:, still] = dense[:, still].masked_fill(~counted, torch.nan)
        return dense

    def constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """[D] each: the mean, one over the deviation, and how much a column counts for."""
        deviation = self.variance.sqrt()
        # A constant column becomes 0: divided by its rounding errors it would be huge.
        scale = torch.where(deviation > 1e-6 * (1 + self.mean.abs()), 1 / deviation, 0)
        known = self.rows / self.rows.amax(0, keepdim=True).clamp(1, KNOWN_FROM) if len(self.rows) else self.rows
        return self.mean.float(), scale.float(), known.clamp(max=1).float()

    def forward(self, dense: Tensor) -> Tensor:
        mean, scale, known = self.constants()
        x = (dense - mean) * scale
        x = torch.nan_to_num(x, nan=0.0, posinf=self.clip, neginf=-self.clip).clamp(-self.clip, self.clip)
        return x * known


class Attention(nn.Module):
    """u = sum_j a(h_j, c) h_j with a = MLP([h ; c ; h * c]) (Zhou et al. 2018, eq. 3)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # W [h ; c ; h*c] is written as three products, so that the candidate's is computed once and not for each slot.
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
