"""The step that judges: everything measured of a challenger, for the gate and for people."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flows.ledger import Claim
from flows.steps import history as background
from flows.steps import train_towers as retrieving
from flows.steps.train_towers import Taught
from flows.surface import Surface
from flows.world import World
from models.examples import Layout
from models.frames import HALF_MICROSECOND, Frame
from models.learning.design import Design
from models.learning.learner import TrainingResult, fine_tune
from models.learning.model import Model
from models.retrieval import artifact as towers_artifact
from models.versions.artifact import save, save_delta, snapshot_due
from models.versions.delta import difference
from models.versions.promotions import Promotion
from monitoring.evaluation import drift, reranking, skew
from monitoring.evaluation import evaluate as evidence
from monitoring.evaluation.drift import Drift
from monitoring.evaluation.evaluate import Question

REJECTED = """
SELECT window_start, split_at FROM updates
WHERE surface = %s AND state = 'rejected' AND split_at > %s AND window_start < %s
"""


@dataclass(frozen=True, eq=False)
class Challenger:
    """A model just trained, and how that went."""

    model: Model
    learned: TrainingResult
    question: Question
    """What is asked of it: 'not_worse' of one like the champion, 'better' of one of another design."""

    folder: Path
    """Where it is written down, to be registered from."""

    weights_sha256: str
    """Of the weights there: what is measured is what is registered, and what serves."""

    on: str | None
    """The version that these are a delta on; None: they are the whole model."""

    towers: Taught | None
    """Those in ``folder``, which retrieve; None: requests name their candidates."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was measured of a challenger, and what the report draws."""

    figures: dict[str, Any]
    drift: Drift | None


def learn(world: World, claimed: Claim, champion: Model | None, frame: Frame) -> Challenger:
    """Fine-tune a copy of the champion on the training part; the first model starts from nothing.

    Where the surface declares another design than the champion has, the challenger is of that design, and must be
    better: with other settings it learns on from the champion's weights, with another shape from the days before.
    """
    surface = world.surface
    start: Model | None = champion
    question: Question = "not_worse"
    if champion is None:
        start = Model.new(surface.layout, surface.design, surface.seed)
    elif champion.design != surface.design or columns_differ(champion.layout, surface.layout):
        start, question = redesigned(world, claimed, champion), "better"
    assert start is not None
    part = frame.examples[: trained_to(claimed, frame)]
    model, learned = fine_tune(start, part, seed=surface.seed + claimed.update_id, clock=time.monotonic)
    folder = world.scratch / f"challenger-{claimed.update_id}"
    towers = learn_to_retrieve(world, claimed, frame)
    if towers is not None:
        towers_artifact.save(towers.carried.towers, folder / towers_artifact.FOLDER, towers.carried.names)
    if start is champion and claimed.parent_version is not None:
        parent = world.loaded[claimed.parent_version].parent
        if not snapshot_due(parent):
            saved = save_delta(difference(start, model, learned.changed), folder, parent=parent)
            return Challenger(model, learned, question, folder, saved, claimed.parent_version, towers)
    return Challenger(model, learned, question, folder, save(model, folder), None, towers)


def learn_to_retrieve(world: World, claimed: Claim, frame: Frame) -> Taught | None:
    """The surface's towers after the training part, where it has some."""
    champion = claimed.parent_version
    return retrieving.learn(
        world.surface,
        None if champion is None or world.surface.towers is None else world.carried(champion),
        frame[: trained_to(claimed, frame)],
        lambda: rehearsed(world, claimed) if champion is not None else frame[:0],
        seed=world.surface.seed + claimed.update_id,
    )


def columns_differ(before: Layout, now: Layout) -> bool:
    """Whether a model would read other columns, by what they mean, than one before."""
    return before.schema_version != now.schema_version and set(before.meanings) != set(now.meanings)


def redesigned(world: World, claimed: Claim, champion: Model) -> Model:
    """A model of the surface's design that has learned up to the window."""
    surface = world.surface
    shape, learning = surface.design.shape, surface.design.learning
    if champion.design.shape == shape and not columns_differ(champion.layout, surface.layout):
        return champion.trained_by(learning)
    new = Model.new(surface.layout, Design(shape, replace(learning, time_budget_s=None)), surface.seed)
    model, _ = fine_tune(new, rehearsed(world, claimed).examples, seed=surface.seed, clock=time.monotonic)
    return model.trained_by(learning)


def rehearsed(world: World, claimed: Claim) -> Frame:
    """What a model of a new shape learns before the window."""
    start = claimed.window.start
    begin = start - world.surface.rehearse
    return sound(world, world.frame(begin, start, known_by=claimed.as_of), begin, start)


def sound(world: World, frame: Frame, start: datetime, end: datetime) -> Frame:
    """What of the frame of ``(start, end]`` no rejected update had: broken data are not learned later either."""
    keep = np.ones(len(frame), dtype=bool)
    for first, last in world.connection.execute(REJECTED, [world.surface.name, start, end]).fetchall():
        keep &= ~frame.table["shown_at"].is_between(first, last, closed="right").to_numpy()
    return Frame(frame.table.filter(keep), frame.examples[np.flatnonzero(keep)], frame.without_row)


def trained_to(claimed: Claim, frame: Frame) -> int:
    """The row at which the training part of a parted frame ends."""
    return int(np.count_nonzero(frame.examples.time <= claimed.window.split.timestamp() + HALF_MICROSECOND))


def judge(
    world: World,
    claimed: Claim,
    promotion: Promotion | None,
    champion: Model | None,
    challenger: Challenger,
    frame: Frame,
    scores: NDArray[np.float64] | None,
    told: Mapping[str, Any],
) -> Judgement:
    """Champion and challenger side by side; drift of the window's data. ``scores``: the champion's, of the window."""
    surface = world.surface
    judged_from = claimed.window.start if surface.judging == "progressive" else claimed.window.split
    candidate = evidence.Candidate(
        window=frame,
        first=0 if surface.judging == "progressive" else trained_to(claimed, frame),
        judging=surface.judging,
        question=challenger.question,
        champion=champion,
        champion_scores=scores,
        challenger=challenger.model,
        learned=challenger.learned,
    )
    figures = {
        **told,
        **evidence.gather(
            candidate,
            background.before(world, claimed, promotion, judged_from),
            contexts=surface.features.contexts,
            fairness=surface.fairness,
            policy=surface.policy,
            seed=claimed.update_id,
            clock=time.perf_counter,
        ),
        **beside_the_log(world, claimed, candidate),
        "weights_sha256": challenger.weights_sha256,
        **({} if challenger.towers is None else {"retrieval": challenger.towers.figures}),
        "freshness_s": (claimed.as_of - claimed.window.split).total_seconds(),
    }
    shown, fixed = drifts(world, claimed, frame, champion or challenger.model, surface)
    if shown is not None:
        figures["drift"] = shown.figures
    if fixed is not None:
        figures["drift_baseline"] = fixed.figures
    return Judgement(figures, shown)


def beside_the_log(world: World, claimed: Claim, candidate: evidence.Candidate) -> dict[str, Any]:
    """What the log can tell beside labels: were features served as it gives them, and what the new order is worth by
    the propensities logged."""
    surface, start, end = world.surface.name, claimed.window.start, claimed.window.end
    rows, scores = candidate.judged()
    part, table = candidate.window.examples[rows], candidate.window.table[rows]
    chances = reranking.propensities(world.connection, surface, start, end, table["impression_id"])
    served = candidate.champion_scores
    return {
        "skew": skew.skew(world.connection, surface, start, end),
        "counterfactual": reranking.ranking_value(
            part.label,
            part.request,
            table["position"].to_numpy(),
            chances,
            challenger=scores,
            champion=None if served is None else served[rows],
        ),
    }


def drifts(
    world: World, claimed: Claim, frame: Frame, model: Model, surface: Surface
) -> tuple[Drift | None, Drift | None]:
    """The window against what the champion learned from (the first window: against its own earlier half), and against
    a baseline that stays: slow drift hides from the first, the hours of the day from the second."""
    recent, fixed, window = background.training_tail(world, claimed), background.baseline(world, claimed), frame
    if recent is None:
        recent, window = frame[: len(frame) // 2], frame[len(frame) // 2 :]
    if not len(recent) or not len(window):
        return None, None
    names = surface.layout.dense
    random = np.random.default_rng(claimed.update_id)
    recent, now = (_sample(part, random) for part in (recent, window))
    shown = drift.important(now.examples.dense, model.score(now.examples), names)

    def columns(part: Frame) -> pl.DataFrame:
        told: dict[str, np.ndarray] = {"prediction": model.score(part.examples), "label": part.examples.label}
        return drift.sample(part.examples.dense, names, told, seed=claimed.update_id, features=shown)

    current = columns(now)
    first = drift.measure(columns(recent), current)
    return first, None if fixed is None else drift.measure(columns(_sample(fixed, random)), current)


def _sample(part: Frame, random: np.random.Generator) -> Frame:
    """As many impressions as the report looks at."""
    if len(part) <= drift.ROWS:
        return part
    rows = np.sort(random.choice(len(part), drift.ROWS, replace=False))
    return Frame(part.table[rows], part.examples[rows], part.without_row)
