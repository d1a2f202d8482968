"""The incremental learner: a model takes in a window of impressions and becomes its own challenger.

    model = Model.new(layout, Design(), seed=0)
    model, learned = fine_tune(model, first_day, seed=0, clock=time.monotonic)
    for hour in hours:
        probabilities = model.score(hour)                                         # test ...
        model, learned = fine_tune(model, hour, seed=0, clock=time.monotonic)     # ... then train

A window is learned in stretches of some batches. For each, the table rows that it uses are gathered with their
optimiser state into one compact dense table on the device, trained there with torch's own optimisers, and put back: the
cost follows the window, not the tables. On a CPU the same model, examples and seed give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.examples import EMPTY, Examples, Layout, concat
from models.metrics import log_loss, paired_difference
from models.model import Design, Model, gather, one_thread, scatter, tensor
from models.network import Network

__all__ = ["Design", "Examples", "Layout", "Learned", "Model", "concat", "fine_tune"]


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
    """[N], the probability of each impression just before it was first learned from, as ``log_loss`` has it; NaN for
    those that learning did not get to. What was learned and then given up (``early``) is in it too."""

    reached: int
    """Impressions that learning got to: a NaN among the first so many of ``predicted`` is the model's own."""

    log_loss_before: float
    """The same impressions as predicted by the model that the update started from; NaN without ``patience``."""

    touched: Mapping[str, int]
    """Distinct ids that were learned from, by table: those whose rows may have moved."""

    admitted: Mapping[str, NDArray[np.int64]]
    """Ids that got a row of their own, ascending, by table."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """What was seen while some batches were learned from."""

    predicted: NDArray[np.float64]
    """[n], the probability of each row just before it was learned from."""

    batches: Sequence[slice]
    """Rows of the window, in the order learned; n rows in all."""

    newcomers: tuple[NDArray[np.int64], ...]
    """Ids admitted, by table."""

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *(np.arange(b.start, b.stop) for b in self.batches)])


def fine_tune(
    model: Model, examples: Examples, *, seed: int, device: str | None = None, clock: Callable[[], float]
) -> tuple[Model, Learned]:
    """The model after learning from ``examples`` in their order, and what was done. ``model`` stays as it was.

    ``device`` is named as torch does; by default it is a GPU where there is one. ``clock`` gives seconds.
    """
    examples.expect(model.layout)
    design, began = model.design, clock()
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    draw = np.random.default_rng(seed)
    batches = [slice(int(a), int(b)) for a, b in pairwise(examples.batch_starts(design.batch_requests))]
    label = examples.label if examples.label.ndim == 1 else examples.label[:, 0]

    def out_of_time() -> bool:
        return design.time_budget_s is not None and clock() - began >= design.time_budget_s

    with one_thread():
        tuned = model.copy()
        tuned.network.standardise.observe(tensor(examples.dense), design.memory)
        good, kept = model.copy(), 0
        predicted = np.full(len(examples), np.nan)
        done, before, reached = list[Stretch](), list[NDArray[np.float64]](), 0
        stopped: Literal["done", "early", "time"] = "done"
        for epoch, chosen in stretches(batches, design, draw):
            tuned, stretch = learn(tuned, examples, chosen, tuned.steps - model.steps, not epoch, place, out_of_time)
            done.append(stretch)
            if not epoch:
                predicted[stretch.rows] = stretch.predicted
                reached += len(stretch.predicted)
            if design.patience and len(stretch.predicted):
                rows = stretch.rows
                before.append(model.score(examples[rows]))
                worse = paired_difference(before[-1], stretch.predicted, label[rows], examples.request[rows])
                if not worse.upper < -design.tolerance * log_loss(before[-1], label[rows]):
                    good, kept = tuned, len(done)
                elif len(done) - kept >= design.patience:
                    tuned, done, before, stopped = good, done[:kept], before[:kept], "early"
                    break
            if len(stretch.batches) < len(chosen):
                stopped = "time"
                break
    learned = [stretch.rows for stretch in done]
    return tuned, Learned(
        steps=tuned.steps - model.steps,
        examples=sum(map(len, learned)),
        seconds=clock() - began,
        stopped=stopped,
        log_loss=mean_loss([stretch.predicted for stretch in done], learned, label),
        predicted=predicted,
        reached=reached,
        log_loss_before=mean_loss(before, learned, label),
        touched={
            name: len(np.setdiff1d(np.concatenate([examples.ids[rows, k] for rows in learned]), [EMPTY]))
            if learned
            else 0
            for k, name in enumerate(model.layout.ids)
        },
        admitted={
            name: np.unique(np.concatenate([stretch.newcomers[k] for stretch in done] or [np.zeros(0, np.int64)]))
            for k, name in enumerate(model.layout.ids)
        },
    )


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


def learn(
    model: Model,
    examples: Examples,
    batches: list[slice],
    steps: int,
    count: bool,
    device: torch.device,
    out_of_time: Callable[[], bool],
) -> tuple[Model, Stretch]:
    """The model after a gradient step on each of these batches, which lie side by side in ``examples``.

    ``steps``: those taken before in this update; ``count``: whether the ids count as seen once more.
    """
    design = model.design
    start, stop = min(batch.start for batch in batches), max(batch.stop for batch in batches)
    part = examples[start:stop]
    working = gather(model, part, learning=count)
    network = deepcopy(model.network).to(device)
    table = tensor(working.weights).to(device).requires_grad_()
    adamw, adagrad = optimisers(model, network, table, tensor(working.squares).to(device))

    label = tensor(part.label).reshape(len(part), -1)
    known = torch.isfinite(label)
    columns = [
        tensor(part.dense),
        tensor(working.ids),
        tensor(working.history),
        torch.where(known, label, 0),
        known.float(),
    ]
    columns = [column.to(device) for column in columns]
    predicted, taken = [], 0
    for batch in batches:
        if out_of_time():
            break
        dense, ids, history, target, weight = (c[batch.start - start : batch.stop - start] for c in columns)
        share = min(1.0, (steps + taken + 1) / (design.warm_up_steps + 1))
        adamw.param_groups[0]["lr"] = design.rate * share
        adagrad.param_groups[0]["lr"] = design.table_rate * share
        logit = network(dense, ids, history, table)
        loss = functional.binary_cross_entropy_with_logits(logit, target, weight, reduction="sum")
        adamw.zero_grad()
        adagrad.zero_grad()
        torch.autograd.backward(loss / weight.sum().clamp(min=1))
        adamw.step()
        adagrad.step()
        predicted.append(torch.sigmoid(logit.detach()[:, 0].double()))
        taken += 1

    moments = {
        f"{name}.{moment}": adamw.state[parameter][key].cpu()
        for name, parameter in network.named_parameters()
        for moment, key in MOMENTS.items()
    }
    tables = scatter(model.tables, working, table, adagrad.state[table]["sum"])
    tuned = Model(model.layout, design, network.cpu(), tables, moments, model.steps + taken)
    return tuned, Stretch(
        torch.cat(predicted).cpu().numpy() if predicted else np.zeros(0),
        batches[:taken],
        tuple(own.newcomers for own in working.gathered),
    )


MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}
"""Our names of AdamW's two averages, and torch's."""


def optimisers(
    model: Model, network: Network, table: Tensor, squares: Tensor
) -> tuple[torch.optim.AdamW, torch.optim.Adagrad]:
    """AdamW of the network and Adagrad of the rows, going on from where the model stopped."""
    design = model.design
    adamw = torch.optim.AdamW(network.parameters(), lr=design.rate, weight_decay=design.weight_decay, fused=True)
    for name, parameter in network.named_parameters():
        adamw.state[parameter] = {"step": torch.tensor(float(model.steps), device=table.device)}
        for moment, key in MOMENTS.items():
            adamw.state[parameter][key] = model.moments[f"{name}.{moment}"].to(table.device, copy=True)
    adagrad = torch.optim.Adagrad([table], lr=design.table_rate, fused=table.device.type == "cpu")
    adagrad.state[table]["sum"] = squares
    return adamw, adagrad
