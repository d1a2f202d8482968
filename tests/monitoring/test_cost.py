"""What a model costs is what its files hold, and what its slow calls take."""

import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.versions.artifact import WEIGHTS, save
from monitoring.evaluation.cost import TIMED_CANDIDATES, WARM_UP, measure, model_bytes, scoring_p99_ms
from tests.worlds.examples import LAYOUT, clicks, small_model

CLICKS = clicks(200, seed=0)


def test_a_models_bytes_are_those_of_its_weights_on_disk(tmp_path: Path) -> None:
    model = small_model(LAYOUT)
    save(model, tmp_path)
    on_disk = (tmp_path / WEIGHTS).stat().st_size
    assert 0 <= on_disk - model_bytes(model) < 10_000, "the names and shapes of the arrays come on top"
    assert model_bytes(model) > model_bytes(Model.new(LAYOUT, model.design, seed=0)), "admitted ids have rows"


def test_one_slow_call_in_a_hundred_is_at_the_99th_percentile() -> None:
    spent, sizes = [0.0], list[int]()
    slow = {WARM_UP + call for call in (3, 77, 140)}

    def score(rows: Examples) -> NDArray[np.float64]:
        spent[0] += 0.5 if len(sizes) < WARM_UP or len(sizes) in slow else 0.002
        sizes.append(len(rows))
        return np.zeros(len(rows))

    took = scoring_p99_ms(score, CLICKS, rows=20, clock=lambda: spent[0])
    assert took is not None
    assert took > 400
    assert set(sizes) == {20}
    steady = scoring_p99_ms(lambda rows: np.zeros(len(rows)), CLICKS, rows=20, clock=count(step=0.003).__next__)
    assert steady == pytest.approx(3)


def test_fewer_examples_than_a_call_takes_show_nothing() -> None:
    assert scoring_p99_ms(lambda rows: np.zeros(len(rows)), CLICKS[:5], rows=20, clock=lambda: 0.0) is None


def test_a_real_model_is_timed_in_the_clocks_seconds() -> None:
    took = scoring_p99_ms(small_model(LAYOUT).score, CLICKS, rows=20, clock=time.perf_counter, calls=30)
    assert took is not None
    assert 0 < took < 5_000


def test_the_cost_of_a_challenger_stands_beside_the_champions_size() -> None:
    champion = small_model(LAYOUT)
    seconds = count(step=0.5)
    model, learned = fine_tune(champion, CLICKS, seed=0, clock=lambda: float(next(seconds)))
    cost = measure(model, learned, champion, CLICKS, time.perf_counter)
    assert (cost.bytes, cost.champion_bytes) == (model_bytes(model), model_bytes(champion))
    assert cost.train_s == learned.seconds > 0
    assert cost.examples_per_s == pytest.approx(learned.examples / learned.seconds)
    assert cost.candidates == TIMED_CANDIDATES
    assert cost.score_p99_ms is not None
    first = measure(model, learned, None, CLICKS[:10], time.perf_counter)
    assert (first.champion_bytes, first.score_p99_ms) == (None, None)
