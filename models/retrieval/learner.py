"""How two towers learn from a window: its clicks in order, in batches, each against the others' items and some drawn.

The rows that a stretch of batches uses are gathered into one compact table, trained there and put back, as
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
from models.learning.model import one_thread, tensor
from models.learning.optimisers import At, adagrad, adam
from models.retrieval.recent_clicks import Lately
from models.retrieval.towers import MOMENTS, Towers, as_found, as_history
from models.tables.id_table import Floats, Gathered, Ids, IdTable

LEAST_CHANCE = 1e-3
"""Below this an item's chance is not believed: its correction would shout down the rest."""


@dataclass(frozen=True, eq=False)
class Learned:
    """What one call of :func:`fine_tune` did."""

    clicks: int
    """Clicks learned from."""

    steps: int
    """Batches."""

    loss: float
    """Mean cross-entropy of the corrected softmax, each click before it was learned from; NaN when there was none."""

    items: int
    """Items alive after the window."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Clicks [B] and the items [M] that each could have been on."""

    rows: slice
    """Of the window's clicks."""

    ids: Ids
    """[M], ascending: the batch's own items and those drawn."""

    attributes: Ids
    """[M, A]."""

    popularity: Floats
    """[M, H]; logarithms of the shares just before the batch."""

    chance: Floats
    """[M]; logarithm of each item's chance to be among these."""

    target: NDArray[np.int64]
    """[B]; the place of the clicked item among them."""

    told: Ids
    """[B, L, A]; attributes of the users' last items."""


def fine_tune(towers: Towers, examples: Examples, *, seed: int, device: str | None = None) -> tuple[Towers, Learned]:
    """The towers after learning from the clicks among ``examples``, in their order. ``towers`` stay as they were.

    ``device`` is named as torch does; by default it is a GPU where there is one.
    """
    examples.expect(towers.layout)
    label = examples.label if examples.label.ndim == 1 else examples.label[:, 0]
    item = examples.ids[:, towers.layout.ids.index(towers.layout.history_of)]
    rows = np.flatnonzero((label > 0) & (item != EMPTY))
    clicks = examples[rows[np.argsort(examples.time[rows], kind="stable")]]
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    draw = np.random.default_rng([seed, towers.steps])
    tuned, losses = towers, list[float]()
    with one_thread():
        for batches, lately in stretches(towers, clicks, draw):
            tuned, loss = learn(tuned, clicks, batches, lately, place)
            losses += loss
    sizes = np.diff([*range(0, len(clicks), towers.design.batch), len(clicks)])
    mean = float(np.average(losses, weights=sizes)) if losses else float("nan")
    return tuned, Learned(len(clicks), len(losses), mean, len(tuned.lately))


def stretches(towers: Towers, clicks: Examples, draw: np.random.Generator) -> Iterator[tuple[list[Batch], Lately]]:
    """Batches in order, some at a time, and what was clicked lately after them."""
    design, lately = towers.design, towers.lately
    item, attributes = item_columns(towers, clicks)
    batches = list[Batch]()
    for start in range(0, len(clicks), design.batch):
        rows = slice(start, min(start + design.batch, len(clicks)))
        now = float(clicks.time[start])
        batches.append(against(lately.as_of(now), now, towers, clicks, rows, draw))
        lately = lately.see(item[rows], clicks.time[rows], attributes[rows])
        if len(batches) == design.stretch or rows.stop == len(clicks):
            yield batches, lately
            batches = []


def item_columns(towers: Towers, clicks: Examples) -> tuple[Ids, Ids]:
    """The items [N] and their attributes [N, A]."""
    layout = towers.layout
    columns = [layout.ids.index(name) for name in towers.design.attributes]
    return clicks.ids[:, layout.ids.index(layout.history_of)], clicks.ids[:, columns]


def against(
    lately: Lately, now: float, towers: Towers, clicks: Examples, rows: slice, draw: np.random.Generator
) -> Batch:
    """A batch with its negatives, by what was known before it."""
    item, attributes = item_columns(towers, clicks)
    own, first, target = np.unique(item[rows], return_index=True, return_inverse=True)
    count = min(towers.design.negatives, len(lately))
    ids = np.union1d(own, lately.ids[draw.choice(len(lately), count, replace=False)]) if count else own
    place = ids.searchsorted(own)
    told = lately.attributes_of(ids)
    told[place] = attributes[rows][first]
    shares = lately.shares_of(ids, now)
    # Among the batch's clicks, or drawn; the shortest half-life comes nearest to what this batch holds.
    missed = (1 - shares[:, 0]) ** (rows.stop - rows.start)
    missed *= np.where(lately.find(ids)[1], 1 - count / max(1, len(lately)), 1)
    return Batch(
        rows=rows,
        ids=ids,
        attributes=told,
        popularity=np.log(shares).astype(np.float32),
        chance=np.log(np.maximum(1 - missed, LEAST_CHANCE)).astype(np.float32),
        target=place[target],
        told=lately.attributes_of(clicks.history[rows]),
    )


def learn(
    towers: Towers, clicks: Examples, batches: list[Batch], lately: Lately, device: torch.device
) -> tuple[Towers, list[float]]:
    """The towers after a gradient step on each of these batches, and each batch's loss before its step."""
    design, layout = towers.design, towers.layout
    working = WorkingSet.gather(towers, clicks, batches)
    network = deepcopy(towers.network).to(device)
    table = tensor(working.weights).to(device).requires_grad_()
    squares = tensor(working.state).to(device)
    moments = {name: moment.to(device, copy=True) for name, moment in towers.moments.items()}

    def embedded(names: tuple[str, ...], columns: list[Ids]) -> list[Tensor]:
        """The rows of ids [...], of one table each: [..., E]."""
        rows = [tensor(working.rows_of(name, ids)).to(device) for name, ids in zip(names, columns, strict=True)]
        return [functional.embedding(row, table) for row in rows]

    items = (layout.history_of, *design.attributes)
    losses = list[Tensor]()
    for batch in batches:
        history = clicks.history[batch.rows]
        told = [batch.told[..., k] for k in range(len(design.attributes))]
        h = sum_of(embedded(tuple(map(as_history, items)), [history, *told]))
        context = [clicks.ids[batch.rows, layout.ids.index(name)] for name in design.context]
        c = embedded(design.context, context)
        joined = torch.stack(c, dim=1) if c else h.new_zeros((len(h), 0, h.shape[-1]))
        users = network(h, tensor(history != EMPTY).to(device), joined)
        v = sum_of(embedded(tuple(map(as_found, items)), [batch.ids, *batch.attributes.T]))
        rows = torch.cat([v, tensor(batch.popularity).to(device)], dim=1)
        logit = users @ rows.T - tensor(batch.chance).to(device)
        loss = functional.cross_entropy(logit, tensor(batch.target).to(device))
        slope, *slopes = torch.autograd.grad(loss, [table, *network.parameters()])
        with torch.no_grad():
            # Row 0 is that of EMPTY and stays zero; a row without a gradient does not move.
            adagrad(table[1:], squares[1:], slope[1:], design.table_rate)
            at = At(steps=towers.steps + len(losses) + 1)
            for (name, parameter), own in zip(network.named_parameters(), slopes, strict=True):
                of_parameter = {moment: moments[f"{name}.{moment}"] for moment in MOMENTS}
                adam(parameter, of_parameter, own, design.rate, design.weight_decay, at)
        losses.append(loss.detach())
    tables = working.scatter(towers.tables, table.detach().cpu().numpy(), squares.cpu().numpy())
    steps = towers.steps + len(batches)
    kept = {name: moment.cpu() for name, moment in moments.items()}
    tuned = Towers(layout, design, network.cpu(), tables, lately, kept, steps)
    return tuned, [float(loss) for loss in losses]


def sum_of(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


@dataclass(frozen=True, eq=False)
class WorkingSet:
    """The rows of all tables that a stretch uses, in one compact table."""

    weights: Floats
    """[R, E]; row 0 is that of ``EMPTY``, all zeros."""

    state: Floats
    gathered: Mapping[str, Gathered]
    first: Mapping[str, int]
    """Row at which each table's begin."""

    @staticmethod
    def gather(towers: Towers, clicks: Examples, batches: list[Batch]) -> WorkingSet:
        """The rows of these batches. A click counts its own ids as seen, and the last item of its history."""
        layout, design = towers.layout, towers.design
        rows = slice(batches[0].rows.start, batches[-1].rows.stop)
        item, attributes = item_columns(towers, clicks[rows])
        told = np.concatenate([batch.told for batch in batches])
        history = clicks.history[rows]
        used: dict[str, tuple[Ids, Ids]] = {}  # by table: ids that are seen, and others that are used
        offered = np.concatenate([batch.ids for batch in batches])
        offered_attributes = np.concatenate([batch.attributes for batch in batches])
        used[as_found(layout.history_of)] = item, offered
        used[as_history(layout.history_of)] = history[:, 0], history.ravel()
        for k, name in enumerate(design.attributes):
            used[as_found(name)] = attributes[:, k], offered_attributes[:, k]
            used[as_history(name)] = told[:, 0, k], told[..., k].ravel()
        for name in design.context:
            used[name] = clicks.ids[rows, layout.ids.index(name)], np.zeros(0, np.int64)
        gathered, now = dict[str, Gathered](), float(clicks.time[rows][-1])
        for name, (seen, others) in used.items():
            ids, place = np.unique(np.concatenate([seen, others]), return_inverse=True)
            count = np.bincount(place[: len(seen)], minlength=len(ids))
            real = ids != EMPTY
            gathered[name] = towers.tables[name].gather(ids[real], count[real], now)
        sizes = [len(own.weights) for own in gathered.values()]
        first = dict(zip(gathered, np.cumsum([1, *sizes[:-1]]).tolist(), strict=True))
        nothing = np.zeros((1, design.embedding), np.float32)
        return WorkingSet(
            np.concatenate([nothing, *(own.weights for own in gathered.values())]),
            np.concatenate([nothing, *(own.state for own in gathered.values())]),
            gathered,
            first,
        )

    def rows_of(self, table: str, ids: Ids) -> NDArray[np.int64]:
        """Rows of ``weights`` [...], for ids [...] that the stretch uses."""
        own = self.gathered[table]
        rows = np.concatenate([self.first[table] + own.row, [0]])
        return np.where(ids == EMPTY, 0, rows[own.ids.searchsorted(ids)])

    def scatter(self, tables: Mapping[str, IdTable], weights: Floats, state: Floats) -> dict[str, IdTable]:
        """The tables with these rows as they became."""

        def moved(name: str) -> IdTable:
            own = self.gathered[name]
            rows = slice(self.first[name], self.first[name] + len(own.weights))
            return tables[name].put(own, weights[rows], state[rows])

        return {name: moved(name) for name in tables}
