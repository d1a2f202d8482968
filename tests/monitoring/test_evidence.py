"""What is gathered of a challenger, on a small world: whatever comes of learning, there are figures and a verdict."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.frames import Frame
from models.learning.learner import TrainingResult, fine_tune
from models.learning.model import Model
from monitoring.evaluation import evaluate as evidence
from monitoring.evaluation.evaluate import Anchor, Before, Candidate, Judging
from monitoring.evaluation.process_record import Record
from monitoring.gate import decide as gate
from monitoring.gate.policy import Policy
from monitoring.records.evidence_store import canonical, steady
from tests.models.clickworld import LAYOUT, clicks, no_time
from tests.models.designs import but, design_of

START = datetime(2026, 3, 1, tzinfo=UTC)
DESIGN = design_of(hidden=(8,), batch_requests=64, time_budget_s=None)


def frame_of(requests: int, seed: int) -> Frame:
    examples = clicks(requests, seed=seed)
    table = pl.DataFrame(
        {
            "impression_id": [f"i{row}" for row in range(len(examples))],
            "item_id": [f"a{item}" for item in examples.ids[:, 0]],
            "shown_at": [START + timedelta(seconds=float(second)) for second in examples.time],
            "context": [f'{{"place": "{place}"}}' for place in examples.ids[:, 2]],
        }
    )
    return Frame(table, examples, 0)


@pytest.fixture(scope="module")
def champion() -> Model:
    return fine_tune(Model.new(LAYOUT, DESIGN, 0), clicks(1_000, seed=1), seed=0, clock=no_time)[0]


@pytest.fixture(scope="module")
def window() -> Frame:
    return frame_of(500, seed=2)


@pytest.fixture(scope="module")
def learned(champion: Model, window: Frame) -> tuple[Model, TrainingResult]:
    return fine_tune(champion, window.examples, seed=0, clock=no_time)


def broken(model: Model) -> Model:
    """The model with a weight that is no number."""
    copy = model.copy()
    next(iter(copy.network.parameters())).data.fill_(float("nan"))
    return copy


def figures_of(
    window: Frame,
    champion: Model | None,
    challenger: Model,
    learned: TrainingResult,
    judging: Judging,
    before: Before | None = None,
) -> dict[str, Any]:
    candidate = Candidate(
        window=window,
        first=0 if judging == "progressive" else 2_000,
        judging=judging,
        question="not_worse",
        champion=champion,
        champion_scores=champion.score(window.examples) if champion else None,
        challenger=challenger,
        learned=learned,
    )
    gathered = evidence.gather(
        candidate,
        before or Before(Record(), champion="7", standard="7"),
        policy=Policy(),
        contexts=("place",),
        seed=1,
        clock=time.perf_counter,
    )
    return {"impressions": len(window), "checks": [], **gathered}


@pytest.mark.parametrize("judging", ["progressive", "tail"])
def test_a_challenger_that_broke_while_it_learned_is_rejected(
    judging: Judging, champion: Model, window: Frame, learned: tuple[Model, TrainingResult]
) -> None:
    model, told = learned
    half = np.where(np.arange(len(window)) < 1_000, told.predicted, np.nan)
    figures = figures_of(window, champion, broken(model), replace(told, predicted=half), judging)
    verdict = gate.decide(Policy(), figures)
    assert verdict.verdict == "reject"
    assert "not a number" in verdict.reasons[0]


@pytest.mark.parametrize("first", [True, False])
def test_weights_that_broke_with_the_last_batch_are_rejected_although_each_prediction_before_was_sound(
    first: bool, champion: Model, window: Frame, learned: tuple[Model, TrainingResult]
) -> None:
    model, told = learned
    serving = None if first else champion
    verdict = gate.decide(Policy(), figures_of(window, serving, broken(model), told, "progressive"))
    assert verdict.verdict == "reject"
    assert "would go live" in verdict.reasons[0]


def test_what_learning_did_not_get_to_is_not_judged(champion: Model, window: Frame) -> None:
    ticks = iter(range(1_000))
    hurried = champion.copy()
    hurried.design = but(DESIGN, time_budget_s=4.0)
    model, told = fine_tune(hurried, window.examples, seed=0, clock=lambda: float(next(ticks)))
    assert told.stopped == "time"
    assert 0 < told.reached < len(window)
    assert np.isfinite(told.predicted).sum() == told.reached
    figures = figures_of(window, champion, model, told, "progressive")
    assert figures["quality"]["impressions"] == told.reached


def test_an_older_champion_that_predicts_no_number_is_left_out(
    champion: Model, window: Frame, learned: tuple[Model, TrainingResult]
) -> None:
    anchors = [Anchor("a day ago", "5", broken(champion)), Anchor("a week ago", "3", champion)]
    before = Before(Record(), anchors=anchors, champion="7", standard="5")
    figures = figures_of(window, champion, *learned, "progressive", before)
    assert [row["version"] for row in figures["anchors"]] == ["3"]
    gate.decide(Policy(), figures)


def test_the_same_window_in_another_order_has_the_same_head() -> None:
    items = pl.Series("item_id", [f"a{row % 40}" for row in range(400)])
    heads = {
        frozenset(shuffled.filter(pl.Series(evidence.head(shuffled))))
        for shuffled in (items.shuffle(seed=seed) for seed in range(5))
    }
    assert len(heads) == 1
    assert len(next(iter(heads))) == 8


def test_the_same_candidate_gives_the_same_figures(
    champion: Model, window: Frame, learned: tuple[Model, TrainingResult]
) -> None:
    first, again = (steady(figures_of(window, champion, *learned, "progressive")) for _ in range(2))
    assert canonical(first) == canonical(again)
