"""Metrics against their definitions, written the slow way."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics import auc, log_loss, paired_difference

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]), st.integers(0, 1), st.integers(0, 4)), max_size=30
)


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_auc_is_the_chance_that_a_click_is_above_the_rest(rows: list[tuple[float, int, int]]) -> None:
    p, y = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    pairs = [(a > b) + (a == b) / 2 for a in p[y == 1] for b in p[y == 0]]
    expected = sum(pairs) / len(pairs) if pairs else math.nan
    assert auc(p, y) == pytest.approx(expected, nan_ok=True)


def test_certainty_that_was_wrong_costs_much_but_not_everything() -> None:
    assert log_loss(np.array([0.0]), np.array([1.0])) == pytest.approx(-math.log(1e-7))


def test_rows_with_an_unknown_label_do_not_count() -> None:
    p, y, request = np.array([0.9, 0.1, 0.4]), np.array([1, 0, np.nan]), np.array([0, 0, 1])
    assert log_loss(p, y) == pytest.approx(-math.log(0.9))
    assert auc(p, y) == 1
    assert paired_difference(p, p, y, request).requests == 1


def test_paired_difference_counts_requests_and_not_rows() -> None:
    champion, challenger = np.array([0.5, 0.5, 0.5]), np.array([0.25, 0.25, 0.75])
    y, request = np.array([0, 0, 0]), np.array([7, 7, 3])
    found = paired_difference(champion, challenger, y, request)
    by_request = np.log([0.75 / 0.5, 0.25 / 0.5])
    assert found.requests == 2
    assert found.mean == pytest.approx(by_request.mean())
    error = by_request.std(ddof=1) / math.sqrt(2)
    assert found.lower == pytest.approx(found.mean - 1.6449 * error, abs=1e-3)
    assert found.upper == pytest.approx(found.mean + 1.6449 * error, abs=1e-3)


def test_the_lower_bound_is_above_the_truth_once_in_twenty() -> None:
    draw = np.random.default_rng(3)
    wrong = 0
    for _ in range(1_000):
        y = draw.integers(0, 2, 400)
        request = np.repeat(np.arange(100), 4)
        noise = np.repeat(draw.normal(0, 0.5, 100), 4)  # the rows of a request err together
        champion, challenger = (1 / (1 + np.exp(-sign * noise)) for sign in (1, -1))
        wrong += paired_difference(champion, challenger, y, request).lower > 0
    assert 30 <= wrong <= 75


def test_one_request_says_nothing() -> None:
    found = paired_difference(np.array([0.5]), np.array([0.6]), np.array([1]), np.array([0]))
    assert (found.lower, found.upper) == (-math.inf, math.inf)
