"""One step of learning: the rows that a batch touches are gathered, the network moves with them, they are put back.

    stepper = Stepper(network, table, state, moments, design, loss, device, steps=model.steps)
    for batch in batches:
        logits = stepper.step(batch)          # as predicted before learning from the batch
    network, table, state, moments = stepper.finish()

A step reads and writes the batch's own rows alone, and the network's weights as one flat vector, so that an optimiser
is a few passes over two blocks of memory whatever the network is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from models.learning.design import Design
from models.learning.optimisers import NETWORK_OPTIMISERS, ROW_OPTIMISERS, At
from models.networks.rankers import Ranker
from models.networks.ridge import CURVATURE, ENOUGH, PULL, ROWS

N = TypeVar("N", bound=Ranker)

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(logits [B, kinds], target [B, kinds], weight [B, kinds], request [B]) -> a scalar."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Impressions to learn from, the rows of a request side by side."""

    dense: Tensor
    """[B, D], float32."""

    ids: Tensor
    """[B, K], rows of the compact table; 0 is ``EMPTY``."""

    history: Tensor
    """[B, L], the same."""

    target: Tensor
    """[B, kinds], 0 to 1."""

    weight: Tensor
    """[B, kinds], 0 where the target is not known."""

    request: Tensor
    """[B], a code for each row's request."""

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the rows; nothing is copied."""
        return Batch(*(column[rows] for column in vars(self).values()))

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(column.to(device) for column in vars(self).values()))


class Stepper(Generic[N]):
    """Learns batch by batch. It takes over what it is given: the network, table, state and moments are its own."""

    def __init__(
        self,
        network: N,
        table: Tensor,
        state: Tensor,
        moments: Mapping[str, Tensor],
        design: Design,
        loss: Loss,
        device: torch.device | str,
        steps: int,
        start: tuple[nn.Module, Tensor] | None = None,
    ) -> None:
        """``network(dense, ids, history, table)`` gives logits [B, kinds]; ``table`` [R, w] with row 0 for ``EMPTY``,
        all zeros; ``state`` [R, s]; ``moments``: ``<parameter>.<moment>`` for those of the design's optimiser, and
        ``<parameter>.average`` with averaging, and what ``models.networks.ridge`` keeps (what is missing starts anew);
        ``steps``: taken before. ``start``: the network and the table at the start of the update, which
        ``design.proximal`` pulls toward; by default those given."""
        self.design, self.loss, self.device, self.steps = design, loss, torch.device(device), steps
        self.rows, self.flat = ROW_OPTIMISERS[design.table_optimiser], NETWORK_OPTIMISERS[design.optimiser]
        network.to(self.device)
        self.network: N = network
        self.logits = torch.compile(self.network, dynamic=True) if design.compiled else self.network
        self.table, self.state = table.to(self.device), state.to(self.device)
        self.parameters = dict(self.network.named_parameters())
        with torch.no_grad():
            self.weights = flattened(self.parameters.values(), self.device)
            at = 0
            for parameter in self.parameters.values():
                parameter.data = self.weights[at : at + parameter.numel()].view(parameter.shape)
                at += parameter.numel()
            self.moments = self._moments(moments)
            known: dict[str, Tensor] = {**self.network.ridge.nothing(), **moments}
            self.ridge = {name: known[name].to(self.device, copy=True) for name in (CURVATURE, PULL, ROWS)}
            self.grounding = bool((self.ridge[ROWS] < ENOUGH).any())
            self.average = None
            if design.averaging:
                self.average = self._vector(moments, "average", self.weights)
            self.start: tuple[Tensor, Tensor] | None = None
            if design.proximal:
                network_then, table_then = start or (self.network, self.table)
                then = flattened(network_then.parameters(), self.device)
                self.start = then, table_then.to(self.device, copy=True)
        self.hinged = "passive_aggressive" in (design.optimiser, design.table_optimiser)
        self.marked = torch.zeros(len(self.table), dtype=torch.bool, device=self.device)
        self.place = torch.zeros(len(self.table), dtype=torch.int64, device=self.device)

    def step(self, batch: Batch, share: float = 1.0, part: float = 1.0) -> Tensor:
        """Learn from ``batch`` at ``share`` of the rates. Gives the logits [B, kinds] from before.

        ``part``: how large the batch is beside a full one. An id moves by what its own rows say, so that a small batch
        moves it no further than the same rows in a full one; the network by the square root of that, as suits steps
        that are normalised (Malladi et al. 2022, the scaling rule for Adam).
        """
        used, ids, history = self.used(batch)
        touched = self.table.index_select(0, used).requires_grad_()
        logits, loss = self.forward(batch, ids, history, touched)
        found = torch.autograd.grad(
            loss, [*self.parameters.values(), touched], allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            self.steps += 1
            gradient, of_rows = flattened(found[:-1], self.device), part * found[-1]
            rows = touched.detach()
            if self.start is not None:
                gradient.add_(self.weights - self.start[0], alpha=self.design.proximal)
                of_rows = of_rows + self.design.proximal * (rows - self.start[1].index_select(0, used))
            at = At(share, self.steps, *self._hinge(loss, gradient, of_rows))
            state = self.state.index_select(0, used)
            self.rows.move(rows, state, of_rows, self.design, at)
            self.table.index_copy_(0, used, rows)
            self.state.index_copy_(0, used, state)
            at = replace(at, share=share * part**0.5)
            self.flat.move(self.weights, self.moments, gradient, self.design, at)
            if self.average is not None:
                # Young averages look back less, or the first weights would stay in them too long.
                decay = min(self.design.averaging, self.steps / (self.steps + 9))
                self.average.lerp_(self.weights, 1 - decay)
            if self.grounding:
                numbers = self.network.numbers(batch.dense)
                self.network.ridge.learn(self.ridge, numbers, batch.target, batch.weight, self.design.ridge)
        return logits.detach()

    def forward(self, batch: Batch, ids: Tensor, history: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, in float32 whatever the precision of the products, and the loss. Passive-aggressive has its own."""
        low = self.design.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            logits: Tensor = self.logits(batch.dense, ids, history, rows)
        logits = logits.float()
        if self.hinged:
            return logits, hinge(logits, batch.target, batch.weight)
        return logits, self.loss(logits, batch.target, batch.weight, batch.request)

    def used(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The rows of the table that the batch uses [u], ascending from row 0 on, and its ids and history as places
        in them."""
        cells = torch.cat([batch.ids.reshape(-1), batch.history.reshape(-1)])
        self.marked.zero_()
        self.marked[cells] = True
        self.marked[0] = True
        used = self.marked.nonzero().squeeze(1)
        self.place[used] = torch.arange(len(used), device=self.device)
        return used, self.place[batch.ids], self.place[batch.history]

    def finish(self) -> tuple[N, Tensor, Tensor, dict[str, Tensor]]:
        """The network, the table, its state and the moments as they became, on the CPU."""
        for parameter in self.parameters.values():
            parameter.data = parameter.data.cpu().clone()
        vectors = dict(self.moments) | ({} if self.average is None else {"average": self.average})
        moments, at = dict[str, Tensor](), 0
        for name, parameter in self.parameters.items():
            for moment, vector in vectors.items():
                part = vector[at : at + parameter.numel()].view(parameter.shape)
                moments[f"{name}.{moment}"] = part.cpu().clone()
            at += parameter.numel()
        moments |= {name: tensor.cpu() for name, tensor in self.ridge.items()}
        self.network.cpu()
        return self.network, self.table.cpu(), self.state.cpu(), moments

    def _moments(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The optimiser's vectors; what is missing starts anew."""
        found = {name: self._vector(known, name, torch.zeros_like(self.weights)) for name in self.flat.moments}
        if not self.steps or any(f"{p}.{m}" not in known for p in self.parameters for m in self.flat.moments):
            self.flat.begin(self.weights, found, self.design)
        return found

    def _vector(self, known: Mapping[str, Tensor], moment: str, otherwise: Tensor) -> Tensor:
        names = [f"{parameter}.{moment}" for parameter in self.parameters]
        if any(name not in known for name in names):
            return otherwise.clone()
        return flattened([known[name] for name in names], self.device)

    def _hinge(self, loss: Tensor, gradient: Tensor, of_rows: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """What passive-aggressive needs: the loss, and the squared length of all the gradients that it moves by."""
        if not self.hinged:
            return 0.0, 0.0
        by = (self.design.optimiser, gradient), (self.design.table_optimiser, of_rows)
        moved = [g.square().sum() for optimiser, g in by if optimiser == "passive_aggressive"]
        return loss.detach(), torch.stack(moved).sum()


def hinge(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of max(0, 1 - y logit), y = -1 or 1 (Crammer et al. 2006, eq. 5), over what is known: 0 where all are right
    by a margin."""
    loss = weight * torch.relu(1 - (2 * target - 1) * logits)
    return loss.sum() / weight.sum().clamp(min=1)


def flattened(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """One new float32 vector of all of them, in their order."""
    parts = [tensor.reshape(-1).to(device) for tensor in tensors]
    return torch.cat(parts) if parts else torch.zeros(0, device=device)
