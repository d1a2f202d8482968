"""Users, clicks and preferences that fall to one of two sides: evidence that holds however often one looks."""

import math

import numpy as np
import pytest
from scipy import stats

from monitoring.statistics import split

LEVEL = 0.05
ENOUGH = -math.log(LEVEL)


def paths(share: float, *, runs: int, events: int, looks: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """[runs, looks] events of the first side, [looks] of both."""
    each = events // looks
    counts = np.random.default_rng(seed).binomial(each, share, (runs, looks)).cumsum(axis=1)
    return counts, each * np.arange(1, looks + 1)


def ever(evidence: np.ndarray) -> float:
    """The share of runs [runs, looks] that are found out at some look."""
    return float((evidence >= ENOUGH).any(axis=1).mean())


@pytest.mark.parametrize("side", ["both", "above", "below"])
@pytest.mark.parametrize("share", [0.5, 0.02])
def test_a_right_split_is_seldom_found_wrong_at_any_of_two_hundred_looks(side, share: float) -> None:
    counts, of = paths(share, runs=800, events=4_000, looks=200)
    assert ever(split.log_evidence(counts, of, share, side=side)) <= LEVEL + 0.015
    fixed = stats.norm.sf(abs(counts - of * share) / np.sqrt(of * share * (1 - share))) * 2 <= LEVEL
    assert fixed.any(axis=1).mean() > 0.25  # what a plain test at each look would have come to


def test_a_share_on_the_allowed_side_is_no_alarm_and_one_on_the_other_is() -> None:
    counts, of = paths(0.40, runs=500, events=20_000, looks=200)
    assert ever(split.log_evidence(counts, of, 0.45, side="above")) == 0.0
    assert ever(split.log_evidence(counts, of, 0.45, side="below")) == 1.0


def test_one_percent_more_users_in_one_arm_are_found_before_two_million() -> None:
    counts, of = paths(1.01 / 2.01, runs=200, events=2_000_000, looks=400)
    found = split.log_evidence(counts, of, 0.5, strength=1_000.0) >= -math.log(0.001)
    assert found.any(axis=1).mean() > 0.95
    assert 300_000 < np.median(of[found.argmax(axis=1)]) < 1_200_000


def test_the_mixture_is_the_integral_that_it_claims_to_be() -> None:
    """Against the integral over shares above a half, done by numbers."""
    shares = np.linspace(0.5, 1, 200_001)[1:-1]
    prior = stats.beta.pdf(shares, 50, 50)
    wanted = np.trapezoid(prior * (shares / 0.5) ** 60 * ((1 - shares) / 0.5) ** 40, shares)
    wanted /= np.trapezoid(prior, shares)
    assert float(split.log_evidence(60, 100, 0.5, side="above")) == pytest.approx(math.log(wanted), abs=1e-4)


def test_nothing_seen_is_no_evidence_and_a_share_must_be_one() -> None:
    assert float(split.log_evidence(0, 0, 0.5)) == 0.0
    assert split.p_value(0.0) == 1.0
    assert split.p_value(math.log(20)) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="between 0 and 1"):
        split.log_evidence(1, 2, 1.0)


def test_odds_lie_within_their_bounds_at_all_looks() -> None:
    """Interleavings where two of three users prefer the canary's team, looked at every forty users."""
    wins, of = paths(2 / 3, runs=50, events=1_000, looks=25)
    strayed = sum(
        any(split.odds(int(won), int(all_ - won), LEVEL)[0] > 2.0 for won, all_ in zip(run, of, strict=True))
        for run in wins
    )
    assert strayed <= 0.05 * 50 + 3
    lower, upper = zip(*(split.odds(int(run[-1]), int(of[-1] - run[-1]), LEVEL) for run in wins), strict=True)
    assert np.mean([low > 1 for low in lower]) > 0.99  # a thousand users show who is better
    assert np.median(upper) < 2.7
    assert split.odds(0, 0, LEVEL) == (0.0, math.inf)
    assert split.odds(3, 5, LEVEL) == pytest.approx(tuple(1 / each for each in reversed(split.odds(5, 3, LEVEL))))


def test_clicks_of_users_who_click_a_lot_are_worth_less() -> None:
    """500 users, each with a rate of clicks of their own, in arms by a coin; their clicks counted as they arrive."""
    random = np.random.default_rng(5)
    runs, users, looks = 400, 500, 60
    rates = random.gamma(0.3, 1 / 0.3, (runs, users, 1))
    clicks = random.poisson(rates * 0.3, (runs, users, looks)).cumsum(axis=2)
    ours = random.random((runs, users, 1)) < 0.5
    count, all_, squared = (clicks * ours).sum(axis=1), clicks.sum(axis=1), (clicks**2).sum(axis=1)
    worth = np.array(
        [[split.independent(a, s) for a, s in zip(*row, strict=True)] for row in zip(all_, squared, strict=True)]
    )
    scale = worth / np.maximum(all_, 1)
    assert ever(split.log_evidence(count * scale, worth, 0.5, side="below")) <= LEVEL + 0.015
    assert ever(split.log_evidence(count, all_, 0.5, side="below")) > 0.2  # each click for one of its own
    lost = random.binomial(clicks[..., -1] * ours[..., 0], 0.5).sum(axis=1)  # the last look of a canary that loses half
    kept = (clicks[..., -1] * ~ours[..., 0]).sum(axis=1)
    assert np.median(lost / kept) == pytest.approx(0.5, abs=0.05)
