"""The bench of scoring: what the candidates of a request wait for, and rows a second in bulk, beside the network alone.

bench(Plan(), clock=time.perf_counter, say=print)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.large_table import BEGIN
from benchmarks.stream import folded
from benchmarks.table import Row, Table, machine
from flows.drill.windows import simulated
from flows.surfaces import find
from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model, gather, one_thread, tensor
from models.tables import memory_map
from models.tables.log_structured import Segment

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to run."""

    surface: str = "feed"
    days: float = 1.5
    requests_per_day: int = 8_000
    """Of the seeded log that the model learns from and is asked about."""

    candidates: tuple[int, ...] = (20, 200)
    """Of a request."""

    calls: int = 300
    bulk: int = 50_000
    """Rows scored at once."""

    rows: int = 3_000_000
    """Of the large tables, users' and items' each, against those of the log."""

    seed: int = 0

    @staticmethod
    def quick() -> Plan:
        """The same in seconds, for a first look."""
        return Plan(days=1.2, requests_per_day=1_500, calls=20, bulk=2_000, rows=20_000)


def bench(plan: Plan, *, clock: Callable[[], float], say: Say) -> Table:
    """Run all of it. ``clock`` times single requests, in wall-clock seconds; bulk counts CPU seconds."""
    surface = find(plan.surface)
    log = simulated(seed=plan.seed, days=plan.days, requests_per_day=plan.requests_per_day)
    stream = folded(log, surface, warmup=timedelta(days=1))
    start = Model.new(stream.layout, surface.design, plan.seed)
    model, _ = fine_tune(start, stream.examples[: stream.warm], seed=plan.seed, device="cpu", clock=clock)
    large = grown(model, plan.rows, plan.seed)
    say(f"a model of {stream.warm:,} impressions, and the same with {plan.rows:,} rows a table")
    rows = []
    for count in plan.candidates:
        asked = requests(stream.scored, count, plan.calls, plan.seed)
        ours, theirs = (timed(each.score, asked, clock) for each in (model, large))
        alone = timed(partial(bare, model), [prepared(model, one) for one in asked], clock)
        told = f"{count} candidates of a request"
        for name, share in (("median", 0.5), ("99th percentile", 0.99)):
            own, other = (float(np.quantile(taken, share)) * 1000 for taken in (ours, alone))
            rows.append(Row(f"{told}, {name}", own, "ms", peer="the network alone", theirs=other))
        grew = float(np.median(theirs)) * 1000
        rows.append(Row(f"{told}, median, {plan.rows:,} rows", grew, "ms", "log's own", float(np.median(ours)) * 1000))
    bulk = requests(stream.scored, plan.bulk, 1, plan.seed)[0]
    whole, alone_s = cpu(lambda: model.score(bulk)), cpu(partial(bare, model, prepared(model, bulk)))
    rows.append(
        Row("in bulk, a core", plan.bulk / whole, "rows/s", peer="the network alone", theirs=plan.bulk / alone_s)
    )
    return Table("score", machine(), rows)


def grown(model: Model, rows: int, seed: int) -> Model:
    """The model with tables of at least so many ids, for each column of which it knows more than a tenth as many."""
    draw, tables = np.random.default_rng(seed), []
    for table in model.tables:
        if table.rows * 20 < max(each.rows for each in model.tables):
            tables.append(table)
            continue
        ids = np.unique(draw.integers(1 << 40, 1 << 62, rows))
        weights = memory_map.empty((len(ids), table.width), np.float32)
        weights[:] = 0.01
        state = memory_map.empty((len(ids), table.state_width), np.float32)
        state[:] = 1
        segment = Segment(ids, weights, state, np.full(len(ids), 10), np.full(len(ids), BEGIN, np.uint32))
        tables.append(replace(table, segments=(*table.segments, segment), rows=table.rows + len(ids)))
    large = model.copy()
    large.tables = tuple(tables)
    return large


def requests(examples: Examples, candidates: int, calls: int, seed: int) -> list[Examples]:
    """Requests as serving makes them: one user and history, candidates from anywhere."""
    draw, asked = np.random.default_rng(seed), []
    for first in draw.integers(0, len(examples), calls):
        rows = draw.integers(0, len(examples), candidates)
        one = examples[rows]
        ids = one.ids.copy()
        ids[:, 0] = examples.ids[first, 0]
        asked.append(replace(one, ids=ids, history=np.repeat(examples.history[[first]], candidates, axis=0)))
    return asked


def timed(score: Callable[..., object], asked: Sequence[object], clock: Callable[[], float]) -> NDArray[np.float64]:
    """Seconds [calls] of each; the first tenth of the calls fills caches and is not counted."""
    taken = []
    for one in asked:
        began = clock()
        score(one)
        taken.append(clock() - began)
    return np.array(taken[len(asked) // 10 :])


Prepared = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def prepared(model: Model, examples: Examples) -> Prepared:
    """What the network is given once rows are looked up."""
    working = gather(model, examples)
    return tensor(examples.dense), tensor(working.ids), tensor(working.history), tensor(working.weights)


def bare(model: Model, given: Prepared) -> None:
    """The network on rows already looked up."""
    dense, ids, history, table = given
    with one_thread(), torch.inference_mode():
        for start in range(0, len(dense), 2048):
            model.network(*(column[start : start + 2048] for column in (dense, ids, history)), table)


def cpu(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the quickest of some calls, after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)
