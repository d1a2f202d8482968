"""One training step: the rows that a batch touches are gathered, updated with the network, and put back.

    stepper = Stepper(network, table, state, moments, design, device, steps=model.steps)
    for batch in batches:
        logits = stepper.step(batch)          # as predicted before training on the batch
    network, table, state, moments = stepper.finish()

A step reads and writes the batch's own rows alone, and the network's weights as one flat vector, so that an optimiser
is a few passes over two blocks of memory whatever the network is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from models.learning.design import Design, Learning
from models.learning.optimisers import OptimiserStep, network_optimiser, row_optimiser
from models.learning.options.passive_aggressive import PassiveAggressive, hinge
from models.learning.position import PositionTerm
from models.networks.rankers import Ranker
from models.networks.ridge import frozen, information

REQUEST_ROWS, REQUEST_INFORMATION = 5, 0.8
"""Of a request on the feed that the learning rates were chosen on: five impressions, of which one is clicked."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Impressions to train on."""

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

    position: Tensor
    """[B], rows of the position term; 0 where the position is not known."""

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the rows; nothing is copied."""
        return Batch(*(column[rows] for column in vars(self).values()))

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(column.to(device) for column in vars(self).values()))


@dataclass(frozen=True)
class BatchSize:
    """A batch as a part of a full one, for which the learning rates are meant: of ``Learning.batch_requests`` requests,
    with ``REQUEST_ROWS`` impressions and ``REQUEST_INFORMATION`` each."""

    rows: float = 1.0
    """In impressions. It scales the gradient of an id's row, so that an impression changes the row by as much in a
    batch of any size."""

    information: float = 1.0
    """In information, the sum of p (1 - p). Its square root scales the network's learning rate, as suits normalised
    steps (Malladi et al. 2022, the scaling rule for Adam): those of rare labels are mostly noise, and no shorter."""

    @staticmethod
    def of(rows: int, information: float, learning: Learning) -> BatchSize:
        """That of a batch of so many impressions with so much information each."""
        full = learning.batch_requests
        return BatchSize(rows / (full * REQUEST_ROWS), rows * information / (full * REQUEST_INFORMATION))


class Stepper:
    """Trains batch by batch. It takes over what it is given: the network, table, state and moments are its own."""

    def __init__(
        self,
        network: Ranker,
        table: Tensor,
        state: Tensor,
        moments: Mapping[str, Tensor],
        design: Design,
        device: torch.device | str,
        steps: int,
    ) -> None:
        """``network(dense, ids, history, table)`` gives logits [B, kinds]; ``table`` [R, w] with row 0 for ``EMPTY``,
        all zeros; ``state`` [R, s]; ``moments``: ``<parameter>.<moment>`` for those of the shape's optimiser, and
        ``<parameter>.average`` with averaging, and the sums of ``models.networks.ridge`` (what is missing starts anew)
        and of ``models.learning.position`` (what is missing is not trained);
        ``steps``: taken before."""
        self.learning, self.device, self.steps = design.learning, torch.device(device), steps
        self.row_optimiser, self.network_optimiser = row_optimiser(design.shape), network_optimiser(design.shape)
        self.passive_aggressive = PassiveAggressive.of(design.shape)
        self.loss = hinge if self.passive_aggressive else cross_entropy
        network.to(self.device)
        self.network = network
        self.table, self.state = table.to(self.device), state.to(self.device)
        self.parameters = dict(self.network.named_parameters())
        with torch.no_grad():
            self.weights = flattened(self.parameters.values(), self.device)
            at = 0
            for parameter in self.parameters.values():
                parameter.data = self.weights[at : at + parameter.numel()].view(parameter.shape)
                at += parameter.numel()
            self.moments = self._moments(moments)
            empty = self.network.ridge.empty_sums()
            sums: dict[str, Tensor] = {**empty, **moments}
            self.ridge_trains = not bool(frozen(sums).all())
            self.information = information(sums)
            self.ridge = {name: sums[name].to(self.device, copy=True) for name in empty}
            self.position = PositionTerm(
                {
                    name: sum_.to(self.device, copy=True)
                    for name, sum_ in moments.items()
                    if name.startswith("position.")
                },
                network.kinds,
            )
            self.average = None
            if self.learning.averaging:
                self.average = self._vector(moments, "average", self.weights)
        self.marked = torch.zeros(len(self.table), dtype=torch.bool, device=self.device)
        self.index = torch.zeros(len(self.table), dtype=torch.int64, device=self.device)

    def step(self, batch: Batch, share: float = 1.0, size: BatchSize | None = None) -> Tensor:
        """Train on ``batch`` at ``share`` of the learning rates. Gives the logits [B, kinds] from before, as shown.

        ``size``: against a full one; None: it is a full one.
        """
        size = size or BatchSize()
        used, ids, history = self.used(batch)
        touched = self.table.index_select(0, used).requires_grad_()
        logits, loss = self.forward(batch, ids, history, touched)
        found = torch.autograd.grad(
            loss, [*self.parameters.values(), touched], allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            of_position = self.position.of(batch.position)
            self.steps += 1
            gradient, of_rows = flattened(found[:-1], self.device), size.rows * found[-1]
            rows, state = touched.detach(), self.state.index_select(0, used)
            step = OptimiserStep(self.learning.table_rate * share, number=self.steps, loss=loss.detach())
            if self.passive_aggressive:
                step = replace(step, square=self.passive_aggressive.square(gradient, of_rows))
            self.row_optimiser.update(rows, state, of_rows, step)
            self.table.index_copy_(0, used, rows)
            self.state.index_copy_(0, used, state)
            rate = self.learning.rate * (share * min(size.information, 1.0) ** 0.5)
            step = replace(step, rate=rate, weight_decay=self.learning.weight_decay)
            self.network_optimiser.update(self.weights, self.moments, gradient, step)
            if self.average is not None:
                # A young average looks back less, or the first weights would stay in it too long.
                decay = min(self.learning.averaging, self.steps / (self.steps + 9))
                self.average.lerp_(self.weights, 1 - decay)
            if self.ridge_trains:
                numbers = self.network.numbers(batch.dense)
                self.network.ridge.update(
                    self.ridge, numbers, batch.target, batch.weight, self.learning.ridge, of_position
                )
            if self.position.trains and bool(batch.position.any()):
                self.position.update(logits.detach() - of_position, batch.target, batch.weight, batch.position)
        return logits.detach()

    def forward(self, batch: Batch, ids: Tensor, history: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, in float32 whatever the precision of the products, and the loss."""
        low = self.learning.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            logits: Tensor = self.network(batch.dense, ids, history, rows)
        logits = logits.float() + self.position.of(batch.position)
        return logits, self.loss(logits, batch.target, batch.weight)

    def used(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The rows of the table that the batch uses [u], ascending from row 0 on, and its ids and history as indices
        into them."""
        cells = torch.cat([batch.ids.reshape(-1), batch.history.reshape(-1)])
        self.marked.zero_()
        self.marked[cells] = True
        self.marked[0] = True
        used = self.marked.nonzero().squeeze(1)
        self.index[used] = torch.arange(len(used), device=self.device)
        return used, self.index[batch.ids], self.index[batch.history]

    def finish(self) -> tuple[Ranker, Tensor, Tensor, dict[str, Tensor]]:
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
        sums = self.ridge | (self.position.sums if self.position.trains else {})
        moments |= {name: tensor.cpu() for name, tensor in sums.items()}
        self.network.cpu()
        return self.network, self.table.cpu(), self.state.cpu(), moments

    def _moments(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The optimiser's vectors; what is missing starts anew."""
        found = {
            name: self._vector(known, name, torch.zeros_like(self.weights)) for name in self.network_optimiser.moments
        }
        new = not self.steps or any(
            f"{p}.{m}" not in known for p in self.parameters for m in self.network_optimiser.moments
        )
        if new and self.network_optimiser.begin is not None:
            self.network_optimiser.begin(self.weights, found)
        return found

    def _vector(self, known: Mapping[str, Tensor], moment: str, otherwise: Tensor) -> Tensor:
        names = [f"{parameter}.{moment}" for parameter in self.parameters]
        if any(name not in known for name in names):
            return otherwise.clone()
        return flattened([known[name] for name in names], self.device)


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean cross-entropy by impression, of [B, kinds] each: calibrated, and what an impression adds does not depend on
    what else was shown. A row whose weight is 0 (its label is not known) does not count; targets may be fractions."""
    loss = functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    return loss / weight.sum().clamp(min=1)


def flattened(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """One new float32 vector of all of them, in their order."""
    parts = [tensor.reshape(-1).to(device) for tensor in tensors]
    return torch.cat(parts) if parts else torch.zeros(0, device=device)
