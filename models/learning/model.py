"""A model: its design, its ranker's network, its id tables and its optimisers' state, and how it scores.

model = Model.new(layout, Design(), seed=0)
probabilities = model.score(examples)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.examples import Columns, Examples, Layout
from models.learning import position
from models.learning.design import Design, Learning
from models.learning.optimisers import network_optimiser, row_optimiser
from models.learning.options.replay import Reservoir
from models.learning.position import PositionTerm, position_rows
from models.learning.posterior import Posterior
from models.networks.crosses import cross_names, expect_crossed, with_crosses
from models.networks.last_layer import last_hidden
from models.networks.rankers import RANKERS, Ranker, row_width
from models.tables.id_table import IdTable
from models.tables.rows import Gathered
from models.tables.window_ids import WindowIds
from models.tensors import one_thread, tensor
from models.text.part import TextPart
from models.text.parts import TextReader, part_of
from models.text.text_design import TextDesign
from models.text.wording_design import WordingDesign


@dataclass(frozen=True, eq=False)
class WorkingSet:
    """The rows of all tables that some examples use, in one compact table, and the examples' ids as its rows."""

    weights: NDArray[np.float32]
    """[R, kinds + E]; row 0 is that of ``EMPTY``, always zeros."""

    state: NDArray[np.float32]
    """[R, state_width], the row optimiser's."""

    ids: NDArray[np.int64]
    """[N, K], rows of ``weights``; a column for each id column and each cross, 0 in those that are not read."""

    history: NDArray[np.int64]
    """[N, L], rows of ``weights``."""

    gathered: tuple[Gathered | None, ...]
    """One for each table, in their order, from row 1 on; None for one that the ranker does not read."""


class Model:
    """A ranker with all that it needs to score and to be trained on. ``fine_tune`` leaves it as it was."""

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
        posterior: Posterior | None = None,
        text: TextReader | None = None,
    ) -> None:
        """``network`` scores. ``tables``: one for each of ``table_names``; ``moments``: the vectors of the network's
        optimiser, as ``<parameter>.first`` and ``.second`` for AdamW, and the sums of the linear part
        (``models.networks.ridge``) and of the position term (``models.learning.position``); ``steps``: batches trained
        on since the model was new; ``latest``: where ``network`` is an average over steps, the weights that training
        goes on from; ``reservoir``: with replay; ``posterior``: where it is explored by Thompson sampling;
        ``text``: where it reads texts."""
        self.layout, self.design, self.network = layout, design, network
        self.tables, self.moments, self.steps = tables, moments, steps
        self.latest = network if latest is None else latest
        self.reservoir = reservoir
        self.posterior = posterior
        self.text = text
        self.reads: Columns | None = None
        """Where its columns are in the examples it is given; None: they are those of its layout."""

    @staticmethod
    def new(layout: Layout, design: Design, seed: int) -> Model:
        """An untrained model: every id's row is zero."""
        shape, learning = design.shape, design.learning
        expect_crossed(layout, shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = RANKERS[shape.ranker](of_network(layout, design), shape).eval()
        rows, width = row_optimiser(shape), row_width(layout, shape)
        table = IdTable.new(
            width,
            state_width=rows.state_width(width),
            initial_state=rows.initial_state(shape),
            frequency_filter=shape.frequency_filter,
            oov_rows=shape.oov_rows,
            initial_noise=shape.initial_noise,
            noiseless=len(layout.kinds),
            evict_after=learning.evict_after,
            max_rows=learning.max_rows,
        )
        moments = {
            f"{name}.{moment}": torch.zeros_like(parameter)
            for name, parameter in network.named_parameters()
            for moment in network_optimiser(shape).moments
        }
        moments |= network.ridge.empty_sums() | (
            position.empty_sums(len(layout.kinds)) if learning.position_term else {}
        )
        tables = (table,) * (len(layout.ids) + len(shape.crosses))
        latest = deepcopy(network) if learning.averaging else None
        reservoir = Reservoir.empty(of_network(layout, design), seed) if learning.replay else None
        text = None if design.text is None else part_of(design.text, {})
        return Model(layout, design, network, tables, moments, 0, latest, reservoir, text=text)

    def copy(self) -> Model:
        """A model to train apart from this one. Costs the network; the tables share their rows until they change."""
        moments = {name: moment.clone() for name, moment in self.moments.items()}
        network = deepcopy(self.network)
        latest = network if self.latest is self.network else deepcopy(self.latest)
        own = self.reservoir, self.posterior, self.text
        model = Model(self.layout, self.design, network, self.tables, moments, self.steps, latest, *own)
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
        """Of examples that it is given, what its network reads. Texts by another encoder than it was trained with, as
        once a surface names another, are not known to it. Raises ValueError where they are not what it expects."""
        examples = self.columns_of(examples)
        if self.text is None:
            return examples
        if examples.texts is not None and not self.text.reads(examples.texts):
            examples = replace(examples, texts=None)
        return self.text.beside(examples, self.layout)

    def columns_of(self, examples: Examples) -> Examples:
        """The same without the numbers that it makes of texts, whether or not it made them already."""
        examples = examples if self.reads is None else self.reads.of(examples)
        if self.text is not None:
            examples = replace(examples, dense=examples.dense[:, : len(self.layout.dense)])
        examples.expect(self.layout)
        return examples

    def trained_by(self, learning: Learning) -> Model:
        """The same model, to be trained on in another way."""
        model = self.copy()
        model.design = replace(self.design, learning=learning)
        if not learning.averaging:
            model.latest = model.network
        elif model.latest is model.network:
            model.latest = deepcopy(model.network)
        if not learning.replay:
            model.reservoir = None
        elif model.reservoir is None:
            model.reservoir = Reservoir.empty(of_network(model.layout, model.design), 0)
        no_term = position.empty_sums(len(model.layout.kinds))
        beside = {name: moment for name, moment in model.moments.items() if name not in no_term}
        term = {name: model.moments.get(name, sums) for name, sums in no_term.items()}
        model.moments = beside | (term if learning.position_term else {})
        model.tables = tuple(
            replace(table, evict_after=learning.evict_after, max_rows=learning.max_rows) for table in model.tables
        )
        return model

    def reading_texts_by(self, design: TextDesign | WordingDesign | None) -> Model:
        """The same model, whose texts are read by another design that trains on from its own."""
        if design == self.design.text:
            return self
        assert isinstance(design, TextDesign)
        assert isinstance(self.text, TextPart)
        model = copy(self)
        model.design, model.text = replace(self.design, text=design), self.text.by(design)
        return model

    def explored(self, by_posterior: bool) -> Model:
        """The same model, with a posterior where it is explored by one, and else without."""
        if by_posterior == (self.posterior is not None):
            return self
        model = copy(self)
        model.posterior = Posterior.unknown(self.network) if by_posterior else None
        return model

    @property
    def table_names(self) -> tuple[str, ...]:
        """One for each of ``tables``: the id columns, then the crosses."""
        return self.layout.ids + cross_names(self.design.shape)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays of the model beside its tables, by name. The names depend on layout, design and whether there is
        a posterior alone."""
        parts = {f"network.{name}": part.numpy() for name, part in self.network.state_dict().items()}
        if self.latest is not self.network:
            parts |= {f"latest.{name}": part.numpy() for name, part in self.latest.state_dict().items()}
        parts |= {f"moments.{name}": part.numpy() for name, part in self.moments.items()}
        if self.reservoir is not None:
            parts |= {f"replay.{name}": array for name, array in self.reservoir.arrays().items()}
        if self.posterior is not None:
            parts["posterior.precision"] = self.posterior.precision
        if self.text is not None:
            parts |= {f"text.{name}": array for name, array in self.text.arrays().items()}
        return parts

    @staticmethod
    def rebuilt(
        layout: Layout, design: Design, arrays: Mapping[str, NDArray[Any]], tables: tuple[IdTable, ...], steps: int
    ) -> Model:
        """The model whose :meth:`arrays` and tables these are; the arrays are copied."""
        new = Model.new(layout, design, seed=0)
        own = {
            name: torch.tensor(array)
            for name, array in arrays.items()
            if not name.startswith(("replay.", "posterior.", "text."))
        }
        new.network.load_state_dict({name: own[f"network.{name}"] for name in new.network.state_dict()})
        if new.latest is not new.network:
            new.latest.load_state_dict({name: own[f"latest.{name}"] for name in new.latest.state_dict()})
        moments = {name: own[f"moments.{name}"] for name in new.moments}
        past = {name.removeprefix("replay."): a.copy() for name, a in arrays.items() if name.startswith("replay.")}
        reservoir = Reservoir.of(past) if new.reservoir is not None else None
        known = arrays.get("posterior.precision")
        posterior = None if known is None else Posterior(known.copy())
        of_text = {name.removeprefix("text."): a.copy() for name, a in arrays.items() if name.startswith("text.")}
        text = None if design.text is None else part_of(design.text, of_text)
        return Model(layout, design, new.network, tables, moments, steps, new.latest, reservoir, posterior, text)

    @property
    def position_term(self) -> PositionTerm:
        return PositionTerm(self.moments, len(self.layout.kinds))

    def score(self, examples: Examples, batch: int = 2048) -> NDArray[np.float64]:
        """What each row [N] is ranked by, 0 to 1: the mean probability of the layout's kinds, weighted; it depends on
        that row alone, and not on where it was shown."""
        return scores_of(self.logits(examples, batch), self.layout)

    def score_as_shown(self, examples: Examples) -> NDArray[np.float64] | None:
        """The same of impressions [N] as they were shown, by a model that knows positions; None of one that does not,
        or where no position is known. It predicts labels better, and orders nothing."""
        rows, term = position_rows(examples), self.position_term
        if not term.knows or not rows.any():
            return None
        return scores_of(self._of_network(examples) + term.of(tensor(rows)), self.layout)

    def logits(self, examples: Examples, batch: int = 2048) -> Tensor:
        """Log-odds [N, kinds] of each feedback kind, all rows as at the average position."""
        return self._of_network(examples, batch) + self.position_term.fixed

    def logits_as_shown(self, examples: Examples) -> Tensor:
        """The same where each row was shown."""
        return self._of_network(examples) + self.position_term.of(tensor(position_rows(examples)))

    def _of_network(self, examples: Examples, batch: int = 2048) -> Tensor:
        """Logits [N, kinds] without the position term."""
        examples = self.own(examples)
        if not len(examples):
            return torch.zeros(0, len(self.layout.kinds))
        with one_thread(), torch.inference_mode():
            return torch.cat([self.network(*inputs) for inputs in self._inputs(examples, batch)])

    def _inputs(self, examples: Examples, batch: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """What the network is given of them, a batch at a time."""
        working = gather(self, examples)
        columns = [tensor(a) for a in (examples.dense, working.ids, working.history)]
        table = tensor(working.weights)
        for first in range(0, len(examples), batch):
            dense, ids, history = (column[first : first + batch] for column in columns)
            yield dense, ids, history, table

    def posterior_after(self, examples: Examples, batch: int = 2048) -> Posterior | None:
        """Its posterior after an update on ``examples``; None where it has none."""
        if self.posterior is None or not len(examples):
            return self.posterior
        known, term = torch.isfinite(tensor(self.own(examples).of_kinds)).float(), self.position_term.fixed
        with one_thread(), torch.inference_mode():
            return self.posterior.updated(
                (last_hidden(self.network, *inputs), self.network(*inputs) + term, known[first : first + batch])
                for first, inputs in zip(
                    range(0, len(examples), batch), self._inputs(self.own(examples), batch), strict=True
                )
            )


def of_network(layout: Layout, design: Design) -> Layout:
    """What the network reads: the columns of a layout and, where texts are read, the numbers made of them."""
    if design.text is None:
        return layout
    return replace(layout, dense=(*layout.dense, *design.text.columns), meanings=())


def scores_of(logits: Tensor, layout: Layout) -> NDArray[np.float64]:
    """The scores [N] of logits [N, kinds]."""
    scores: NDArray[np.float64] = torch.sigmoid(logits.double()).cpu().numpy() @ layout.shares
    return scores


def gather(model: Model, examples: Examples, *, counted: NDArray[np.bool_] | None = None) -> WorkingSet:
    """The rows that ``examples`` use. To train on them give the rows [N] whose ids count as shown once more."""
    network, width = model.network, row_width(model.layout, model.design.shape)
    state_width = row_optimiser(model.design.shape).state_width(width)
    now = None if counted is None or not counted.any() else float(examples.time[counted].max())
    columns = with_crosses(model.layout, model.design.shape, examples)
    ids, history = np.zeros(columns.shape, np.int64), np.zeros((len(examples), 0), np.int64)
    weights, state = [np.zeros((1, width), np.float32)], [np.zeros((1, state_width), np.float32)]
    gathered, first = list[Gathered | None](), 1
    for k, (name, table) in enumerate(zip(model.table_names, model.tables, strict=True)):
        if k not in network.columns:
            gathered.append(None)
            continue
        shared = network.reads_history and name == model.layout.history_of
        window = WindowIds.of(columns[:, k], examples.history if shared else None)
        own = table.gather(window.ids, None if counted is None else window.counts(counted), now)
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
    new_weights, new_state = weights.detach().cpu().numpy(), state.cpu().numpy()
    updated, first = [], 1
    for table, own in zip(model.tables, working.gathered, strict=True):
        if own is None:
            updated.append(table)
            continue
        rows = slice(first, first + len(own.weights))
        updated.append(table.put(own, new_weights[rows], new_state[rows]))
        first = rows.stop
    return tuple(updated)
