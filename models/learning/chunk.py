"""One chunk of a window: some batches, trained on a compact table of just the rows that they use.

The rows are gathered from the tables with their optimiser state, updated batch by batch on the device
(:mod:`models.learning.step`), and scattered back: the cost follows the chunk, not the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.examples import Examples, Layout, concat
from models.learning.model import Model, WorkingSet, gather, scatter, scores_of
from models.learning.optimisers import row_optimiser
from models.learning.options.distillation import distilled
from models.learning.options.replay import ReplaySampler
from models.learning.position import position_rows
from models.learning.step import Batch, BatchSize, Stepper
from models.networks.rankers import Ranker
from models.tables.rows import Ids
from models.tensors import tensor


@dataclass(frozen=True, eq=False)
class Chunk:
    """The outcome of training on some batches, of n rows."""

    predicted: NDArray[np.float64]
    """[n], the score of each row just before it was trained on, by the network that would have served it."""

    as_shown: NDArray[np.float64]
    """[n], the same where each row was shown."""

    by_latest: NDArray[np.float64]
    """[n], as shown too, by the latest weights, whether or not their average is what would have served."""

    batches: int
    """Trained on: all, or those that the time was enough for."""

    changed: tuple[Ids, ...]
    """Ids whose rows may have changed, by table, ascending."""

    admitted: tuple[Ids, ...]
    """Ids that got a row of their own, by table."""


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """The rows of a chunk in order, each batch's own first and then those replayed with it."""

    examples: Examples
    own: NDArray[np.bool_]
    """[n]; False for a replayed row."""

    sizes: tuple[int, ...]
    """Rows of each batch, the replayed ones too."""

    @staticmethod
    def of(examples: Examples, batches: Sequence[slice], replay: ReplaySampler | None) -> TrainingRows:
        parts = [examples[batch] for batch in batches]
        if replay is None:
            return TrainingRows(concat(parts), np.ones(sum(map(len, parts)), np.bool_), tuple(map(len, parts)))
        beside = [replay.beside(part) for part in parts]
        mixed = [rows for pair in zip(parts, beside, strict=True) for rows in pair]
        own = np.tile([True, False], len(parts)).repeat([len(rows) for rows in mixed])
        return TrainingRows(concat(mixed), own, tuple(len(a) + len(b) for a, b in zip(parts, beside, strict=True)))


def train(
    model: Model,
    examples: Examples,
    batches: Sequence[slice],
    *,
    start: Model,
    shares: Sequence[float],
    replay: ReplaySampler | None,
    device: torch.device,
    out_of_time: Callable[[], bool],
) -> tuple[Model, Chunk]:
    """The model after a gradient step on each of these batches of ``examples``.

    ``start``: the model that the update started from; ``shares``: of the learning rates, for each batch.
    """
    rows = TrainingRows.of(examples, batches, replay)
    working = gather(model, rows.examples, counted=rows.own)
    stepper = Stepper(
        deepcopy(model.latest),
        tensor(working.weights),
        tensor(initial_state(model, working)),
        {**model.moments, **({} if model.latest is model.network else averages(model.network))},
        model.design,
        device,
        model.steps,
    )
    whole = batch_of(start, rows.examples, working, model.design.learning.distillation).to(device)
    serving = None if stepper.average is None else with_weights(stepper.network, stepper.average)
    predicted, as_shown, by_latest, done, first = list[Tensor](), list[Tensor](), list[Tensor](), 0, 0
    for count, batch, share in zip(rows.sizes, batches, shares, strict=True):
        if out_of_time():
            break
        mixed = whole[first : first + count]
        own = mixed[: batch.stop - batch.start]
        of_position = stepper.position.of(own.position)
        moved = stepper.position.fixed - of_position
        if serving is not None:
            with torch.no_grad():
                as_shown.append(serving(own.dense, own.ids, own.history, stepper.table) + of_position)
        size = BatchSize.of(len(own), stepper.information, model.design.learning)
        by_latest.append(stepper.step(mixed, share, size)[: len(own)])
        if serving is None:
            as_shown.append(by_latest[-1])
        predicted.append(as_shown[-1] + moved)
        done += 1
        first += count

    latest, weights, state, moments = stepper.finish()
    network = latest
    if serving is not None:
        network = deepcopy(latest)
        for name, parameter in network.named_parameters():
            parameter.data = moments.pop(f"{name}.average")
    tables = scatter(model, working, weights, state)
    tuned = Model(
        *(model.layout, model.design, network, tables, moments, model.steps + done, latest),
        reservoir=model.reservoir,
        posterior=model.posterior,
        text=model.text,
    )
    none = np.zeros(0, np.int64)
    return tuned, Chunk(
        scores(predicted, model.layout),
        scores(as_shown, model.layout),
        scores(by_latest, model.layout),
        done,
        tuple(none if own is None else own.ids for own in working.gathered),
        tuple(none if own is None else own.admitted for own in working.gathered),
    )


def scores(logits: list[Tensor], layout: Layout) -> NDArray[np.float64]:
    """Of the batches' logits, one after the other."""
    return scores_of(torch.cat(logits), layout) if logits else np.zeros(0)


def batch_of(start: Model, examples: Examples, working: WorkingSet, distillation: float) -> Batch:
    """All rows of a chunk as tensors."""
    label = tensor(examples.of_kinds)
    known = torch.isfinite(label)
    target, weight = torch.where(known, label, 0), known.float()
    if distillation and start.steps:  # a new model is no teacher
        target, weight = distilled(target, weight, torch.sigmoid(start.logits_as_shown(examples)), distillation)
    rows = tensor(position_rows(examples))
    return Batch(tensor(examples.dense), tensor(working.ids), tensor(working.history), target, weight, rows)


def initial_state(model: Model, working: WorkingSet) -> NDArray[np.float32]:
    """The rows' state, with what the optimiser needs of those that have just got their first weights."""
    begin = row_optimiser(model.design.shape).begin
    if begin is not None:
        fresh = np.concatenate([[False], *(own.fresh for own in working.gathered if own is not None)])
        state = working.state[fresh]
        begin(tensor(working.weights[fresh]), tensor(state))
        working.state[fresh] = state
    return working.state


def averages(network: Ranker) -> dict[str, Tensor]:
    """The weights of a network that is an average, as the stepper names them."""
    return {f"{name}.average": parameter.data for name, parameter in network.named_parameters()}


def with_weights(network: Ranker, weights: Tensor) -> Ranker:
    """The network with other weights, a flat vector [n] shared with who updates it; so is the linear part."""
    other, at = deepcopy(network), 0
    other.ridge = network.ridge
    for parameter in other.parameters():
        parameter.data = weights[at : at + parameter.numel()].view(parameter.shape)
        at += parameter.numel()
    return other
