"""Few of all promotions are false, however many candidates are tested, and power does not run out."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.statistics.error_control import BEFORE_FIRST, DECAY, DELAY, PastTests, _weight, lord


def test_the_weights_of_all_tests_sum_to_one_at_most() -> None:
    first = sum(_weight(number) for number in range(1, 200_000))
    rest = (200_000 + DELAY) * _weight(200_000) / (DECAY - 1)  # the integral of what follows
    assert 0.98 < first + rest <= 1.0


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=60))
def test_what_was_promoted_is_counted_by_the_number_of_its_test(promotions: list[bool]) -> None:
    past = PastTests()
    for promoted in promotions:
        past = past.add(promoted=promoted)
    assert past.tested == len(promotions)
    assert past.promoted == tuple(number for number, promoted in enumerate(promotions, 1) if promoted)
    assert 0 < lord(past, 0.4) < 1


def test_the_first_level_is_the_share_of_the_risk_that_is_spent_before_a_promotion() -> None:
    assert lord(PastTests(), 0.05) == pytest.approx(BEFORE_FIRST * 0.05 * _weight(1))


def test_without_a_promotion_all_levels_together_stay_within_the_risk() -> None:
    past, spent = PastTests(), 0.0
    for _ in range(5_000):
        spent += lord(past, 0.05)
        past = past.add(promoted=False)
    assert spent <= 0.05


def test_the_level_falls_slowly_and_rises_with_promotions() -> None:
    levels, past = [], PastTests()
    for _ in range(500):
        levels.append(lord(past, 0.05))
        past = past.add(promoted=False)
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] > levels[0] / 8
    before = lord(past, 0.05)
    for _ in range(3):
        past = past.add(promoted=True)
    assert lord(past, 0.05) > 2 * before


def test_of_the_promoted_the_promised_share_is_not_better() -> None:
    """One in ten is better by four standard errors, the others equal: the share of false promotions over 60 sequences
    of tests."""
    random = np.random.default_rng(3)
    tail = NormalDist().cdf
    shares, found, truly = [], 0, 0
    for _ in range(60):
        good = random.random(400) < 0.1
        past, false, promoted = PastTests(), 0, 0
        for better, z in zip(good, random.normal(size=400) + 4 * good, strict=True):
            passes = tail(-z) <= lord(past, 0.1)
            past = past.add(promoted=passes)
            promoted, false = promoted + passes, false + (passes and not better)
        shares.append(false / max(promoted, 1))
        found, truly = found + promoted - false, truly + int(good.sum())
    assert np.mean(shares) <= 0.1
    assert found / truly > 0.5
