"""The bench of scoring: milliseconds for the candidates of a request, as serving scores them from their served rows and
as a model does, rows a second in bulk, and the network alone.

python -m benchmarks score
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.large_table import BEGIN
from benchmarks.stream import folded
from benchmarks.table import Row, Table, machine
from features.declare.schema import RowSchema, RowValues
from flows.drill.logs import simulated
from flows.surface import Surface
from flows.surfaces.feed import SURFACE as FEED
from models.examples import Examples
from models.frames import to_score
from models.layouts import FORMS
from models.learning.learner import fine_tune
from models.learning.model import Model, gather
from models.serving.scoring.scorer import Scorer, scorer_of
from models.tables import memory_map
from models.tables.log_structured import Segment
from models.tensors import one_thread, tensor

T = TypeVar("T")

MOST = 0.9
GOAL = f"at most {MOST} times"
"""Of the time that the network alone takes: for a request's served rows, tables and all."""


@dataclass(frozen=True)
class ScoreConfig:
    """What to run."""

    surface: Surface = FEED
    days: float = 1.5
    requests_per_day: int = 8_000
    """Of the seeded log that the model trains on and scores."""

    candidates: tuple[int, ...] = (20, 200)
    """Of a request."""

    calls: int = 300
    bulk: int = 50_000
    """Rows scored at once."""

    rows: int = 3_000_000
    """Of the large tables, users' and items' each, against those of the log."""

    seed: int = 0

    @staticmethod
    def quick() -> ScoreConfig:
        """The same in seconds, for a first look."""
        return ScoreConfig(days=1.2, requests_per_day=1_500, calls=20, bulk=2_000, rows=20_000)


def bench(config: ScoreConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. ``clock`` times single requests, in wall-clock seconds; bulk counts CPU seconds."""
    surface = config.surface
    log = simulated(seed=config.seed, days=config.days, requests_per_day=config.requests_per_day)
    stream = folded(log, surface, warmup=timedelta(days=1))
    start = Model.new(stream.layout, surface.design, config.seed)
    model, _ = fine_tune(start, stream.examples[: stream.warm], seed=config.seed, device="cpu", clock=clock)
    large = grown(model, config.rows, config.seed)
    progress(f"a model of {stream.warm:,} impressions, and the same with {config.rows:,} rows a table")
    rows = []
    schema = surface.features.schema
    for count in config.candidates:
        calls = requests(stream.test, count, config.calls, config.seed)
        values = [served(one, schema) for one in calls]
        serving, serving_large = (
            timed(partial(score_served, scorer_of(each), schema), values, clock) for each in (model, large)
        )
        ours, theirs = (timed(each.score, calls, clock) for each in (model, large))
        alone = timed(partial(network_alone, model), [prepared(model, one) for one in calls], clock)
        what = f"{count} candidates of a request"
        for name, share in (("median", 0.5), ("99th percentile", 0.99)):
            quick, own, other = (float(np.quantile(taken, share)) * 1000 for taken in (serving, ours, alone))
            goal, met = (GOAL, quick <= MOST * other) if name == "median" else (None, None)
            rows.append(Row(f"{what}, served, {name}", quick, "ms", "the network alone", other, goal, met))
            rows.append(Row(f"{what}, {name}", own, "ms", peer="the network alone", theirs=other))
        grew, quick = (float(np.median(taken)) * 1000 for taken in (serving_large, serving))
        rows.append(Row(f"{what}, served, median, {config.rows:,} rows", grew, "ms", "log's own", quick))
        grew = float(np.median(theirs)) * 1000
        rows.append(
            Row(f"{what}, median, {config.rows:,} rows", grew, "ms", "log's own", float(np.median(ours)) * 1000)
        )
    bulk = requests(stream.test, config.bulk, 1, config.seed)[0]
    took, taken = (float(np.median(timed(scorer_of, [each] * config.calls, clock))) * 1000 for each in (large, model))
    rows.append(Row(f"a version made ready to serve, {config.rows:,} rows", took, "ms", "log's own", taken))
    whole, alone_s = cpu(lambda: model.score(bulk)), cpu(partial(network_alone, model, prepared(model, bulk)))
    rows.append(
        Row("in bulk, a core", config.bulk / whole, "rows/s", peer="the network alone", theirs=config.bulk / alone_s)
    )
    return Table("score", machine(), rows)


def served(examples: Examples, schema: RowSchema) -> RowValues:
    """The served rows that these examples were made of."""
    first = len(schema.dense)
    numbers = examples.dense[:, first : first + len(FORMS) * len(schema.numbers) : len(FORMS)]
    return RowValues(examples.dense[:, :first].astype(np.float16), numbers, examples.ids, examples.history)


def score_served(scorer: Scorer | Model, schema: RowSchema, values: RowValues) -> None:
    """What serving does with the rows of a request, of a surface without views."""
    scorer.score(to_score(values, np.zeros((len(values), 0), np.float32), schema, BEGIN))


def grown(model: Model, rows: int, seed: int) -> Model:
    """The model with so many more ids in its large tables, those with a twentieth of the largest's rows or more."""
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
    draw, made = np.random.default_rng(seed), []
    for first in draw.integers(0, len(examples), calls):
        rows = draw.integers(0, len(examples), candidates)
        one = examples[rows]
        ids = one.ids.copy()
        ids[:, 0] = examples.ids[first, 0]
        made.append(replace(one, ids=ids, history=np.repeat(examples.history[[first]], candidates, axis=0)))
    return made


def timed(score: Callable[[T], object], calls: Sequence[T], clock: Clock) -> NDArray[np.float64]:
    """Seconds [calls] of each; the first tenth of the calls fills caches and is not counted."""
    taken = []
    for one in calls:
        began = clock()
        score(one)
        taken.append(clock() - began)
    return np.array(taken[len(calls) // 10 :])


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the network reads once rows are looked up."""

    dense: torch.Tensor
    ids: torch.Tensor
    history: torch.Tensor
    table: torch.Tensor


def prepared(model: Model, examples: Examples) -> Prepared:
    """The examples, their rows looked up."""
    working = gather(model, examples)
    return Prepared(tensor(examples.dense), tensor(working.ids), tensor(working.history), tensor(working.weights))


def network_alone(model: Model, rows: Prepared) -> None:
    """The network on rows already looked up."""
    with one_thread(), torch.inference_mode():
        for start in range(0, len(rows.dense), 2048):
            columns = (column[start : start + 2048] for column in (rows.dense, rows.ids, rows.history))
            model.network(*columns, rows.table)


def cpu(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the quickest of some calls, after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)
