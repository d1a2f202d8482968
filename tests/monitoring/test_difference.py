"""What one arm's clicks per request are of the other's: bounds that hold at every look, whoever comes back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

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


@dataclass(frozen=True)
class Strayed:
    """Shares of pairs of equal arms where one is ever called better: by our bound, and by a plain test at each look."""

    ours: float
    plain: float


def strayed(looks: Callable[[np.random.Generator], Sequence[Ratio]], *, tuned_for: int) -> Strayed:
    """At level 5 %, of 300 pairs of arms whose looks are drawn."""
    random, ours, plain = np.random.default_rng(8), 0, 0
    for _ in range(300):
        pairs = list(zip(looks(random), looks(random), strict=True))
        ours += any(lift(*pair, 0.05, tuned_for=tuned_for).lower > 1 for pair in pairs)
        plain += any(
            one.n >= FEWEST_FOR_NORMAL
            and one.top / one.units - other.top / other.units > 1.645 * math.hypot(one.error, other.error)
            for one, other in pairs
        )
    return Strayed(ours / 300, plain / 300)


def arriving(random: np.random.Generator) -> list[Ratio]:
    """6,000 users who come once each, a look after every 150."""
    clicks = random.binomial(1, 0.1, 6_000)
    return [Ratio.of(clicks[:end]) for end in range(150, 6_001, 150)]


def returning(random: np.random.Generator, *, users: int, rate: float, alike: bool, by_users: bool) -> list[Ratio]:
    """Users who are there from the beginning and come back, looked at ever more seldom; each with a rate of clicks of
    its own, or `alike`. `by_users`: their clicks by user and not by request."""
    own = rate * (np.ones(users) if alike else random.gamma(2.0, 0.5, users))
    times = np.unique(np.geomspace(1, 1e6, 120).astype(int))
    clicks = random.poisson(own * np.diff(times, prepend=0)[:, None]).cumsum(axis=0)
    return [Ratio.of(each, np.full(users, 1.0 if by_users else time)) for each, time in zip(clicks, times, strict=True)]


def test_equal_arms_are_seldom_shown_to_differ_at_any_look() -> None:
    found = strayed(arriving, tuned_for=2_000)
    assert found.ours <= 0.05
    assert found.plain > 0.2


@pytest.mark.parametrize("alike", [True, False])
def test_users_who_come_back_are_no_danger_where_the_clock_counts_requests(alike: bool) -> None:
    looks = partial(returning, users=400, rate=0.05, alike=alike, by_users=False)
    assert strayed(looks, tuned_for=400).ours <= 0.05


def test_a_clock_that_counts_users_stands_still_while_they_come_back_and_gives_false_alarms() -> None:
    looks = partial(returning, users=400, rate=0.05, alike=True, by_users=True)
    assert strayed(looks, tuned_for=400).ours > 0.065


@pytest.mark.parametrize(("more", "shown"), [(1.0, 0.0), (1.5, 1.0)])
def test_half_as_many_clicks_again_are_shown_with_ten_thousand_requests(more: float, shown: float) -> None:
    random = np.random.default_rng(9)
    found = []
    for _ in range(100):
        ours, control = (Ratio.of(random.binomial(2, p, 5_000), np.full(5_000, 2)) for p in (0.05 * more, 0.05))
        found.append(lift(ours, control, 0.05, tuned_for=20_000).lower > 1)
    assert np.mean(found) == pytest.approx(shown, abs=0.05)
