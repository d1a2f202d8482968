"""Intervals are wrong as often as they say, for measures of one model and for the difference of two."""

import numpy as np
import pytest

from models import metrics
from models.ranking_metrics import LabelledScores
from monitoring.measures import KEYS
from monitoring.statistics.bootstrap import Drawn, Interval, bootstrap
from tests.models import reference_metrics as reference
from tests.worlds.windows import Window, window

POPULATION = 40_000
"""Requests of the world that samples are drawn from; its own measures are the truth."""


@pytest.fixture(scope="module")
def world() -> Window:
    return window(0, requests=POPULATION)


def drawn(part: Window, champion: np.ndarray, challenger: np.ndarray, requests: int, seed: int) -> Drawn:
    """Both models on some requests of the world."""
    chosen = np.random.default_rng(seed).choice(POPULATION, requests, replace=False)
    rows = (chosen[:, None] * 5 + np.arange(5)).ravel()
    request = np.repeat(np.arange(requests), 5)
    return bootstrap([LabelledScores.of(p[rows], part.label[rows], request) for p in (champion, challenger)], seed=seed)


def test_the_intervals_cover_the_truth_19_times_in_20(world: Window) -> None:
    champion, challenger = world.blurred(0.7, 2), world.blurred(0.2, 1)
    request = np.repeat(np.arange(POPULATION), 5)
    known = bootstrap([LabelledScores.of(p, world.label, request) for p in (champion, challenger)], seed=0, draws=0)
    both, one, worlds = dict.fromkeys(KEYS, 0), dict.fromkeys(KEYS, 0), 120
    for seed in range(worlds):
        sample = drawn(world, champion, challenger, 300, seed)
        for name in KEYS:
            before, now = known.values[name][0]
            both[name] += within(sample.interval(name), now - before)
            one[name] += within(sample.interval(name, 1), now)
    # 95 % of 120 is 114; fewer than 104 would come once in some thousand times.
    assert min(both.values()) >= 104, both
    assert min(one.values()) >= 104, one
    assert sum(both.values()) < worlds * len(KEYS), "never wrong: too wide"


def within(interval: Interval, truth: float) -> bool:
    assert interval.lower is not None
    assert interval.upper is not None
    return interval.lower <= truth <= interval.upper


def test_chance_does_not_hide_a_fault_in_calibration(world: Window) -> None:
    """20 bins of 75 impressions: noise alone gives the faultless champion an error as large as the challenger's."""
    odds = np.log(world.truth / (1 - world.truth))
    challenger = 1 / (1 + np.exp(-(odds + 0.2)))
    errors = [reference.calibration_error(p, world.label) for p in (world.truth, challenger)]
    covered = sum(
        within(drawn(world, world.truth, challenger, 300, seed).interval("calibration_error"), errors[1] - errors[0])
        for seed in range(60)
    )
    assert covered >= 50


def test_the_interval_of_the_log_loss_is_as_wide_as_theory_says() -> None:
    part = window(requests=4000)
    champion, challenger = part.blurred(0.5, 1), part.blurred(0.2, 2)
    scored = [LabelledScores.of(p, part.label, part.request) for p in (champion, challenger)]
    interval = bootstrap(scored, seed=3).interval("log_loss")
    pair = metrics.paired_difference(champion, challenger, part.label, part.request)
    error = (pair.upper - pair.mean) / metrics.ONE_SIDED_95
    assert interval.lower is not None
    assert interval.upper is not None
    assert interval.upper - interval.lower == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_blocks_of_requests_do_not_show() -> None:
    part = window(requests=20_000)
    scored = LabelledScores.of(part.truth, part.label, part.request)
    measured = bootstrap([scored], seed=0, draws=0)
    assert measured.value("auc", 0) == pytest.approx(metrics.auc(part.truth, part.label))
    assert measured.value("ndcg", 0) == pytest.approx(reference.ndcg(part.truth, part.label, part.request))
    assert measured.value("calibration_error", 0) == pytest.approx(reference.calibration_error(part.truth, part.label))


def test_models_alike_differ_by_nothing_and_each_keeps_its_own_interval() -> None:
    part = window()
    scored = LabelledScores.of(part.truth, part.label, part.request)
    measured = bootstrap([scored, scored], seed=0)
    for name in KEYS:
        assert measured.interval(name) == Interval(), f"{name}: bounds without width say nothing"
        assert within(measured.interval(name, 1), measured.value(name, 1) or 0.0)
        assert measured.interval(name, 1).lower != measured.interval(name, 1).upper


def test_nine_requests_and_labels_of_one_class_give_no_interval() -> None:
    part = window(requests=9)
    scored = LabelledScores.of(part.truth, part.label, part.request)
    assert bootstrap([scored], seed=0).interval("log_loss", 0) == Interval()
    part = window()
    scored = LabelledScores.of(part.truth, np.zeros(2400), part.request)
    measured = bootstrap([scored], seed=0)
    for name in ("auc", "grouped_auc", "normalised_entropy", "ndcg", "mrr"):
        assert measured.value(name, 0) is None
        assert measured.interval(name, 0) == Interval()
    assert measured.interval("log_loss", 0) != Interval()
