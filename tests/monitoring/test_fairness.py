"""Who is shown and how wrongly each is predicted, under the champion's order and under the challenger's."""

import numpy as np
import pytest

from models.ranking_metrics import LabelledScores
from monitoring.evaluation.fairness import Ratio, treatment
from monitoring.statistics.bootstrap import Interval
from tests.worlds.windows import window


def test_a_challenger_that_hides_a_publisher_shows() -> None:
    part = window(requests=1000)
    small = np.random.default_rng(5).random(5000) < 0.3
    challenger = np.where(small, part.truth * 0.2, part.truth)
    found = treatment(
        {"publisher": np.where(small, "small", "large")},
        before=LabelledScores.of(part.truth, part.label, part.request),
        now=LabelledScores.of(challenger, part.label, part.request),
    )
    large, hidden = found
    assert (hidden.name, hidden.impressions) == ("publisher = small", small.sum())
    assert hidden.impressions_share == pytest.approx(small.mean())
    assert hidden.clicks_share == pytest.approx(part.label[small].sum() / part.label.sum())
    assert large.exposure is not None
    assert hidden.exposure is not None
    assert hidden.exposure.champion == pytest.approx(0.3, abs=0.03)
    assert hidden.exposure.interval.upper is not None
    assert hidden.exposure.interval.upper < -0.04
    assert large.exposure.challenger + hidden.exposure.challenger == pytest.approx(1)
    assert large.exposure.difference == pytest.approx(-hidden.exposure.difference)
    assert hidden.error.champion == pytest.approx((part.truth - part.label)[small].mean())
    assert hidden.error.interval.upper is not None
    assert hidden.error.interval.upper < -0.1
    assert (large.error.difference, large.error.interval) == (0, Interval(0, 0))


def test_an_attribute_of_users_has_errors_and_no_exposure() -> None:
    part = window()
    age = np.where(part.request % 2 == 0, "young", "old")
    scored = LabelledScores.of(part.truth, part.label, part.request)
    found = treatment({"age": age}, before=scored, now=scored)
    assert [row.exposure for row in found] == [None, None]
    assert all(abs(row.error.champion) < 0.05 for row in found)


def test_the_interval_of_a_change_in_exposure_is_wrong_about_once_in_20() -> None:
    large = window(requests=30_000)
    chosen = np.random.default_rng(2).random(len(large.label)) < 0.3
    challenger = large.blurred(0.5, 1) + 0.1 * chosen

    def exposure(rows: np.ndarray) -> Ratio:
        label, request = large.label[rows], large.request[rows]
        before, now = (LabelledScores.of(scores[rows], label, request) for scores in (large.truth, challenger))
        found = treatment({"chosen": chosen[rows]}, before=before, now=now)
        given = next(row for row in found if row.value == "true").exposure
        assert given is not None
        return given

    truth = exposure(np.arange(len(large.label))).difference
    covered = 0
    for seed in range(100):
        requests = np.sort(np.random.default_rng(seed).choice(30_000, 200, replace=False))
        interval = exposure((requests[:, None] * 5 + np.arange(5)).ravel()).interval
        assert interval.lower is not None
        assert interval.upper is not None
        covered += interval.lower <= truth <= interval.upper
    assert 87 <= covered <= 99
