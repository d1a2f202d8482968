"""Three numbers of a comparison are enough, they add up, and bounds made from them hold at every look."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from monitoring.statistics.sequential import (
    FEWEST_FOR_NORMAL,
    Moments,
    lower,
    lower_once,
    p_value,
    upper,
    upper_once,
)

values = st.lists(st.floats(-100, 100), min_size=0, max_size=40)


@settings(deadline=None)
@given(values, values, values)
def test_moments_of_parts_are_the_moments_of_the_whole(one: list[float], two: list[float], three: list[float]) -> None:
    whole = Moments.of([*one, *two, *three])
    added = Moments.of(one) + Moments.of(two) + Moments.of(three)
    assert added.n == whole.n
    assert added.mean == pytest.approx(whole.mean, abs=1e-9)
    assert added.variance == pytest.approx(whole.variance, abs=1e-7)


def test_a_gain_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Moments.of([0.1, math.nan])


@settings(deadline=None, max_examples=40)
@example(0.0, 1.0, 25_330, 0.05, 100)
@given(
    st.floats(-1, 1),
    st.floats(1e-3, 10),
    st.integers(FEWEST_FOR_NORMAL, 10**6),
    st.floats(1e-6, 0.9),
    st.integers(100, 10**5),
)
def test_the_lower_bound_is_where_robbins_mixture_reaches_its_level(
    mean: float, variance: float, n: int, alpha: float, tuned_for: int
) -> None:
    """Against the integral over the half-normal prior of the stake, done by numbers."""
    moments = Moments(n, mean, variance)
    bound = lower(moments, alpha, tuned_for)
    z = (mean - bound) / moments.error
    twice = -2 * math.log(2 * 0.05)
    rho = math.sqrt((twice + math.log(twice) + 1) / tuned_for)
    # Beyond either end nothing is left: of the prior, or of the likelihood, which is narrow where n is large.
    stakes = np.linspace(0, min(12 * rho, (max(z, 0) + 12) / math.sqrt(n)), 20_001)
    logs = stakes * z * math.sqrt(n) - stakes**2 * n / 2
    top = logs.max()
    mixed = np.trapezoid(np.exp(logs - top) * 2 * stats.norm.pdf(stakes / rho) / rho, stakes)
    assert top + math.log(mixed) == pytest.approx(-math.log(alpha), abs=1e-3)
    assert upper(moments, alpha, tuned_for) == -lower(-moments, alpha, tuned_for)
    assert bound < mean or alpha > 0.2
    assert bound <= lower_once(moments, alpha) + 1e-9 or alpha > 0.3  # holding at all looks costs width


def test_too_thin_says_nothing_and_no_spread_says_all() -> None:
    thin = Moments.of(np.full(FEWEST_FOR_NORMAL - 1, 0.5))
    assert (lower(thin, 0.05, 100), upper_once(thin, 0.05)) == (-math.inf, math.inf)
    assert p_value(thin, 0.0) == 1.0
    same = Moments.of(np.zeros(100))
    assert lower(same, 0.05, 100) == upper(same, 0.05, 100) == 0.0
    assert p_value(same, 0.0) == 1.0
    assert p_value(same, -0.01) == 0.0


@pytest.mark.parametrize("n", [FEWEST_FOR_NORMAL, 200, 5_000])
def test_one_look_is_students(n: int) -> None:
    moments = Moments(n, 0.3, 1.7)
    for alpha in (0.2, 0.05, 1e-3, 1e-5):
        exact = 0.3 - stats.t.isf(alpha, n - 1) * math.sqrt(1.7 / n)
        assert lower_once(moments, alpha) == pytest.approx(exact, rel=1e-3)
        assert p_value(moments, exact) == pytest.approx(alpha, rel=0.01)
    assert p_value(Moments(5_000, 10.0, 1.0), 0.0) < 1e-300  # far out, and still a number


@pytest.mark.parametrize("draw", ["normal", "heavy"])
def test_a_sequence_looked_at_after_every_request_seldom_strays(draw: str) -> None:
    """2,000 sequences without gain, each looked at on 10,000 requests: few ever lie outside their bound."""
    random = np.random.default_rng(7)
    strayed = once = 0
    for _ in range(20):
        shape = (100, 10_000)
        gains = random.normal(size=shape) if draw == "normal" else random.standard_t(4, shape)
        count = np.arange(1, shape[1] + 1)
        mean = gains.cumsum(axis=1) / count
        spread = np.sqrt(
            np.maximum((gains**2).cumsum(axis=1) / count - mean**2, 1e-12) * count / np.maximum(count - 1, 1)
        )
        z = (mean / spread * np.sqrt(count))[:, FEWEST_FOR_NORMAL - 1 :: 10]
        looks = count[FEWEST_FOR_NORMAL - 1 :: 10]
        limit = np.array([-lower(Moments(int(n), 0.0, 1.0), 0.05, 2_000) * math.sqrt(n) for n in looks])
        strayed += int((z > limit).any(axis=1).sum())
        once += int((z > 1.645).any(axis=1).sum())
    assert strayed / 2_000 <= 0.06
    assert once / 2_000 > 0.3  # what looking each time with a bound for one look would have come to
