"""The incremental learner: a model is fine-tuned on a window of impressions and becomes its own challenger.

    model = Model.new(layout, Design(), seed=0)
    model, result = fine_tune(model, first_day, seed=0, clock=time.monotonic)
    for hour in hours:
        probabilities = model.score(hour)                                         # test ...
        model, result = fine_tune(model, hour, seed=0, clock=time.monotonic)      # ... then train

A window is trained on in chunks of some batches (:mod:`models.learning.chunk`), each on the rows that it uses alone:
the cost follows the window, not the tables. On a CPU the same model, examples and seed give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.examples import EMPTY, Examples
from models.learning.chunk import Chunk, train
from models.learning.design import Learning
from models.learning.model import Model
from models.learning.options.replay import ReplaySampler
from models.learning.position import position_rows
from models.metrics import log_loss, paired_difference
from models.networks.crosses import with_crosses
from models.tables.id_table import IdTable
from models.tables.rows import Ids
from models.tensors import one_thread, tensor

FIRST_BATCH, GROWS_EVERY = 1, 4
"""Requests of a model's first batch, and steps after which the next ones have a request more."""


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What one call of :func:`fine_tune` did."""

    steps: int
    """Batches trained on."""

    examples: int
    """Impressions trained on: the earlier part of the window where training stopped short."""

    seconds: float

    stopped: Literal["done", "early", "time"]

    log_loss: float
    """Mean log loss, each impression predicted as it was shown just before it was trained on (progressive
    validation: Blum et al. 1999). NaN when none was."""

    predicted: NDArray[np.float64]
    """[N], the score of each impression just before it was trained on, by the weights that would have served then:
    their average where there is one. NaN for those that training did not reach. Those of chunks that were undone
    (``early``) are in it too."""

    as_shown: NDArray[np.float64] | None
    """[N], the same where each was shown, as ``log_loss`` has it; None where the model does not know positions."""

    reached: int
    """Impressions that training reached: a NaN among the first so many of ``predicted`` is the model's own."""

    log_loss_before: float
    """The same impressions as predicted by the model that the update started from; NaN without ``patience``."""

    touched: Mapping[str, int]
    """Distinct ids of the rows trained on, by table; their histories and what was replayed not counted."""

    admitted: Mapping[str, Ids]
    """Ids that got a row of their own, ascending, by table."""

    changed: Mapping[str, Ids]
    """Ids whose rows training may have changed, ascending, by table: those of the window, of its histories and of what
    was replayed, and those evicted."""

    evicted: Mapping[str, Ids]
    """Ids that lost their rows, ascending, by table."""


def fine_tune(
    model: Model, examples: Examples, *, seed: int, device: str | None = None, clock: Callable[[], float]
) -> tuple[Model, TrainingResult]:
    """The model after training on ``examples`` in their order, and what was done. ``model`` stays as it was.

    ``device`` is named as torch does; by default it is a GPU where there is one. ``clock`` gives seconds.
    """
    learning, began, reads, text = model.design.learning, clock(), model.reads, model.text
    examples, model = model.columns_of(examples), model.reading(None)
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if text is not None:
        examples, text = text.learned(examples, model.layout, seed=seed, device=str(on))
    batches = batches_of(examples, learning, model.steps)
    label = examples.label

    def out_of_time() -> bool:
        return learning.time_budget_s is not None and clock() - began >= learning.time_budget_s

    with one_thread():
        tuned = model.copy()
        for network in {tuned.network, tuned.latest}:
            network.observe(tensor(examples.dense), learning.normalisation_rows)
        replay = None
        if learning.replay and model.reservoir:
            replay = ReplaySampler(model.reservoir, learning.replay.share, np.random.default_rng(seed))
        good, good_chunks = model.copy(), 0
        chunks, before, reached = list[Chunk](), list[NDArray[np.float64]](), 0
        predicted, as_shown = np.full((2, len(examples)), np.nan)
        stopped: Literal["done", "early", "time"] = "done"
        for first in range(0, len(batches), learning.chunk_batches):
            chosen = batches[first : first + learning.chunk_batches]
            tuned, chunk = train(
                tuned,
                examples,
                chosen,
                start=model,
                shares=[warm_up(first + k, learning) for k in range(len(chosen))],
                replay=replay,
                device=on,
                out_of_time=out_of_time,
            )
            chunks.append(chunk)
            rows = slice(reached, reached + len(chunk.predicted))
            predicted[rows], as_shown[rows], reached = chunk.predicted, chunk.as_shown, rows.stop
            if learning.patience and len(chunk.predicted):
                known = model.score_as_shown(examples[rows])
                before.append(model.score(examples[rows]) if known is None else known)
                # An average hides for long that the weights diverge, and the next update would start from those.
                worse = paired_difference(before[-1], chunk.by_latest, label[rows], examples.request[rows])
                if not worse.upper < -learning.tolerance * log_loss(before[-1], label[rows]):
                    good, good_chunks = tuned, len(chunks)
                elif len(chunks) - good_chunks >= learning.patience:
                    tuned, chunks, before, stopped = good, chunks[:good_chunks], before[:good_chunks], "early"
                    break
            if chunk.batches < len(chosen):
                stopped = "time"
                break
        trained = sum(len(chunk.predicted) for chunk in chunks)
        part = examples[:trained]
        evicted: tuple[Ids, ...] = (np.zeros(0, np.int64),) * len(tuned.tables)
        if trained:
            tuned.tables, evicted = evict(tuned.tables, float(part.time.max()))
            if learning.replay and tuned.reservoir is not None:
                tuned.reservoir = tuned.reservoir.updated(part, learning.replay.requests)
        tuned.posterior = tuned.posterior_after(part)
    if stopped != "early":  # or it goes back to the model that it had before
        tuned.text = text
    tuned.reads = reads
    return tuned, TrainingResult(
        steps=tuned.steps - model.steps,
        examples=trained,
        seconds=clock() - began,
        stopped=stopped,
        log_loss=log_loss(as_shown[:trained], label[:trained]),
        predicted=predicted,
        as_shown=as_shown if tuned.position_term.knows and position_rows(examples).any() else None,
        reached=reached,
        log_loss_before=log_loss(np.concatenate(before), label[:trained]) if before else float("nan"),
        touched=distinct(model, part),
        admitted=by_table(model, [chunk.admitted for chunk in chunks]),
        changed=by_table(model, [*(chunk.changed for chunk in chunks), evicted]),
        evicted=by_table(model, [evicted]),
    )


def batches_of(examples: Examples, learning: Learning, steps: int) -> list[slice]:
    """The rows of each batch, for a model that has taken so many steps.

    The first batches are of ``FIRST_BATCH`` requests, and a request larger every ``GROWS_EVERY`` steps, up to
    ``batch_requests``: n requests make about sqrt(8 n) steps, so that few of them are enough steps to train.
    """
    starts, at, found = examples.batch_starts(1), 0, list[slice]()
    while at < len(starts) - 1:
        size = min(learning.batch_requests, FIRST_BATCH + (steps + len(found)) // GROWS_EVERY)
        after = min(at + size, len(starts) - 1)
        found.append(slice(int(starts[at]), int(starts[after])))
        at = after
    return found


def warm_up(step: int, learning: Learning) -> float:
    """Share of the learning rates at a step of an update."""
    return min(1.0, (step + 1) / (learning.warm_up_steps + 1))


def evict(tables: tuple[IdTable, ...], now: float) -> tuple[tuple[IdTable, ...], tuple[Ids, ...]]:
    """The tables at event time ``now`` without the ids that are due to go, and those."""
    after = [table.evict(now) for table in tables]
    return tuple(table for table, _ in after), tuple(gone for _, gone in after)


def by_table(model: Model, ids: Sequence[tuple[Ids, ...]]) -> dict[str, Ids]:
    """The union of several sets of ids, by table."""
    none = np.zeros(0, np.int64)
    return {
        name: np.unique(np.concatenate([none, *(some[k] for some in ids)])) for k, name in enumerate(model.table_names)
    }


def distinct(model: Model, examples: Examples) -> dict[str, int]:
    """How many different ids the rows have, by table."""
    columns = with_crosses(model.layout, model.design.shape, examples)
    return {
        name: len(np.setdiff1d(columns[:, k], [EMPTY])) if k in model.network.columns else 0
        for k, name in enumerate(model.table_names)
    }
