"""Test, then train: a design over a stream, each impression scored by the model of that time before it trains on it.

result = prequential(Variant("hourly", FEED.design, HOUR), stream, fewest=500, clock=time.monotonic)
measure(stream.test.label, stream.test.request, result.scores)
"""

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.stream import Stream, schedule
from models import metrics
from models.examples import Examples, Layout
from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from monitoring.evaluation.compare import measure
from monitoring.measures import MEASURES


@dataclass(frozen=True)
class Variant:
    """One way to train over a stream."""

    name: str
    design: Design

    every: timedelta | None
    """How often the model is updated; None: never after the warm-up."""

    seed: int = 0

    numbers: bool = True
    """Whether it reads the numbers, the features proper."""

    ids: bool = True
    """Whether it reads ids; without them there is no history either."""

    history: bool = True
    """Whether it reads the user's last items."""

    label_delay: timedelta = timedelta(0)
    """How long after an impression its label is known."""


@dataclass(frozen=True, eq=False)
class StreamResult:
    """What a learner made of a stream, ours or a peer."""

    name: str

    stream: Stream

    scores: NDArray[np.float64]
    """Of ``stream.test``, each as predicted before any training on it."""

    cpu_s: float
    """CPU seconds of training and scoring; features are apart."""

    updates: int

    @cached_property
    def measures(self) -> dict[str, float]:
        """As ``monitoring.evaluation.compare.measure``; NaN for what is not defined."""
        rows = self.stream.test
        found = measure(rows.label, rows.request, self.scores)
        return {each.key: float("nan") if (value := found.of(each)) is None else value for each in MEASURES}

    @property
    def auc(self) -> float:
        return self.measures["auc"]

    @property
    def mrr(self) -> float:
        return self.measures["mrr"]

    def auc_by(self, span: timedelta) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Middle of each span of the stream, in days since testing began, and the AUC of its impressions."""
        rows = self.stream.test
        number = ((rows.time - self.stream.begins) // span.total_seconds()).astype(np.int64)
        found = np.unique(number)
        aucs = [metrics.auc(self.scores[number == n], rows.label[number == n]) for n in found]
        middles = (found.astype(np.float64) + 0.5) * (span / timedelta(days=1))
        return middles, np.array(aucs)


def reported(result: StreamResult, progress: Progress) -> StreamResult:
    """The result, its outcome reported on the way."""
    progress(
        f"{result.name}: AUC {result.auc:.4f}, MRR {result.mrr:.4f}, {result.cpu_s:.1f} CPU s,"
        f" {result.updates:,} updates"
    )
    return result


def prequential(variant: Variant, stream: Stream, *, fewest: int, clock: Clock) -> StreamResult:
    """The variant over the whole stream, in one torch thread. ``fewest``: impressions below which an update waits."""
    layout, examples = inputs_of(variant, stream)
    warm, steps = schedule(stream, variant.every, fewest=fewest, label_delay=variant.label_delay)
    first, updates, seed = stream.warm, 0, variant.seed
    scores = np.full(len(examples) - first, np.nan)
    began = time.process_time()
    model = Model.new(layout, variant.design, seed)
    model, _ = fine_tune(model, examples[:warm], seed=seed, device="cpu", clock=clock)
    for number, step in enumerate(steps, start=1):
        if step.test.stop > step.test.start:
            scores[step.test.start - first : step.test.stop - first] = model.score(examples[step.test])
        if step.train.stop > step.train.start:
            model, _ = fine_tune(model, examples[step.train], seed=seed + number, device="cpu", clock=clock)
            updates += 1
    return StreamResult(variant.name, stream, scores, time.process_time() - began, updates)


def inputs_of(variant: Variant, stream: Stream) -> tuple[Layout, Examples]:
    """What of the stream the variant reads."""
    layout, examples = stream.layout, stream.examples
    if variant.numbers and variant.ids and variant.history:
        return layout, examples
    numbers, ids, history = variant.numbers, variant.ids, variant.ids and variant.history
    layout = replace(
        layout,
        dense=layout.dense if numbers else (),
        ids=layout.ids if ids else (),
        history=layout.history if history else 0,
        meanings=(),
    )
    examples = replace(
        examples,
        dense=examples.dense if numbers else examples.dense[:, :0],
        ids=examples.ids if ids else examples.ids[:, :0],
        history=examples.history if history else examples.history[:, :0],
    )
    return layout, examples
