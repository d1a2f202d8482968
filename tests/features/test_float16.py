"""Rounding to float16 is numpy's cast, value for value; and arrays stand where they should."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.counters.float16 import ROWS_CAST, side_by_side, to_float16


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.floats(width=64), min_size=1, max_size=20))
def test_any_double_is_rounded_as_a_cast_rounds_it(values: list[float]) -> None:
    doubles = np.array(values).reshape(-1, 1)
    largest = float(np.finfo(np.float16).max)
    held = np.where(np.isfinite(doubles), np.clip(doubles, -largest, largest), doubles)
    np.testing.assert_array_equal(to_float16(doubles), held.astype(np.float16))


def test_what_is_finite_stays_finite_and_infinity_stays_infinity() -> None:
    doubles = np.array([[65519.0, 65520.0, 1e300, -7e4, np.inf, -np.inf, np.nan]])
    expected = [[65504.0, 65504.0, 65504.0, -65504.0, np.inf, -np.inf, np.nan]]
    np.testing.assert_array_equal(to_float16(doubles), np.array(expected, np.float16))


def test_every_float16_and_every_tie_between_two_is_rounded_as_a_cast_rounds_it() -> None:
    exact = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    ties = (exact[:-1] + exact[1:]) / 2
    for doubles in (exact, ties, np.nextafter(ties, 0), np.nextafter(ties, np.inf), -ties):
        expected = doubles.astype(np.float16).view(np.uint16)
        np.testing.assert_array_equal(to_float16(doubles[:, None])[:, 0].view(np.uint16), expected)


def test_arrays_stand_side_by_side() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(2 * ROWS_CAST + 3, width)).astype(np.float16) for width in (3, 1, 5)]
    into = np.empty((2 * ROWS_CAST + 3, 9), dtype=np.float16)
    side_by_side(parts, into)
    np.testing.assert_array_equal(into, np.concatenate(parts, axis=1))
