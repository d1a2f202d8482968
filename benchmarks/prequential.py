"""Test, then train: a design over a stream, each impression scored by the model of that time before it is learned.

run = follow(Arm("hourly", FEED.design, timedelta(hours=1)), stream, fewest=500, clock=time.monotonic)
measure(stream.scored.label, stream.scored.request, run.scores)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.stream import Stream, schedule
from models import metrics
from models.examples import Examples, Layout
from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from monitoring.evaluation.compare import measure


@dataclass(frozen=True)
class Arm:
    """One way to learn a stream."""

    name: str
    design: Design

    every: timedelta | None
    """How often the model is updated; None: never after the warm-up."""

    seed: int = 0

    numbers: bool = True
    """Whether it is given the numbers, the features proper."""

    ids: bool = True
    """Whether it is given ids; without them there is no history either."""

    history: bool = True
    """Whether it is given the user's last items."""

    late: timedelta = timedelta(0)
    """How long after an impression its label is known."""


@dataclass(frozen=True, eq=False)
class Run:
    """What an arm made of a stream, ours or a peer."""

    name: str

    stream: Stream

    scores: NDArray[np.float64]
    """Of ``stream.scored``, each as predicted before it was learned."""

    cpu_s: float
    """CPU seconds of training and scoring; features are beside."""

    updates: int

    @cached_property
    def measures(self) -> dict[str, float]:
        """As ``monitoring.evaluation.compare.measure``; NaN for what is not defined."""
        rows = self.stream.scored
        found = measure(rows.label, rows.request, self.scores)
        return {name: float("nan") if value is None else value for name, value in found.items()}

    @property
    def auc(self) -> float:
        return self.measures["auc"]

    @property
    def mrr(self) -> float:
        return self.measures["mrr"]

    def auc_by(self, span: timedelta) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Middle of each span of the stream, in days since scoring began, and the AUC of its impressions."""
        rows = self.stream.scored
        number = ((rows.time - self.stream.begins) // span.total_seconds()).astype(np.int64)
        found = np.unique(number)
        aucs = [metrics.auc(self.scores[number == n], rows.label[number == n]) for n in found]
        middles = (found.astype(np.float64) + 0.5) * (span / timedelta(days=1))
        return middles, np.array(aucs)


def follow(arm: Arm, stream: Stream, *, fewest: int, clock: Callable[[], float]) -> Run:
    """The arm over the whole stream, in one torch thread. ``fewest``: impressions below which an update waits."""
    layout, examples = given(arm, stream)
    warm, steps = schedule(stream, arm.every, fewest=fewest, late=arm.late)
    scores, first, updates = np.full(len(examples) - stream.warm, np.nan), stream.warm, 0
    began = time.process_time()
    model = Model.new(layout, arm.design, arm.seed)
    model, _ = fine_tune(model, examples[:warm], seed=arm.seed, device="cpu", clock=clock)
    for number, step in enumerate(steps, start=1):
        if step.score.stop > step.score.start:
            scores[step.score.start - first : step.score.stop - first] = model.score(examples[step.score])
        if step.learn.stop > step.learn.start:
            part = examples[step.learn]
            model, _ = fine_tune(model, part, seed=arm.seed + number, device="cpu", clock=clock)
            updates += 1
    return Run(arm.name, stream, scores, time.process_time() - began, updates)


def given(arm: Arm, stream: Stream) -> tuple[Layout, Examples]:
    """What of the stream the arm is given."""
    layout, examples = stream.layout, stream.examples
    if arm.numbers and arm.ids and arm.history:
        return layout, examples
    numbers, ids, history = arm.numbers, arm.ids, arm.ids and arm.history
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
