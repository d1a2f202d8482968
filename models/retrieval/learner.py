"""Training two towers on a window: its clicks in order, in batches, each against the others' items and sampled ones.

The rows that a chunk of batches uses are gathered into one compact table, trained there and scattered back, as
:mod:`models.learning.learner` does it: the cost follows the window. On a CPU the same towers, clicks and seed give the
same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.examples import EMPTY, Examples
from models.learning.optimisers import OptimiserStep, adagrad, adamw
from models.retrieval.recent_clicks import RecentClicks
from models.retrieval.sampling import SampledBatch, item_columns, sampled
from models.retrieval.towers import MOMENTS, Towers, as_history, as_target
from models.tables.id_table import IdTable
from models.tables.rows import Floats, Gathered, Ids
from models.tensors import one_thread, tensor


@dataclass(frozen=True, eq=False)
class TowerTrainingResult:
    """What one call of :func:`fine_tune` did."""

    clicks: int
    """Clicks trained on."""

    steps: int
    """Batches."""

    loss: float
    """Mean cross-entropy of the corrected softmax, each click before it was trained on; NaN when there was none."""

    items: int
    """Items alive after the window."""


def fine_tune(
    towers: Towers, examples: Examples, *, seed: int, device: str | None = None
) -> tuple[Towers, TowerTrainingResult]:
    """The towers after training on the clicks among ``examples``, in their order. ``towers`` stay as they were.

    ``device`` is named as torch does; by default it is a GPU where there is one.
    """
    examples.expect(towers.layout)
    label = examples.label
    item = examples.ids[:, towers.layout.ids.index(towers.layout.history_of)]
    rows = np.flatnonzero((label > 0) & (item != EMPTY))
    clicks = examples[rows[np.argsort(examples.time[rows], kind="stable")]]
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    random = np.random.default_rng([seed, towers.steps])
    tuned, losses = towers, list[float]()
    with one_thread():
        for batches, recent_clicks in chunks(towers, clicks, random):
            tuned, loss = train(tuned, clicks, batches, recent_clicks, on)
            losses += loss
    sizes = np.diff([*range(0, len(clicks), towers.design.batch), len(clicks)])
    mean = float(np.average(losses, weights=sizes)) if losses else float("nan")
    return tuned, TowerTrainingResult(len(clicks), len(losses), mean, len(tuned.recent_clicks))


def chunks(
    towers: Towers, clicks: Examples, random: np.random.Generator
) -> Iterator[tuple[list[SampledBatch], RecentClicks]]:
    """Batches in order, a chunk at a time, and the recent clicks after it."""
    design, recent_clicks = towers.design, towers.recent_clicks
    item, attributes = item_columns(towers, clicks)
    batches = list[SampledBatch]()
    for start in range(0, len(clicks), design.batch):
        rows = slice(start, min(start + design.batch, len(clicks)))
        now = float(clicks.time[start])
        batches.append(sampled(recent_clicks.as_of(now), now, towers, clicks, rows, random))
        recent_clicks = recent_clicks.updated(item[rows], clicks.time[rows], attributes[rows])
        if len(batches) == design.chunk_batches or rows.stop == len(clicks):
            yield batches, recent_clicks
            batches = []


def train(
    towers: Towers, clicks: Examples, batches: list[SampledBatch], recent_clicks: RecentClicks, device: torch.device
) -> tuple[Towers, list[float]]:
    """The towers after a gradient step on each of these batches, and each batch's loss before its step."""
    design, layout = towers.design, towers.layout
    rows = TowerRows.gather(towers, clicks, batches)
    network = deepcopy(towers.network).to(device)
    table = tensor(rows.weights).to(device).requires_grad_()
    squares = tensor(rows.state).to(device)
    moments = {name: moment.to(device, copy=True) for name, moment in towers.moments.items()}

    def embedded(names: tuple[str, ...], columns: list[Ids]) -> list[Tensor]:
        """The rows of ids [...], of one table each: [..., E]."""
        indices = [tensor(rows.indices(name, ids)).to(device) for name, ids in zip(names, columns, strict=True)]
        return [functional.embedding(index, table) for index in indices]

    items = (layout.history_of, *design.attributes)
    losses = list[Tensor]()
    for batch in batches:
        history = clicks.history[batch.rows]
        of_history = [batch.history_attributes[..., k] for k in range(len(design.attributes))]
        h = sum_of(embedded(tuple(map(as_history, items)), [history, *of_history]))
        context = [clicks.ids[batch.rows, layout.ids.index(name)] for name in design.context]
        c = embedded(design.context, context)
        joined = torch.stack(c, dim=1) if c else h.new_zeros((len(h), 0, h.shape[-1]))
        users = network(h, tensor(history != EMPTY).to(device), joined)
        v = sum_of(embedded(tuple(map(as_target, items)), [batch.ids, *batch.attributes.T]))
        items_and_popularity = torch.cat([v, tensor(batch.popularity).to(device)], dim=1)
        logit = users @ items_and_popularity.T - tensor(batch.log_q).to(device)
        loss = functional.cross_entropy(logit, tensor(batch.target).to(device))
        of_table, *of_network = torch.autograd.grad(loss, [table, *network.parameters()])
        with torch.no_grad():
            # Row 0 is that of EMPTY and stays zero; a row without a gradient does not change.
            adagrad(table[1:], squares[1:], of_table[1:], OptimiserStep(design.table_rate))
            step = OptimiserStep(design.rate, design.weight_decay, towers.steps + len(losses) + 1)
            for (name, parameter), gradient in zip(network.named_parameters(), of_network, strict=True):
                adamw(parameter, {moment: moments[f"{name}.{moment}"] for moment in MOMENTS}, gradient, step)
        losses.append(loss.detach())
    tables = rows.scatter(towers.tables, table.detach().cpu().numpy(), squares.cpu().numpy())
    steps = towers.steps + len(batches)
    on_cpu = {name: moment.cpu() for name, moment in moments.items()}
    tuned = Towers(layout, design, network.cpu(), tables, recent_clicks, on_cpu, steps)
    return tuned, [float(loss) for loss in losses]


def sum_of(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


@dataclass(frozen=True, eq=False)
class TowerRows:
    """The rows of all tables that a chunk uses, in one compact table."""

    weights: Floats
    """[R, E]; row 0 is that of ``EMPTY``, all zeros."""

    state: Floats
    gathered: Mapping[str, Gathered]
    first: Mapping[str, int]
    """Row at which each table's begin."""

    @staticmethod
    def gather(towers: Towers, clicks: Examples, batches: list[SampledBatch]) -> TowerRows:
        """The rows of these batches. A click counts for its own ids, and for the last item of its history."""
        layout, design = towers.layout, towers.design
        rows = slice(batches[0].rows.start, batches[-1].rows.stop)
        item, attributes = item_columns(towers, clicks[rows])
        of_history = np.concatenate([batch.history_attributes for batch in batches])
        history = clicks.history[rows]
        used: dict[str, tuple[Ids, Ids]] = {}  # by table: ids that are counted, and others that are used
        candidates = np.concatenate([batch.ids for batch in batches])
        of_candidates = np.concatenate([batch.attributes for batch in batches])
        used[as_target(layout.history_of)] = item, candidates
        used[as_history(layout.history_of)] = history[:, 0], history.ravel()
        for k, name in enumerate(design.attributes):
            used[as_target(name)] = attributes[:, k], of_candidates[:, k]
            used[as_history(name)] = of_history[:, 0, k], of_history[..., k].ravel()
        for name in design.context:
            used[name] = clicks.ids[rows, layout.ids.index(name)], np.zeros(0, np.int64)
        gathered, now = dict[str, Gathered](), float(clicks.time[rows][-1])
        for name, (counted, others) in used.items():
            ids, place = np.unique(np.concatenate([counted, others]), return_inverse=True)
            counts = np.bincount(place[: len(counted)], minlength=len(ids))
            real = ids != EMPTY
            gathered[name] = towers.tables[name].gather(ids[real], counts[real], now)
        sizes = [len(own.weights) for own in gathered.values()]
        first = dict(zip(gathered, np.cumsum([1, *sizes[:-1]]).tolist(), strict=True))
        empty = np.zeros((1, design.embedding), np.float32)
        return TowerRows(
            np.concatenate([empty, *(own.weights for own in gathered.values())]),
            np.concatenate([empty, *(own.state for own in gathered.values())]),
            gathered,
            first,
        )

    def indices(self, table: str, ids: Ids) -> NDArray[np.int64]:
        """Rows of ``weights`` [...], for ids [...] that the chunk uses."""
        own = self.gathered[table]
        rows = np.concatenate([self.first[table] + own.row, [0]])
        return np.where(ids == EMPTY, 0, rows[own.ids.searchsorted(ids)])

    def scatter(self, tables: Mapping[str, IdTable], weights: Floats, state: Floats) -> dict[str, IdTable]:
        """The tables with these rows as they became."""

        def updated(name: str) -> IdTable:
            own = self.gathered[name]
            rows = slice(self.first[name], self.first[name] + len(own.weights))
            return tables[name].put(own, weights[rows], state[rows])

        return {name: updated(name) for name in tables}
