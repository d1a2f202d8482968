"""Few of all promotions are false, however many candidates are asked of, and power does not run out."""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.statistics.error_control import DECAY, DELAY, Past, _weight, e_lond, lord, saffron

Control = Callable[[Past, float], float]
controls = pytest.mark.parametrize("control", [lord, saffron, e_lond])


def test_the_weights_of_all_tests_sum_to_one_at_most() -> None:
    first = sum(_weight(number) for number in range(1, 200_000))
    rest = (200_000 + DELAY) * _weight(200_000) / (DECAY - 1)  # the integral of what follows
    assert 0.98 < first + rest <= 1.0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=60), st.sampled_from([lord, saffron, e_lond]))
def test_a_past_goes_into_json_and_back(strengths: list[float], control: Control) -> None:
    past = Past()
    for strength in strengths:
        past = past.add(strength, promoted=strength <= control(past, 0.4))
    assert Past.from_dict(past.as_dict()) == past
    assert past.tested == len(strengths)
    assert 0 < control(past, 0.4) < 1


@controls
def test_without_a_promotion_all_levels_together_stay_within_the_risk(control: Control) -> None:
    past, spent = Past(), 0.0
    for _ in range(5_000):
        spent += control(past, 0.05)
        past = past.add(0.9, promoted=False)
    assert spent <= 0.05


@controls
def test_the_level_falls_slowly_and_rises_with_promotions(control: Control) -> None:
    levels, past = [], Past()
    for _ in range(500):
        levels.append(control(past, 0.05))
        past = past.add(0.9, promoted=False)
    assert levels[-1] > levels[0] / 8
    before = control(past, 0.05)
    for _ in range(3):
        past = past.add(0.0, promoted=True)
    assert control(past, 0.05) > 2 * before


def test_small_p_values_that_do_not_suffice_cost_saffron_nothing() -> None:
    cheap = costly = Past()
    for _ in range(400):
        cheap, costly = cheap.add(0.3, promoted=False), costly.add(0.9, promoted=False)
    assert saffron(cheap, 0.05) == saffron(Past(), 0.05) > saffron(costly, 0.05)
    assert lord(cheap, 0.05) == lord(costly, 0.05)


@pytest.mark.parametrize("control", [lord, saffron])
def test_of_the_promoted_the_promised_share_is_not_better(control: Control) -> None:
    """One in ten is better by four standard errors, the others equal: the share of false promotions over 60 runs."""
    random = np.random.default_rng(3)
    tail = NormalDist().cdf
    shares, found, truly = [], 0, 0
    for _ in range(60):
        good = random.random(400) < 0.1
        past, false, promoted = Past(), 0, 0
        for better, z in zip(good, random.normal(size=400) + 4 * good, strict=True):
            strength = tail(-z)
            passes = strength <= control(past, 0.1)
            past = past.add(strength, promoted=passes)
            promoted, false = promoted + passes, false + (passes and not better)
        shares.append(false / max(promoted, 1))
        found, truly = found + promoted - false, truly + int(good.sum())
    assert np.mean(shares) <= 0.1
    assert found / truly > 0.5
