"""What an update costs when the table grows a hundredfold and the window stays the same.

    python -m benchmarks size

The window is one and the same but for the names of its ids, which are spread over the whole table. Costs are CPU
seconds on one thread. Peers are torch's own ways to train a table: dense Adam, which moves every row in every step, and
SparseAdam, with the same network on the same batches.
"""

import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.bench import Clock, Progress
from benchmarks.large_table import (
    IMPRESSIONS_PER_REQUEST,
    LAYOUT,
    TableWindow,
    design,
    model_with,
    spread,
    table_window,
)
from benchmarks.table import Row, Table, machine
from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.tensors import one_thread, tensor

GROWTH_GOAL = 1.3
"""How many times an update of the small table's cost."""


@dataclass(frozen=True)
class SizeConfig:
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
    """Batches that a peer trains on at each size; a step costs it what the next one does."""

    seed: int = 0

    @staticmethod
    def quick() -> "SizeConfig":
        """The same in seconds, for a first look."""
        return SizeConfig(small=5_000, large=100_000, impressions=8_192, items=4_000, repeats=2, peer_steps=3)


def bench(config: SizeConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it; seconds of ``clock`` (the wall's) stand beside the CPU seconds that are compared."""
    window = table_window(config.impressions, config.items, 0.5, config.seed)
    progress(f"tables of {config.small:,} and {config.large:,} rows; a window of {config.impressions:,} impressions")
    ours = our_updates(config, window, clock, progress)
    rows = [
        Row("items in the window", window.distinct, "items"),
        Row(f"update, table of {config.small:,} rows", ours[0].cpu, "CPU s"),
        Row(f"update, table of {config.large:,} rows", ours[1].cpu, "CPU s"),
        Row(
            f"the same by the clock, {config.large:,} against {config.small:,} rows",
            ours[1].wall / ours[0].wall,
            "times",
        ),
    ]
    ratio = ours[1].cpu / ours[0].cpu
    batches = config.impressions / (IMPRESSIONS_PER_REQUEST * design(config.width).learning.batch_requests)
    for name, sparse, arrays in (("SparseAdam", True, 3), ("dense Adam", False, 4)):
        large = fitting(config, arrays)
        progress(f"{name} on {config.small:,} and {large:,} rows")
        theirs = [peer(size, config, window, sparse=sparse) for size in (config.small, large)]
        rows.append(
            Row(
                f"update, {config.large:,} against {config.small:,} rows",
                ratio,
                "times",
                name if large == config.large else f"{name} ({large:,} rows: no memory for more)",
                theirs[1] / theirs[0],
                f"at most {GROWTH_GOAL:g} times",
                ratio <= GROWTH_GOAL,
            )
        )
        rows.append(Row(f"a batch, {large:,} rows", 1000 * ours[1].cpu / batches, "CPU ms", name, 1000 * theirs[1]))
    return Table("size", machine(), rows)


@dataclass(frozen=True)
class Seconds:
    """Of one update."""

    cpu: float
    wall: float


def our_updates(config: SizeConfig, window: TableWindow, clock: Clock, progress: Progress) -> tuple[Seconds, Seconds]:
    """The quickest update of the small table and of the large one."""
    sizes = (config.small, config.large)
    models = [model_with(size, config.width, config.seed) for size in sizes]
    parts = [window.examples(spread(size, config.items, config.seed)) for size in sizes]
    taken: tuple[list[Seconds], list[Seconds]] = ([], [])
    for turn in range(config.repeats):
        for seconds, model, part in zip(taken, models, parts, strict=True):
            began, began_wall = time.process_time(), clock()
            fine_tune(model, part, seed=config.seed, device="cpu", clock=clock)
            seconds.append(Seconds(time.process_time() - began, clock() - began_wall))
        small, large = (seconds[-1].cpu for seconds in taken)
        progress(f"update {turn + 1} of {config.repeats}: {small:.2f} and {large:.2f} CPU seconds")
    return quickest(taken[0]), quickest(taken[1])


def quickest(taken: list[Seconds]) -> Seconds:
    """By each clock."""
    return Seconds(min(one.cpu for one in taken), min(one.wall for one in taken))


def fitting(config: SizeConfig, arrays: int) -> int:
    """Rows of the large table, halved until ``arrays`` arrays of its size fit into two thirds of the free memory."""
    import psutil

    rows, free = config.large, psutil.virtual_memory().available
    while rows > config.small and arrays * rows * config.width * 4 > 2 / 3 * free:
        rows //= 2
    return rows


def peer(rows: int, config: SizeConfig, window: TableWindow, *, sparse: bool) -> float:
    """CPU seconds of a step of torch's own: an ``nn.Embedding`` of ``rows`` rows, and our network."""
    examples = window.examples(spread(rows, config.items, config.seed) - 1)
    network = Model.new(LAYOUT, design(config.width), config.seed).network.train()
    embedding = nn.Embedding(rows, config.width, sparse=sparse, _weight=torch.empty(rows, config.width).fill_(0.01))
    if sparse:
        optimisers: list[torch.optim.Optimizer] = [
            torch.optim.SparseAdam(embedding.parameters(), lr=1e-3),
            torch.optim.Adam(network.parameters(), lr=1e-3, fused=True),
        ]
    else:
        optimisers = [torch.optim.Adam([*embedding.parameters(), *network.parameters()], lr=1e-3, fused=True)]
    took = []
    starts = examples.batch_starts(design(config.width).learning.batch_requests)
    with one_thread():
        # The first step makes the optimiser's state, and is not counted.
        for first, end in list(pairwise(starts))[: config.peer_steps + 1]:
            began = time.process_time()
            step(network, embedding, optimisers, examples[int(first) : int(end)])
            took.append(time.process_time() - began)
            if len(took) == 1:
                touch_state(optimisers)
    return float(np.median(took[1:]))


def touch_state(optimisers: list[torch.optim.Optimizer]) -> None:
    """Write every page of the state, as days of training would have: a first touch costs more than the second."""
    for optimiser in optimisers:
        for parameter in optimiser.state.values():
            for part in parameter.values():
                if isinstance(part, torch.Tensor) and part.ndim:
                    part.add_(1e-12)


def step(network: nn.Module, embedding: nn.Embedding, optimisers: list[torch.optim.Optimizer], batch: Examples) -> None:
    """One batch trained on."""
    rows = functional.pad(embedding(tensor(batch.ids[:, 0])), (0, 0, 1, 0))
    own = torch.arange(1, len(batch) + 1)[:, None]
    logit = network(tensor(batch.dense), own, tensor(batch.history), rows)
    loss = functional.binary_cross_entropy_with_logits(logit[:, 0], tensor(batch.label))
    for optimiser in optimisers:
        optimiser.zero_grad()
    torch.autograd.backward(loss)
    for optimiser in optimisers:
        optimiser.step()
