"""What one arm's clicks per request are of the other's: bounds that hold at every look, whoever comes back."""

import math

import numpy as np
import pytest

from monitoring.statistics.difference import Lift, Ratio, lift
from monitoring.statistics.sequential import FEWEST_FOR_NORMAL


def test_the_error_of_a_ratio_is_what_it_varies_by() -> None:
    """Users with few and with many requests, whose clicks hang together."""
    random = np.random.default_rng(1)
    drawn = []
    for _ in range(1_500):
        requests = 1 + random.geometric(0.3, 400)
        clicks = random.binomial(requests, random.beta(1, 6, 400))
        drawn.append(Ratio.of(clicks, requests))
    values = np.array([each.value for each in drawn])
    assert np.mean([each.error for each in drawn]) == pytest.approx(values.std(), rel=0.05)
    per_request = math.sqrt(values.mean() * (1 - values.mean()) / np.mean([each.clock for each in drawn]))
    assert values.std() > 1.15 * per_request  # as if requests were drawn, and not users


def test_bounds_are_those_of_the_difference_of_scaled_arms() -> None:
    random = np.random.default_rng(2)
    ours, control = (Ratio.of(random.poisson(rate, 3_000)) for rate in (0.11, 0.1))
    shown = lift(ours, control, 0.05, tuned_for=3_000)
    assert shown.found == pytest.approx(ours.top / control.top)
    reach = []
    for f in (shown.lower, shown.upper):
        apart = ours.top - f * control.top
        reach.append(apart / math.sqrt(ours.error**2 + f**2 * control.error**2))
    assert reach[0] == pytest.approx(-reach[1])
    assert 2.0 < reach[0] < 4.0


def test_too_few_users_or_a_control_without_reward_tell_nothing() -> None:
    few, many = Ratio.of(np.ones(FEWEST_FOR_NORMAL - 1)), Ratio.of(np.r_[np.ones(50), np.zeros(50)])
    assert lift(few, many, 0.05, tuned_for=100) == Lift(2.0)
    assert lift(many, Ratio.of(np.zeros(100)), 0.05, tuned_for=100) == Lift()
    assert lift(Ratio(), Ratio(), 0.05, tuned_for=100) == Lift()
    seldom = Ratio.of(np.r_[np.ones(3), np.zeros(97)])
    assert lift(many, seldom, 0.05, tuned_for=100).upper == math.inf  # the control may be next to 0
    nothing = lift(Ratio.of(np.zeros(500)), Ratio.of(np.r_[np.ones(50), np.zeros(450)]), 0.05, tuned_for=100)
    assert (nothing.lower, nothing.upper) == (0.0, 0.0)
    with pytest.raises(ValueError, match="finite"):
        Ratio.of([1.0, math.nan])


def strayed(share: float, *, runs: int, by_users: bool, returning: bool, users: int, looks: int) -> float:
    """The share of pairs of equal arms that are ever shown to differ at level 5 % a side. Users have a rate of their
    own; they come once, or they are there from the beginning and come back at every look."""
    random, out = np.random.default_rng(8), 0
    for _ in range(runs):
        arms = []
        for _ in range(2):
            rate = share * random.gamma(2.0, 0.5, users)
            if returning:
                clicks = random.poisson(rate, (looks, users)).cumsum(axis=0)
                each = [Ratio.of(clicks[at], np.full(users, 1.0 if by_users else at + 1.0)) for at in range(looks)]
            else:
                clicks = random.poisson(rate)
                ends = users * np.arange(1, looks + 1) // looks
                each = [Ratio.of(clicks[:end]) for end in ends]
            arms.append(each)
        shown = [lift(ours, control, 0.05, tuned_for=2_000) for ours, control in zip(*arms, strict=True)]
        out += any(look.lower > 1 for look in shown)
    return out / runs


def test_equal_arms_are_seldom_shown_to_differ_at_any_look() -> None:
    assert strayed(0.1, runs=500, by_users=False, returning=False, users=6_000, looks=60) <= 0.065


def test_users_who_come_back_are_no_danger_where_the_clock_counts_requests() -> None:
    """A hundred users an arm who come back a hundred times; the clock that counts them stands still."""
    settings = {"runs": 400, "returning": True, "users": 100, "looks": 100}
    assert strayed(0.5, by_users=False, **settings) <= 0.065


@pytest.mark.parametrize(("more", "shown"), [(1.0, 0.0), (1.5, 1.0)])
def test_half_as_many_clicks_again_are_shown_with_ten_thousand_requests(more: float, shown: float) -> None:
    random = np.random.default_rng(9)
    found = []
    for _ in range(100):
        ours, control = (Ratio.of(random.binomial(2, p, 5_000), np.full(5_000, 2)) for p in (0.05 * more, 0.05))
        found.append(lift(ours, control, 0.05, tuned_for=20_000).lower > 1)
    assert np.mean(found) == pytest.approx(shown, abs=0.05)
