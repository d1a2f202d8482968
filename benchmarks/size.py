"""What an update costs when the table grows a hundredfold and the window stays the same.

    millrace bench size

The window is one and the same but for the names of its ids, which are spread over the whole table. Costs are CPU
seconds on one thread. Peers are torch's own ways to train a table: dense Adam, which moves every row in every step, and
SparseAdam, with the same network on the same batches.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.large_table import LAYOUT, REQUEST, Window, design, model_with, spread, window
from benchmarks.table import Row, Table, machine
from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model, one_thread, tensor

Say = Callable[[str], None]

GOAL = 1.3


@dataclass(frozen=True)
class Plan:
    """What to run."""

    small: int = 100_000
    large: int = 10_000_000
    """Rows of the two tables."""

    width: int = 64
    impressions: int = 100_000
    items: int = 50_000
    """Different items that the window may show; the r-th in proportion to 1 / sqrt(r)."""

    repeats: int = 5
    """Updates of each table, in turn; the quickest counts, since neighbours only slow it down."""

    peer_steps: int = 6
    """Batches that a peer learns from at each size; a step costs it what the next one does."""

    seed: int = 0

    @staticmethod
    def quick() -> "Plan":
        """The same in seconds, for a first look."""
        return Plan(small=5_000, large=100_000, impressions=8_192, items=4_000, repeats=2, peer_steps=3)


def bench(plan: Plan, *, clock: Callable[[], float], say: Say) -> Table:
    """Run all of it; ``clock`` (wall-clock seconds) is told beside the CPU seconds that are compared."""
    shown = window(plan.impressions, plan.items, 0.5, plan.seed)
    say(f"tables of {plan.small:,} and {plan.large:,} rows; a window of {plan.impressions:,} impressions")
    ours, wall = own(plan, shown, clock, say)
    rows = [
        Row("items in the window", shown.distinct, "items"),
        Row(f"update, table of {plan.small:,} rows", ours[0], "CPU s"),
        Row(f"update, table of {plan.large:,} rows", ours[1], "CPU s"),
        Row(f"the same by the clock, {plan.large:,} against {plan.small:,} rows", wall[1] / wall[0], "times"),
    ]
    ratio, batches = ours[1] / ours[0], plan.impressions / (REQUEST * design(plan.width).learning.batch_requests)
    for name, sparse, arrays in (("SparseAdam", True, 3), ("dense Adam", False, 4)):
        large = fitting(plan, arrays)
        say(f"{name} on {plan.small:,} and {large:,} rows")
        theirs = [peer(size, plan, shown, sparse=sparse) for size in (plan.small, large)]
        rows.append(
            Row(
                f"update, {plan.large:,} against {plan.small:,} rows",
                ratio,
                "times",
                name if large == plan.large else f"{name} ({large:,} rows: no memory for more)",
                theirs[1] / theirs[0],
                f"at most {GOAL:g} times",
                ratio <= GOAL,
            )
        )
        rows.append(Row(f"a batch, {large:,} rows", 1000 * ours[1] / batches, "CPU ms", name, 1000 * theirs[1]))
    return Table("size", machine(), rows)


def own(plan: Plan, shown: Window, clock: Callable[[], float], say: Say) -> tuple[Sequence[float], Sequence[float]]:
    """CPU and wall-clock seconds of the quickest update, by table size."""
    sizes = (plan.small, plan.large)
    models = [model_with(size, plan.width, plan.seed) for size in sizes]
    parts = [shown.examples(spread(size, plan.items, plan.seed)) for size in sizes]
    cpu, wall = [[], []], [[], []]  # type: tuple[list[list[float]], list[list[float]]]
    for turn in range(plan.repeats):
        for k, (model, part) in enumerate(zip(models, parts, strict=True)):
            began, at = time.process_time(), clock()
            fine_tune(model, part, seed=plan.seed, device="cpu", clock=clock)
            cpu[k].append(time.process_time() - began)
            wall[k].append(clock() - at)
        say(f"update {turn + 1} of {plan.repeats}: {cpu[0][-1]:.2f} and {cpu[1][-1]:.2f} CPU seconds")
    return [min(took) for took in cpu], [min(took) for took in wall]


def fitting(plan: Plan, arrays: int) -> int:
    """Rows of the large table, halved until ``arrays`` arrays of its size fit into two thirds of the free memory."""
    import psutil

    rows, free = plan.large, psutil.virtual_memory().available
    while rows > plan.small and arrays * rows * plan.width * 4 > 2 / 3 * free:
        rows //= 2
    return rows


def peer(rows: int, plan: Plan, shown: Window, *, sparse: bool) -> float:
    """CPU seconds of a step of torch's own: an ``nn.Embedding`` of ``rows`` rows, and our network."""
    examples = shown.examples(spread(rows, plan.items, plan.seed) - 1)
    network = Model.new(LAYOUT, design(plan.width), plan.seed).network.train()
    embedding = nn.Embedding(rows, plan.width, sparse=sparse, _weight=torch.empty(rows, plan.width).fill_(0.01))
    if sparse:
        moves: list[torch.optim.Optimizer] = [
            torch.optim.SparseAdam(embedding.parameters(), lr=1e-3),
            torch.optim.Adam(network.parameters(), lr=1e-3, fused=True),
        ]
    else:
        moves = [torch.optim.Adam([*embedding.parameters(), *network.parameters()], lr=1e-3, fused=True)]
    took = []
    starts = examples.batch_starts(design(plan.width).learning.batch_requests)
    with one_thread():
        # The first step makes the optimiser's state, and is not counted.
        for first, end in list(pairwise(starts))[: plan.peer_steps + 1]:
            began = time.process_time()
            step(network, embedding, moves, examples[int(first) : int(end)])
            took.append(time.process_time() - began)
            if len(took) == 1:
                settle(moves)
    return float(np.median(took[1:]))


def settle(moves: list[torch.optim.Optimizer]) -> None:
    """Write every page of the state, as days of learning would have: a first touch costs more than the second."""
    for move in moves:
        for parameter in move.state.values():
            for part in parameter.values():
                if isinstance(part, torch.Tensor) and part.ndim:
                    part.add_(1e-12)


def step(network: nn.Module, embedding: nn.Embedding, moves: list[torch.optim.Optimizer], batch: Examples) -> None:
    """One batch learned from."""
    rows = functional.pad(embedding(tensor(batch.ids[:, 0])), (0, 0, 1, 0))
    own = torch.arange(1, len(batch) + 1)[:, None]
    logit = network(tensor(batch.dense), own, tensor(batch.history), rows)
    loss = functional.binary_cross_entropy_with_logits(logit[:, 0], tensor(batch.label))
    for move in moves:
        move.zero_grad()
    torch.autograd.backward(loss)
    for move in moves:
        move.step()
