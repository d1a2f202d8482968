"""A model: its design, its ranker's network, its id tables and its optimisers' state, and how it scores.

model = Model.new(layout, Design(), seed=0)
probabilities = model.score(examples)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.examples import EMPTY, Columns, Examples, Layout
from models.learning.design import Design
from models.learning.optimisers import NETWORK_OPTIMISERS, ROW_OPTIMISERS
from models.learning.replay import Reservoir
from models.networks.rankers import RANKERS, Ranker, cross_names, row_width
from models.tables.id_table import Gathered, IdTable, remap, scramble

__all__ = ["Design", "Model", "WorkingSet", "gather", "one_thread", "scatter", "tensor"]


@dataclass(frozen=True, eq=False)
class WorkingSet:
    """The rows of all tables that some examples use, in one compact table, and the examples' ids as its rows."""

    weights: NDArray[np.float32]
    """[R, kinds + E]; row 0 is that of ``EMPTY``, all zeros, and never moves."""

    state: NDArray[np.float32]
    """[R, state_width], the row optimiser's."""

    ids: NDArray[np.int64]
    """[N, K], rows of ``weights``; a column for each id column and each cross, 0 in those that are not read."""

    history: NDArray[np.int64]
    """[N, L], rows of ``weights``."""

    gathered: tuple[Gathered | None, ...]
    """One for each table, in their order, from row 1 on; None for one that the ranker does not read."""


class Model:
    """A ranker with all that it needs to score and to go on learning. ``fine_tune`` leaves it as it was."""

    def __init__(
        self,
        layout: Layout,
        design: Design,
        network: Ranker,
        tables: tuple[IdTable, ...],
        moments: Mapping[str, Tensor],
        steps: int,
        latest: Ranker | None = None,
        reservoir: Reservoir | None = None,
    ) -> None:
        """``network`` scores. ``tables``: one for each of ``table_names``; ``moments``: what the network's optimiser
        keeps, as ``<parameter>.first`` and ``.second`` for AdamW, and what the linear part does
        (``models.networks.ridge``); ``steps``: batches learned from since the model was new; ``latest``: where
        ``network`` is an average over steps, the weights that learning goes on from."""
        self.layout, self.design, self.network = layout, design, network
        self.tables, self.moments, self.steps = tables, moments, steps
        self.latest = network if latest is None else latest
        self.reservoir = Reservoir.empty(layout, 0) if reservoir is None else reservoir
        self.reads: Columns | None = None
        """Where its columns are in the examples it is given; None: they are those of its layout."""

    @staticmethod
    def new(layout: Layout, design: Design, seed: int) -> Model:
        """A model that knows nothing: every id's row is zero."""
        known = {*layout.ids, *(f"last_{k + 1}" for k in range(layout.history))}
        for name in (name for cross in design.crosses for name in cross if name not in known):
            raise ValueError(f"design.crosses names {name!r}, which is none of the id columns {layout.ids}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = RANKERS[design.ranker](layout, design).eval()
        rows, width = ROW_OPTIMISERS[design.table_optimiser], row_width(layout, design)
        table = IdTable.new(
            width,
            state_width=rows.state_width(width),
            first_state=rows.first_state(design),
            admit_after=design.admit_after,
            buckets=design.buckets,
            first_weight=design.first_weight,
            quiet=len(layout.kinds),
            evict_after=design.evict_after,
            most_rows=design.most_rows,
        )
        moments = {
            f"{name}.{moment}": torch.zeros_like(parameter)
            for name, parameter in network.named_parameters()
            for moment in NETWORK_OPTIMISERS[design.optimiser].moments
        }
        moments |= network.ridge.nothing()
        tables = (table,) * (len(layout.ids) + len(design.crosses))
        latest = deepcopy(network) if design.averaging else None
        reservoir = Reservoir.empty(layout, seed if design.replay else 0)  # what keeps nothing is not saved
        return Model(layout, design, network, tables, moments, 0, latest, reservoir)

    def copy(self) -> Model:
        """A model that learns apart from this one. Costs the network; the tables' rows are shared until they move."""
        moments = {name: moment.clone() for name, moment in self.moments.items()}
        network = deepcopy(self.network)
        latest = network if self.latest is self.network else deepcopy(self.latest)
        model = Model(self.layout, self.design, network, self.tables, moments, self.steps, latest, self.reservoir)
        model.reads = self.reads
        return model

    def reading(self, layout: Layout | None) -> Model:
        """The same model, for examples of another layout that has its columns; None: for those of its own again.

        Raises ValueError that names a column which the other lacks, or has with another meaning.
        """
        model = copy(self)
        model.reads = None if layout is None else self.layout.within(layout)
        return model

    def own(self, examples: Examples) -> Examples:
        """Of examples that it is given, the columns it reads. Raises ValueError where they are not what it expects."""
        examples = examples if self.reads is None else self.reads.of(examples)
        examples.expect(self.layout)
        return examples

    def redesigned(self, design: Design) -> Model:
        """The same model, to go on learning by other settings (``judging.SETTINGS``: nothing that changes a shape)."""
        model = self.copy()
        model.design = design
        if not design.averaging:
            model.latest = model.network
        elif model.latest is model.network:
            model.latest = deepcopy(model.network)
        if not design.replay:
            model.reservoir = Reservoir.empty(model.layout, 0)
        model.tables = tuple(
            replace(table, evict_after=design.evict_after, most_rows=design.most_rows) for table in model.tables
        )
        return model

    @property
    def table_names(self) -> tuple[str, ...]:
        """One for each of ``tables``: the id columns, then the crosses."""
        return self.layout.ids + cross_names(self.design)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that the model knows beside its tables, by name. The names depend on layout and design alone."""
        parts = {f"network.{name}": part.numpy() for name, part in self.network.state_dict().items()}
        if self.latest is not self.network:
            parts |= {f"latest.{name}": part.numpy() for name, part in self.latest.state_dict().items()}
        parts |= {f"moments.{name}": part.numpy() for name, part in self.moments.items()}
        if self.design.replay:
            parts |= {f"replay.{name}": array for name, array in self.reservoir.arrays().items()}
        return parts

    @staticmethod
    def rebuilt(
        layout: Layout, design: Design, arrays: Mapping[str, NDArray[Any]], tables: tuple[IdTable, ...], steps: int
    ) -> Model:
        """The model whose :meth:`arrays` and tables these are; the arrays are copied.

        A model that was written before its design had an average or a sample of the past starts them now.
        """
        new = Model.new(layout, design, seed=0)
        own = {name: torch.tensor(array) for name, array in arrays.items() if not name.startswith("replay.")}
        new.network.load_state_dict({name: own[f"network.{name}"] for name in new.network.state_dict()})
        if new.latest is not new.network:
            prefix = "latest." if any(name.startswith("latest.") for name in own) else "network."
            new.latest.load_state_dict({name: own[prefix + name] for name in new.latest.state_dict()})
        moments = {name: own[f"moments.{name}"] for name in new.moments}
        kept = {name.removeprefix("replay."): a.copy() for name, a in arrays.items() if name.startswith("replay.")}
        reservoir = Reservoir.of(kept) if kept else new.reservoir
        return Model(layout, design, new.network, tables, moments, steps, new.latest, reservoir)

    def score(self, examples: Examples, batch: int = 2048) -> NDArray[np.float64]:
        """Probability [N] of the layout's first feedback kind; each row's depends on that row alone."""
        return torch.sigmoid(self.logits(examples, batch)[:, 0].double()).numpy()

    def logits(self, examples: Examples, batch: int = 2048) -> Tensor:
        """Log-odds [N, kinds] of each feedback kind."""
        examples = self.own(examples)
        if not len(examples):
            return torch.zeros(0, len(self.layout.kinds))
        with one_thread(), torch.inference_mode():
            working = gather(self, examples)
            columns = [tensor(a) for a in (examples.dense, working.ids, working.history)]
            table = tensor(working.weights)
            starts = range(0, len(examples), batch)
            return torch.cat([self.network(*(c[first : first + batch] for c in columns), table) for first in starts])


def gather(model: Model, examples: Examples, *, counted: NDArray[np.bool_] | None = None) -> WorkingSet:
    """The rows that ``examples`` use. To learn from them say which of them [N] count their ids as seen."""
    network, width = model.network, row_width(model.layout, model.design)
    state_width = ROW_OPTIMISERS[model.design.table_optimiser].state_width(width)
    now = None if counted is None or not counted.any() else float(examples.time[counted].max())
    columns = id_columns(model, examples)
    ids, history = np.zeros(columns.shape, np.int64), np.zeros((len(examples), 0), np.int64)
    weights, state = [np.zeros((1, width), np.float32)], [np.zeros((1, state_width), np.float32)]
    gathered, first = list[Gathered | None](), 1
    for k, (name, table) in enumerate(zip(model.table_names, model.tables, strict=True)):
        if k not in network.columns:
            gathered.append(None)
            continue
        shared = network.reads_history and name == model.layout.history_of
        window = remap(columns[:, k], examples.history if shared else None)
        sightings = None
        if counted is not None:
            sightings = np.bincount(window.cells[counted], minlength=len(window.ids) + 1)[1:]
        own = table.gather(window.ids, sightings, now)
        row = np.concatenate([[0], first + own.row])
        ids[:, k] = row[window.cells]
        if window.history is not None:
            history = row[window.history]
        weights.append(own.weights)
        state.append(own.state)
        gathered.append(own)
        first += len(own.weights)
    return WorkingSet(np.concatenate(weights), np.concatenate(state), ids, history, tuple(gathered))


def scatter(model: Model, working: WorkingSet, weights: Tensor, state: Tensor) -> tuple[IdTable, ...]:
    """The tables with the working set's rows as they became."""
    moved_weights, moved_state = weights.detach().cpu().numpy(), state.cpu().numpy()
    updated, first = [], 1
    for table, own in zip(model.tables, working.gathered, strict=True):
        if own is None:
            updated.append(table)
            continue
        rows = slice(first, first + len(own.weights))
        updated.append(table.put(own, moved_weights[rows], moved_state[rows]))
        first = rows.stop
    return tuple(updated)


def id_columns(model: Model, examples: Examples) -> NDArray[np.int64]:
    """[N, tables]: the id columns, then the ids of the crosses: a hash of their parts, ``EMPTY`` where a part is."""
    if not model.design.crosses:
        return examples.ids
    columns = dict(zip(model.layout.ids, examples.ids.T, strict=True))
    last = {f"last_{k + 1}": column for k, column in enumerate(examples.history.T)}
    crossed = []
    for cross in model.design.crosses:
        parts = [(last | columns)[name] for name in cross]
        mixed = np.zeros(len(examples), np.uint64)
        for part in parts:
            mixed = scramble(mixed + scramble(part))
        there = np.logical_and.reduce([part != EMPTY for part in parts])
        bucket = 1 + (mixed % np.uint64(model.design.cross_buckets)).astype(np.int64)
        crossed.append(np.where(there, bucket, EMPTY))
    return np.column_stack([examples.ids, *crossed])


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
