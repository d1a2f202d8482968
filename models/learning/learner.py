"""The incremental learner: a model takes in a window of impressions and becomes its own challenger.

    model = Model.new(layout, Design(), seed=0)
    model, learned = fine_tune(model, first_day, seed=0, clock=time.monotonic)
    for hour in hours:
        probabilities = model.score(hour)                                         # test ...
        model, learned = fine_tune(model, hour, seed=0, clock=time.monotonic)     # ... then train

A window is learned in stretches of some batches (:mod:`models.learning.chunk`), each on the rows that it uses alone:
the cost follows the window, not the tables. On a CPU the same model, examples and seed give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.examples import EMPTY, Examples, Layout, concat
from models.learning.chunk import Again, Stretch, learn
from models.learning.model import Design, Model, id_columns, one_thread, tensor
from models.metrics import log_loss, paired_difference
from models.tables.id_table import Ids, IdTable

__all__ = ["Design", "Examples", "Layout", "Learned", "Model", "concat", "fine_tune"]

FIRST_BATCH, GROWS_EVERY = 1, 4
"""Requests of a model's first batch, and steps after which the next ones have a request more."""


@dataclass(frozen=True, eq=False)
class Learned:
    """What one call of :func:`fine_tune` did."""

    steps: int
    """Batches learned from."""

    examples: int
    """Impressions learned from, a repeated pass counted again; fewer than asked where learning stopped short."""

    seconds: float

    stopped: Literal["done", "early", "time"]

    log_loss: float
    """Mean log loss of the first kind, each impression predicted just before it was learned from (progressive
    validation in the first pass: Blum et al. 1999). NaN when nothing was."""

    predicted: NDArray[np.float64]
    """[N], the probability of each impression just before it was first learned from, as ``log_loss`` has it, by the
    weights that would have served then: their average where the design has one. NaN for those that learning did not
    get to. What was learned and then given up (``early``) is in it too."""

    reached: int
    """Impressions that learning got to: a NaN among the first so many of ``predicted`` is the model's own."""

    log_loss_before: float
    """The same impressions as predicted by the model that the update started from; NaN without ``patience``."""

    touched: Mapping[str, int]
    """Distinct ids that the rows learned from show, by table; their histories and what was replayed not counted."""

    admitted: Mapping[str, Ids]
    """Ids that got a row of their own, ascending, by table."""

    moved: Mapping[str, Ids]
    """Ids whose rows learning may have changed, ascending, by table: those of the window, of its histories and of what
    was replayed, and those evicted."""

    evicted: Mapping[str, Ids]
    """Ids that lost their rows, ascending, by table."""


def fine_tune(
    model: Model, examples: Examples, *, seed: int, device: str | None = None, clock: Callable[[], float]
) -> tuple[Model, Learned]:
    """The model after learning from ``examples`` in their order, and what was done. ``model`` stays as it was.

    ``device`` is named as torch does; by default it is a GPU where there is one. ``clock`` gives seconds.
    """
    reads, examples, model = model.reads, model.own(examples), model.reading(None)
    design, began = model.design, clock()
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    draw = np.random.default_rng(seed)
    batches = batches_of(examples, design, model.steps)
    label = examples.label if examples.label.ndim == 1 else examples.label[:, 0]

    def out_of_time() -> bool:
        return design.time_budget_s is not None and clock() - began >= design.time_budget_s

    with one_thread():
        tuned = model.copy()
        for network in {tuned.network, tuned.latest}:
            network.observe(tensor(examples.dense), design.memory)
        again = Again(model.reservoir, design.replay_share, draw) if design.replay and len(model.reservoir) else None
        good, kept = model.copy(), 0
        predicted = np.full(len(examples), np.nan)
        done, before, reached = list[Stretch](), list[NDArray[np.float64]](), 0
        stopped: Literal["done", "early", "time"] = "done"
        for epoch, chosen in stretches(batches, design, draw):
            taken = tuned.steps - model.steps
            tuned, stretch = learn(
                tuned,
                examples,
                chosen,
                start=model,
                count=not epoch,
                shares=[rate_share(taken + k, len(batches) * design.epochs, design) for k in range(len(chosen))],
                again=again,
                device=place,
                out_of_time=out_of_time,
            )
            done.append(stretch)
            if not epoch:
                predicted[stretch.rows] = stretch.predicted
                reached += len(stretch.predicted)
            if design.patience and len(stretch.predicted):
                rows = stretch.rows
                before.append(model.score(examples[rows]))
                # An average hides for long that the weights run away, and the next update would start from those.
                worse = paired_difference(before[-1], stretch.by_latest, label[rows], examples.request[rows])
                if not worse.upper < -design.tolerance * log_loss(before[-1], label[rows]):
                    good, kept = tuned, len(done)
                elif len(done) - kept >= design.patience:
                    tuned, done, before, stopped = good, done[:kept], before[:kept], "early"
                    break
            if len(stretch.batches) < len(chosen):
                stopped = "time"
                break
        learned = [stretch.rows for stretch in done]
        rows = np.unique(np.concatenate([np.zeros(0, np.int64), *learned]))
        evicted: tuple[Ids, ...] = (np.zeros(0, np.int64),) * len(tuned.tables)
        taken_in = examples if len(rows) == len(examples) else examples[rows]
        if len(rows):
            tuned.tables, evicted = without_old(tuned.tables, float(taken_in.time.max()))
            if design.replay:
                tuned.reservoir = tuned.reservoir.taking(taken_in, design.replay)
    tuned.reads = reads
    return tuned, Learned(
        steps=tuned.steps - model.steps,
        examples=sum(map(len, learned)),
        seconds=clock() - began,
        stopped=stopped,
        log_loss=mean_loss([stretch.predicted for stretch in done], learned, label),
        predicted=predicted,
        reached=reached,
        log_loss_before=mean_loss(before, learned, label),
        touched=distinct(model, taken_in),
        admitted=by_table(model, [stretch.newcomers for stretch in done]),
        moved=by_table(model, [*(stretch.moved for stretch in done), evicted]),
        evicted=by_table(model, [evicted]),
    )


def batches_of(examples: Examples, design: Design, steps: int) -> list[slice]:
    """The rows of each batch, for a model that has taken so many steps.

    The first batches are of ``FIRST_BATCH`` requests, and a request larger every ``GROWS_EVERY`` steps, up to the
    design's size: n requests make about sqrt(8 n) steps, so that few of them are enough steps to learn by.
    """
    starts, at, found = examples.batch_starts(1), 0, list[slice]()
    while at < len(starts) - 1:
        size = min(design.batch_requests, FIRST_BATCH + (steps + len(found)) // GROWS_EVERY)
        after = min(at + size, len(starts) - 1)
        found.append(slice(int(starts[at]), int(starts[after])))
        at = after
    return found


def rate_share(step: int, steps: int, design: Design) -> float:
    """Share of the rates at a step of an update of so many: first up to all, and down to ``final_rate`` in a line."""
    warm = min(1.0, (step + 1) / (design.warm_up_steps + 1))
    return warm * (1 - (1 - design.final_rate) * step / max(1, steps - 1))


def without_old(tables: tuple[IdTable, ...], now: float) -> tuple[tuple[IdTable, ...], tuple[Ids, ...]]:
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
    """How many different ids there are to learn from, by table."""
    columns = id_columns(model, examples)
    return {
        name: len(np.setdiff1d(columns[:, k], [EMPTY])) if k in model.network.columns else 0
        for k, name in enumerate(model.table_names)
    }


def mean_loss(predicted: list[NDArray[np.float64]], rows: list[NDArray[np.int64]], label: NDArray[np.float32]) -> float:
    """Mean log loss of predictions for those rows; NaN where there are none."""
    if not predicted or not rows:
        return float("nan")
    return log_loss(np.concatenate(predicted), label[np.concatenate(rows)])


def stretches(batches: list[slice], design: Design, draw: np.random.Generator) -> Iterator[tuple[int, list[slice]]]:
    """Each pass's number, and the batches of its next stretch in the order to learn them."""
    for epoch in range(design.epochs):
        for first in range(0, len(batches), design.stretch):
            chosen = batches[first : first + design.stretch]
            yield epoch, [chosen[i] for i in draw.permutation(len(chosen))] if epoch else chosen
