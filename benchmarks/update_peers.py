"""The peers of the bench of updates: the same deep-and-cross network as one writes it in torch, with its own parts."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.layers import Standardise
from models.networks.rankers import Cross


@dataclass(frozen=True)
class LearningRates:
    """What all trainers train with."""

    network: float
    decay: float
    table: float
    initial_accumulator: float


class Embeddings(Protocol):
    """The embeddings of a peer, with their optimiser."""

    def rows(self, ids: Tensor) -> Tensor:
        """[B, K, kinds + E]."""

    def step(self) -> None:
        """Take a step along the gradients that the backward pass has left."""


def sparse(rows: Tensor) -> nn.Embedding:
    """A table that starts at these rows, whose gradient is sparse."""
    table = nn.Embedding(len(rows), rows.shape[1], sparse=True, device=rows.device)
    with torch.no_grad():
        table.weight.copy_(rows)
    return table


class SparseAdagrad:
    """``nn.Embedding(sparse=True)`` for each column and ``torch.optim.Adagrad``."""

    def __init__(self, start: Sequence[Tensor], rates: LearningRates) -> None:
        # torch warns until one has chosen.
        torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
        self.tables = nn.ModuleList(sparse(rows) for rows in start)
        self.optimiser = torch.optim.Adagrad(
            self.tables.parameters(), lr=rates.table, initial_accumulator_value=rates.initial_accumulator
        )

    def rows(self, ids: Tensor) -> Tensor:
        return torch.stack([table(ids[:, k]) for k, table in enumerate(self.tables)], dim=1)

    def step(self) -> None:
        self.optimiser.step()
        self.optimiser.zero_grad()


class RowwiseAdagrad:
    """The same embeddings, and row-wise Adagrad written with torch's operations on their sparse gradients."""

    def __init__(self, start: Sequence[Tensor], rates: LearningRates) -> None:
        self.tables = nn.ModuleList(sparse(rows) for rows in start)
        self.squares = [torch.full((len(w), 1), rates.initial_accumulator, device=w.device) for w in start]
        self.rate = rates.table

    def rows(self, ids: Tensor) -> Tensor:
        return torch.stack([table(ids[:, k]) for k, table in enumerate(self.tables)], dim=1)

    @torch.no_grad()
    def step(self) -> None:
        for parameter, squares in zip(self.tables.parameters(), self.squares, strict=True):
            assert parameter.grad is not None
            gradient = parameter.grad.coalesce()
            rows, values = gradient.indices()[0], gradient.values()
            squares.index_add_(0, rows, values.square().mean(1, keepdim=True))
            step = values / (squares[rows].sqrt() + 1e-10)
            parameter.index_add_(0, rows, step, alpha=-self.rate)
            parameter.grad = None


class FrozenRows:
    """Rows that are never updated: what the network alone costs."""

    def __init__(self, start: Sequence[Tensor], rates: LearningRates) -> None:
        self.tables = list(start)

    def rows(self, ids: Tensor) -> Tensor:
        return torch.stack([functional.embedding(ids[:, k], table) for k, table in enumerate(self.tables)], dim=1)

    def step(self) -> None:
        """Nothing to do."""


class PlainCross(nn.Module):
    """Deep and cross, a head for each feedback kind; it starts at the weights of ours."""

    def __init__(self, ours: Cross) -> None:
        super().__init__()
        self.kinds = ours.kinds
        self.standardise = Standardise(ours.standardise.mean.numel(), ours.standardise.clip)
        self.cross, self.deep = copied(ours.cross), copied(ours.deep)
        self.heads = nn.ModuleList(nn.Linear(ours.out.in_features, 1) for _ in range(ours.kinds))
        with torch.no_grad():
            for kind, head in enumerate(self.heads):
                head.weight.copy_(ours.out.weight[kind : kind + 1])  # type: ignore[operator]
                head.bias.copy_(ours.out.bias[kind : kind + 1])  # type: ignore[operator]

    def forward(self, dense: Tensor, rows: Tensor) -> Tensor:
        wide, embedded = rows[..., : self.kinds], rows[..., self.kinds :]
        x0 = torch.cat([self.standardise(dense), embedded.flatten(1)], dim=1)
        x = x0
        for layer in self.cross:
            x = x0 * layer(x) + x
        d = x0
        for layer in self.deep:
            d = torch.relu(layer(d))
        top = torch.cat([x, d], dim=1)
        return torch.cat([head(top) for head in self.heads], dim=1) + wide.sum(1)


def copied(layers: nn.ModuleList) -> nn.ModuleList:
    """The same linear layers, apart."""
    new = nn.ModuleList()
    for layer in layers:
        assert isinstance(layer, nn.Linear)
        new.append(nn.Linear(layer.in_features, layer.out_features))
        new[-1].load_state_dict(layer.state_dict())
    return new


class TorchRanker:
    """A network and tables, trained batch by batch."""

    def __init__(
        self,
        ours: Cross,
        tables: Embeddings,
        rates: LearningRates,
        device: torch.device,
        steps: int,
        autocast: bool,
    ) -> None:
        """``steps``: taken before, of which nothing is left but their count; ``autocast``: to bfloat16."""
        self.network, self.tables, self.autocast, self.device = PlainCross(ours).to(device), tables, autocast, device
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=rates.network, weight_decay=rates.decay, fused=True
        )
        for parameter in self.network.parameters():
            self.optimiser.state[parameter] = {
                "step": torch.tensor(float(steps), device=device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def step(self, dense: Tensor, ids: Tensor, target: Tensor) -> Tensor:
        """Train on a batch; logits [B, kinds] from before."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            logits: Tensor = self.network(dense, self.tables.rows(ids))
        logits = logits.float()
        loss = functional.binary_cross_entropy_with_logits(logits, target)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()
        self.tables.step()
        return logits.detach()


def fbgemm() -> str | None:
    """Why fbgemm's tables cannot take part; None where they load."""
    try:
        importlib.import_module("fbgemm_gpu")
    except (ImportError, OSError) as error:
        return str(error).splitlines()[0]
    return None
