"""Two models on a log whose places matter: orders are judged without the place, predictions with it, and both alike."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from models.frames import Frame
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.learning.scores import Scores
from monitoring.checks.limits import Limits
from monitoring.evaluation.compare import measure, paired
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.evaluate import Trained, evaluate, remeasure
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.history import History
from monitoring.evaluation.window import Champion, Terms, Window, check
from tests.worlds.designs import but, design_of
from tests.worlds.examples import no_time
from tests.worlds.positions import LAYOUT, LOG_ODDS, lists

START, REQUESTS = datetime(2026, 3, 1, tzinfo=UTC), 200
DESIGN = design_of(hidden=(8,), embedding=4, time_budget_s=None)


def window_of() -> Window:
    examples = lists(REQUESTS, seed=3, of_place=LOG_ODDS).examples
    examples = replace(examples, time=START.timestamp() + 1 + examples.time)
    table = pl.DataFrame(
        {
            "impression_id": [f"i{row}" for row in range(len(examples))],
            "request_id": [f"r{code}" for code in examples.request],
            "user_id": [f"u{user}" for user in examples.ids[:, 1]],
            "item_id": [f"a{row}" for row in range(len(examples))],
            "position": examples.positions,
            "shown_at": [datetime.fromtimestamp(float(second), UTC) for second in examples.time],
            "context": ["{}"] * len(examples),
            "label": examples.label,
            "schema_version": [LAYOUT.schema_version] * len(examples),
        }
    )
    end = START + timedelta(seconds=REQUESTS)
    terms = Terms("progressive", LAYOUT.dense, LAYOUT.schema_version, {}, Limits(), margin=0.01)
    return Window(7, START, end, end, end + timedelta(minutes=10), Frame(table, examples, 0), terms)


def trained(term: bool) -> Model:
    design = DESIGN if term else but(DESIGN, position_term=False)
    examples = lists(600, seed=1, of_place=LOG_ODDS).examples
    return fine_tune(Model.new(LAYOUT, design, 0), examples, seed=0, clock=no_time)[0]


@pytest.fixture(scope="module")
def knowing() -> Model:
    return trained(term=True)


def judged(window: Window, champion: Model, challenger: Model) -> tuple[Evidence, Trained]:
    tuned, learned = fine_tune(challenger, window.training_part.examples, seed=0, clock=no_time)
    made = Trained(tuned, learned, "not_worse", Cost(1.0, None, 1_000, None, candidates=50, score_p99_ms=2.0))
    named = Champion("7", champion)
    return evaluate(check(window, named, History()), named, made, History()), made


def test_labels_are_predicted_where_they_came_and_the_order_is_the_one_that_serves(knowing: Model) -> None:
    window = window_of()
    examples = window.frame.examples
    evidence, made = judged(window, knowing, knowing)
    served, compared = Scores.of(knowing, examples), evidence.comparison
    assert compared is not None
    assert served.as_shown is not None
    assert made.learned.as_shown is not None
    assert compared.gain == paired(examples.label, examples.request, served.as_shown, made.learned.as_shown)
    fixed = measure(examples.label, examples.request, served.ranked)
    for name in ("auc", "mrr", "ndcg", "hit_at_1"):
        assert getattr(compared.champion, name) == pytest.approx(getattr(fixed, name)), name
    assert compared.champion.log_loss is not None
    assert fixed.log_loss is not None
    assert compared.champion.log_loss < fixed.log_loss
    assert evidence.prequential is not None
    assert evidence.prequential.log_loss == pytest.approx(compared.champion.log_loss)


def test_knowing_the_place_is_no_merit_beside_a_model_that_does_not(knowing: Model) -> None:
    window = window_of()
    examples, plain = window.frame.examples, trained(term=False)
    evidence, made = judged(window, plain, knowing)
    assert evidence.comparison is not None
    expected = paired(examples.label, examples.request, plain.score(examples), made.learned.predicted)
    assert evidence.comparison.gain == expected
    fresh = remeasure(window, Champion("7", plain), knowing).comparison
    assert fresh is not None
    assert fresh.gain == paired(examples.label, examples.request, plain.score(examples), knowing.score(examples))
    first = remeasure(window, None, knowing).comparison
    assert first is not None
    base = np.full(len(examples), examples.label.astype(np.float64).mean())
    assert first.gain == paired(examples.label, examples.request, base, knowing.score(examples))
