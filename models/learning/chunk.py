"""One stretch of a window: some batches, learned on a compact table of just the rows that they use.

The rows are gathered from the tables with their optimiser state, moved batch by batch on the device
(:mod:`models.learning.step`), and put back: the cost follows the stretch, not the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.examples import Examples, concat
from models.learning.losses import loss_of, with_teacher
from models.learning.model import Model, WorkingSet, gather, scatter, tensor
from models.learning.optimisers import ROW_OPTIMISERS
from models.learning.replay import Reservoir
from models.learning.step import Batch, Stepper
from models.networks.rankers import Ranker
from models.tables.id_table import Ids


@dataclass(frozen=True, eq=False)
class Stretch:
    """What was seen while some batches were learned from."""

    predicted: NDArray[np.float64]
    """[n], the probability of each row just before it was learned from, by the network that would have served it."""

    by_latest: NDArray[np.float64]
    """[n], the same by the latest weights, whether or not their average is what would have served."""

    batches: Sequence[slice]
    """Rows of the window, in the order learned; n rows in all."""

    moved: tuple[Ids, ...]
    """Ids whose rows may have moved, by table, ascending."""

    newcomers: tuple[Ids, ...]
    """Ids admitted, by table."""

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *(np.arange(b.start, b.stop) for b in self.batches)])


@dataclass(frozen=True, eq=False)
class Lesson:
    """The rows of a stretch in the order learned, each batch's own first and then those replayed with it."""

    examples: Examples
    own: NDArray[np.bool_]
    """[n]; False for a replayed row."""

    sizes: tuple[int, ...]
    """Rows of each batch, the replayed ones too."""


class Again:
    """Deals out the requests of a reservoir in a drawn order, all of them before any comes again."""

    def __init__(self, reservoir: Reservoir, share: float, draw: np.random.Generator) -> None:
        self.reservoir, self.share, self.draw = reservoir, share, draw
        self.deck = np.zeros(0, np.int64)

    def beside(self, batch: Examples) -> Examples:
        """Rows to learn again with this batch: ``share`` requests for each of its own."""
        wanted = round(self.share * (len(batch.batch_starts(1)) - 1)) if len(self.reservoir) else 0
        while len(self.deck) < wanted:
            self.deck = np.concatenate([self.deck, self.draw.permutation(len(self.reservoir))])
        dealt, self.deck = self.deck[:wanted], self.deck[wanted:]
        rows = self.reservoir.examples[self.reservoir.rows(dealt)]
        # No code of the batch's, so that no two requests run together.
        label = rows.label.reshape(len(rows), *batch.label.shape[1:])
        return replace(rows, request=batch.request.min() - 1 - rows.request, label=label)


def lesson(examples: Examples, batches: Sequence[slice], again: Again | None) -> Lesson:
    """The batches' rows, one after the other, with those to learn again."""
    parts = [examples[batch] for batch in batches]
    if again is None:
        return Lesson(concat(parts), np.ones(sum(map(len, parts)), np.bool_), tuple(map(len, parts)))
    beside = [again.beside(part) for part in parts]
    mixed = [rows for pair in zip(parts, beside, strict=True) for rows in pair]
    own = np.tile([True, False], len(parts)).repeat([len(rows) for rows in mixed])
    return Lesson(concat(mixed), own, tuple(len(a) + len(b) for a, b in zip(parts, beside, strict=True)))


def learn(
    model: Model,
    examples: Examples,
    batches: Sequence[slice],
    *,
    start: Model,
    count: bool,
    shares: Sequence[float],
    again: Again | None,
    device: torch.device,
    out_of_time: Callable[[], bool],
) -> tuple[Model, Stretch]:
    """The model after a gradient step on each of these batches of ``examples``.

    ``start``: the model that the update started from; ``count``: whether the ids count as seen once more; ``shares``:
    of the rates, for each batch.
    """
    design, taught = model.design, lesson(examples, batches, again)
    if not start.steps:
        # A model that knows nothing yet is no teacher, and nothing to stay near to.
        design = replace(design, distil=0.0, proximal=0.0)
    working = gather(model, taught.examples, counted=taught.own & count)
    weights, state = tensor(working.weights), tensor(begun(model, working))
    whole = batch_of(start, taught.examples, working, design.distil).to(device)
    stepper = Stepper(
        deepcopy(model.latest),
        weights,
        state,
        {**model.moments, **({} if model.latest is model.network else averages(model.network))},
        design,
        loss_of(design),
        device,
        model.steps,
        start=(start.latest, tensor(rows_then(start, working))) if design.proximal else None,
    )
    serving = None if stepper.average is None else seen_through(stepper.network, stepper.average)
    predicted, by_latest, taken, first = list[Tensor](), list[Tensor](), 0, 0
    for size, own, share in zip(taught.sizes, batches, shares, strict=True):
        if out_of_time():
            break
        batch = whole[first : first + size]
        asked = batch[: own.stop - own.start]
        if serving is not None:
            with torch.no_grad():
                predicted.append(serving(asked.dense, asked.ids, asked.history, stepper.table)[:, 0])
        part = (1 + np.count_nonzero(np.diff(examples.request[own]))) / design.batch_requests
        by_latest.append(stepper.step(batch, share, part)[: len(asked), 0])
        taken += 1
        first += size

    latest, weights, state, moments = stepper.finish()
    network = latest
    if design.averaging:
        network = deepcopy(latest)
        for name, parameter in network.named_parameters():
            parameter.data = moments.pop(f"{name}.average")
    tables = scatter(model, working, weights, state)
    tuned = Model(model.layout, model.design, network, tables, moments, model.steps + taken, latest, model.reservoir)
    none = np.zeros(0, np.int64)
    return tuned, Stretch(
        probabilities(predicted or by_latest),
        probabilities(by_latest),
        batches[:taken],
        tuple(none if own is None else own.ids for own in working.gathered),
        tuple(none if own is None else own.newcomers for own in working.gathered),
    )


def probabilities(logits: list[Tensor]) -> NDArray[np.float64]:
    """Of the batches' logits, one after the other."""
    return torch.sigmoid(torch.cat(logits).double()).cpu().numpy() if logits else np.zeros(0)


def batch_of(start: Model, examples: Examples, working: WorkingSet, distil: float) -> Batch:
    """All rows of a lesson as tensors, what they teach mixed with what ``start`` thinks of them."""
    label = tensor(examples.label).reshape(len(examples), -1)
    known = torch.isfinite(label)
    target, weight = torch.where(known, label, 0), known.float()
    if distil:
        target, weight = with_teacher(target, weight, torch.sigmoid(start.logits(examples)), distil)
    ids, history = tensor(working.ids), tensor(working.history)
    return Batch(tensor(examples.dense), ids, history, target, weight, tensor(examples.request))


def begun(model: Model, working: WorkingSet) -> NDArray[np.float32]:
    """The rows' state, with what the optimiser keeps of those that have just got their first weights."""
    fresh = np.concatenate([[False], *(own.fresh for own in working.gathered if own is not None)])
    state = working.state[fresh]
    ROW_OPTIMISERS[model.design.table_optimiser].begin(working.weights[fresh], state, model.design)
    working.state[fresh] = state
    return working.state


def rows_then(start: Model, working: WorkingSet) -> NDArray[np.float32]:
    """[R, kinds + E]: the working set's rows as they are in ``start``."""
    then = [working.weights[:1]]
    for table, own in zip(start.tables, working.gathered, strict=True):
        if own is not None:
            then += [table.shared.weights, table.rows_of(own.ids[own.row >= table.buckets])]
    return np.concatenate(then)


def averages(network: Ranker) -> dict[str, Tensor]:
    """The weights of a network that is an average, as the stepper names them."""
    return {f"{name}.average": parameter.data for name, parameter in network.named_parameters()}


def seen_through(network: Ranker, weights: Tensor) -> Ranker:
    """The network with other weights, a flat vector [n] that may go on moving under it; so does the linear part."""
    other, at = deepcopy(network), 0
    other.ridge = network.ridge
    for parameter in other.parameters():
        parameter.data = weights[at : at + parameter.numel()].view(parameter.shape)
        at += parameter.numel()
    return other
