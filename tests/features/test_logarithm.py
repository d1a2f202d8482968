"""The loop's logarithm is the true one to a unit in the last place, however many numbers are taken at once."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.counters.logarithm import logs


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=20))
def test_it_is_within_a_unit_in_the_last_place(values: list[float]) -> None:
    taken = np.array(values)
    logs(taken)
    for value, found in zip(values, taken, strict=True):
        assert abs(found - math.log(value)) <= 2 * math.ulp(math.log(value))


def test_near_one_no_digit_is_lost() -> None:
    near = 1.0 + np.concatenate([-np.logspace(-16, -1, 200), [0.0], np.logspace(-16, 0, 200)])
    taken = near.copy()
    logs(taken)
    np.testing.assert_allclose(taken, np.log(near), rtol=1e-15, atol=0)


def test_a_number_has_one_logarithm_whatever_stands_beside_it() -> None:
    many = np.random.default_rng(0).lognormal(0, 20, 1003)
    together = many.copy()
    logs(together)
    for place in (0, 1, 500, 1002):
        alone = many[place : place + 1].copy()
        logs(alone)
        assert alone.tobytes() == together[place : place + 1].tobytes()
