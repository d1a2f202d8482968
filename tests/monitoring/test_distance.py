"""Distributions of scores: shown to be further apart than is allowed, at all looks together, and users not counted
twice."""

import math

import numpy as np
import pytest

from monitoring.statistics.distance import Distance, distance
from monitoring.statistics.split import independent

BINS = np.linspace(0, 1, 21)


def test_distributions_that_are_as_far_apart_as_allowed_are_seldom_shown_to_be_further() -> None:
    """600 pairs, 0.2 apart at one edge; looked at fifty times."""
    random, each = np.random.default_rng(2), 40
    control, ours = np.full(20, 0.05), np.full(20, 0.05)
    ours[:10], ours[10:] = 0.03, 0.07
    strayed = naive = 0
    for _ in range(600):
        mine, theirs = (random.multinomial(each, p, 50).cumsum(axis=0) for p in (ours, control))
        shown = [
            distance(a.tolist(), n, b.tolist(), n, level=0.05, tuned_for=2_000)
            for a, b, n in zip(mine, theirs, each * np.arange(1, 51), strict=True)
        ]
        strayed += any(look.at_least > 0.2 for look in shown)
        naive += any(look.found > 0.2 for look in shown)
    assert strayed / 600 <= 0.05
    assert naive / 600 > 0.9


@pytest.mark.parametrize("constant", [0.0, 0.5])
def test_one_score_for_all_is_found_from_a_few_hundred_users_on(constant: float) -> None:
    random = np.random.default_rng(4)
    scores = np.histogram(random.beta(2, 8, 400), BINS)[0].tolist()
    flat = np.histogram(np.full(400, constant), BINS)[0].tolist()
    assert distance(flat, 400, scores, 400, level=0.001, tuned_for=20_000).at_least > 0.2
    again = np.histogram(random.beta(2, 8, 400), BINS)[0].tolist()
    assert distance(again, 400, scores, 400, level=0.001, tuned_for=20_000).at_least < 0


def test_impressions_of_one_user_are_worth_one() -> None:
    """A hundred users, each with a hundred impressions of one score."""
    random = np.random.default_rng(6)
    for _ in range(20):
        ours, theirs = (np.histogram(np.repeat(random.random(100), 100), BINS)[0].tolist() for _ in range(2))
        worth = independent(10_000, 100 * 100**2)
        assert worth == 100
        assert distance(ours, worth, theirs, worth, level=0.05, tuned_for=1_000).at_least <= 0


def test_without_scores_nothing_is_known() -> None:
    assert distance([0] * 20, 0.0, [1] * 20, 20.0, level=0.05, tuned_for=10) == Distance(0.0, -math.inf)
