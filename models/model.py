"""A model: its design, its network, its id tables and its optimiser's state, and how it scores.

model = Model.new(layout, Design(), seed=0)
probabilities = model.score(examples)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.examples import Examples, Layout
from models.network import Network
from models.tables import Gathered, IdTable, remap


@dataclass(frozen=True)
class Design:
    """The shape of a network and how it learns. The defaults are what did best on a live feed (one pass, hourly)."""

    embedding: int = 6
    """Width of an id's embedding."""

    hidden: tuple[int, ...] = (64,)
    """Units of each layer of the MLP; none leaves it out."""

    cross_layers: int = 3
    """Cross layers; each costs the square of the input's width, and they are worth more than a wider MLP."""

    attention: int = 8
    """Hidden units that weigh the user's last items; 0 averages them instead."""

    limit: float = 5.0
    """Standard deviations at which a number is cut off, so that one wild value cannot shout down the rest."""

    memory: float = 1e6
    """Rows over which the running mean and deviation of the numbers look back, once that many were seen."""

    admit_after: int = 2
    """Impressions of an id before it has a row of its own."""

    buckets: int = 16
    """Shared rows for ids not yet admitted, per table."""

    rate: float = 1.5e-3
    """AdamW's learning rate, for the network."""

    weight_decay: float = 0.01
    """AdamW's decay of the network's weights."""

    table_rate: float = 0.05
    """Adagrad's learning rate, for the rows of the tables."""

    first_square: float = 1e-5
    """Adagrad's sum of squared gradients (of a batch's mean loss) with which a row starts; larger is slower."""

    first_weight: float = 0.02
    """An embedding starts within this of its shared row."""

    batch_requests: int = 128
    """Requests in a batch."""

    warm_up_steps: int = 2
    """Steps at the start of an update over which the rates rise to their full size."""

    epochs: int = 1
    """Passes over the window. One is best wherever ids have rows: a second pass learns them by heart. Later passes
    take the batches of each stretch in an order drawn from the seed."""

    stretch: int = 16
    """Batches between two gatherings of rows from the tables. It bounds an update's memory on the device, and is how
    often early stopping looks."""

    patience: int = 2
    """Stretches in a row that may go badly before learning stops early and goes back to the model it had before them.
    A stretch goes badly when the learning model predicts each batch, before learning from it, worse than the model
    that the update started from, by more than ``tolerance``. 0 never stops, and saves that comparison."""

    tolerance: float = 0.01
    """Part of the log loss by which, with 95 % confidence, a bad stretch is worse."""

    time_budget_s: float | None = None
    """Seconds after which learning stops and keeps what was learned: the earlier part of the window."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        least = {"embedding": 1, "cross_layers": 0, "attention": 0, "admit_after": 1, "buckets": 1, "batch_requests": 1}
        least |= {"warm_up_steps": 0, "epochs": 1, "stretch": 1, "patience": 0, "weight_decay": 0, "first_square": 0}
        least |= {"first_weight": 0}
        for name, lowest in least.items():
            if not getattr(self, name) >= lowest:
                raise ValueError(f"design.{name} is {getattr(self, name)}: give at least {lowest}")
        for name in ("limit", "memory", "rate", "table_rate", "tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"design.{name} is {getattr(self, name)}: give more than 0")
        if self.time_budget_s is not None and not self.time_budget_s > 0:
            raise ValueError(f"design.time_budget_s is {self.time_budget_s}: give seconds, or None for no limit")
        if any(units < 1 for units in self.hidden):
            raise ValueError(f"design.hidden is {self.hidden}: each layer needs at least 1 unit")


@dataclass(frozen=True, eq=False)
class WorkingSet:
    """The rows of all tables that some examples use, in one compact table, and the examples' ids as its rows."""

    weights: NDArray[np.float32]
    """[R, kinds + E]; row 0 is that of ``EMPTY``, all zeros, and never moves."""

    squares: NDArray[np.float32]
    ids: NDArray[np.int64]
    """[N, K], rows of ``weights``."""

    history: NDArray[np.int64]
    """[N, L], rows of ``weights``."""

    gathered: tuple[Gathered, ...]
    """One for each id column, in their order, from row 1 on."""


class Model:
    """A ranker with all that it needs to score and to go on learning. :func:`fine_tune` leaves it as it was."""

    def __init__(
        self,
        layout: Layout,
        design: Design,
        network: Network,
        tables: tuple[IdTable, ...],
        moments: Mapping[str, Tensor],
        steps: int,
    ) -> None:
        """``tables``: one for each id column; ``moments``: AdamW's averages, as ``<parameter>.first`` and ``.second``;
        ``steps``: batches learned from since the model was new."""
        self.layout, self.design, self.network = layout, design, network
        self.tables, self.moments, self.steps = tables, moments, steps

    @staticmethod
    def new(layout: Layout, design: Design, seed: int) -> Model:
        """A model that knows nothing: every id's row is zero."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(
                dense=len(layout.dense),
                ids=len(layout.ids),
                candidate=layout.ids.index(layout.history_of) if layout.history else None,
                kinds=len(layout.kinds),
                embedding=design.embedding,
                attention=design.attention,
                cross_layers=design.cross_layers,
                hidden=design.hidden,
                limit=design.limit,
            )
        table = IdTable.new(
            len(layout.kinds) + design.embedding,
            admit_after=design.admit_after,
            buckets=design.buckets,
            first_square=design.first_square,
            first_weight=design.first_weight,
            quiet=len(layout.kinds),
        )
        moments = {
            f"{name}.{moment}": torch.zeros_like(parameter)
            for name, parameter in network.named_parameters()
            for moment in ("first", "second")
        }
        return Model(layout, design, network.eval(), (table,) * len(layout.ids), moments, 0)

    def copy(self) -> Model:
        """A model that learns apart from this one. Costs the network; the tables' rows are shared until they move."""
        moments = {name: moment.clone() for name, moment in self.moments.items()}
        return Model(self.layout, self.design, deepcopy(self.network), self.tables, moments, self.steps)

    def score(self, examples: Examples, batch: int = 2048) -> NDArray[np.float64]:
        """Probability [N] of the layout's first feedback kind; each row's depends on that row alone."""
        examples.expect(self.layout)
        if not len(examples):
            return np.zeros(0)
        with one_thread(), torch.inference_mode():
            working = gather(self, examples, learning=False)
            columns = [tensor(a) for a in (examples.dense, working.ids, working.history)]
            table = tensor(working.weights)
            logits = [
                self.network(*(column[start : start + batch] for column in columns), table)[:, 0]
                for start in range(0, len(examples), batch)
            ]
            return torch.sigmoid(torch.cat(logits).double()).numpy()


def gather(model: Model, examples: Examples, *, learning: bool) -> WorkingSet:
    """The rows that ``examples`` use. Learning counts their ids as seen, scoring does not."""
    nothing = np.zeros((1, len(model.layout.kinds) + model.design.embedding), np.float32)
    weights, squares, gathered = [nothing], [nothing], []
    ids, history = np.zeros(examples.ids.shape, np.int64), np.zeros(examples.history.shape, np.int64)
    first = 1
    for k, (name, table) in enumerate(zip(model.layout.ids, model.tables, strict=True)):
        window = remap(examples.ids[:, k], examples.history if name == model.layout.history_of else None)
        own = table.gather(window.ids, window.sightings if learning else None)
        row = np.concatenate([[0], first + own.row])
        ids[:, k] = row[window.cells]
        if window.history is not None:
            history = row[window.history]
        weights.append(own.weights)
        squares.append(own.squares)
        gathered.append(own)
        first += len(own.weights)
    return WorkingSet(np.concatenate(weights), np.concatenate(squares), ids, history, tuple(gathered))


def scatter(tables: tuple[IdTable, ...], working: WorkingSet, weights: Tensor, squares: Tensor) -> tuple[IdTable, ...]:
    """The tables with the working set's rows as they became."""
    moved_weights, moved_squares = weights.detach().cpu().numpy(), squares.cpu().numpy()
    updated, first = [], 1
    for table, own in zip(tables, working.gathered, strict=True):
        rows = slice(first, first + len(own.weights))
        updated.append(table.put(own, moved_weights[rows], moved_squares[rows]))
        first = rows.stop
    return tuple(updated)


def tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor, copied only where torch cannot share it (not writable, or not in order)."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside: at these sizes quicker than several beside other work, and always the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
