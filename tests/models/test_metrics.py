"""Metrics against their definitions, written the slow way."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics import (
    auc,
    calibration_error,
    grouped_auc,
    hit_rate,
    log_loss,
    mrr,
    ndcg,
    normalised_entropy,
    paired_difference,
)

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


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_mrr_and_hit_rate_by_request(rows: list[tuple[float, int, int]]) -> None:
    p, y, request = (np.array([r[k] for r in rows]) for k in range(3))
    ranks, others = [], []
    for one in sorted(set(request.tolist())):
        mine = request == one
        if 0 < y[mine].sum() < mine.sum():
            best = p[mine & (y == 1)].max()
            ranks.append(1 + (p[mine] > best).sum() + ((p[mine] == best).sum() - 1) / 2)
            others.append(mine.sum() - y[mine].sum())
    expected = np.mean([1 / rank for rank in ranks]) if ranks else math.nan
    assert mrr(p, y, request) == pytest.approx(expected, nan_ok=True)
    for k in (1, 2):
        may_miss = [rank for rank, other in zip(ranks, others, strict=True) if other >= k]
        hits = np.mean([rank <= k for rank in may_miss]) if may_miss else math.nan
        assert hit_rate(p, y, request, k) == pytest.approx(hits, nan_ok=True)


def test_grouped_auc_and_ndcg_by_hand() -> None:
    p = np.array([0.9, 0.1, 0.5, 0.2, 0.3, 0.4, 0.7])
    y = np.array([1, 0, 0, 0, 1, 0, 1])
    request = np.array([0, 0, 0, 1, 1, 1, 2])
    assert grouped_auc(p, y, request) == pytest.approx((3 * 1 + 3 * 0.5) / 6), "request 2 has clicks only"
    assert ndcg(p, y, request) == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert math.isnan(grouped_auc(p, np.ones(7), request))
    assert math.isnan(ndcg(p, np.zeros(7), request))


def test_a_request_whose_order_cannot_matter_is_left_out_of_what_is_said_of_order() -> None:
    """One candidate, clicks alone, no click; and places that hold the whole list."""
    p, y, request = np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 1, 1, 0]), np.array([0, 1, 1, 2])
    for measure in (mrr, ndcg, hit_rate, grouped_auc):
        assert math.isnan(measure(p, y, request))
    p, y, request = np.append(p, [0.2, 0.6]), np.append(y, [1, 0]), np.append(request, [3, 3])
    assert mrr(p, y, request) == 0.5
    assert hit_rate(p, y, request, 1) == 0
    assert math.isnan(hit_rate(p, y, request, 2)), "of two the click is always among the first two"


def test_grouped_auc_weighs_requests_by_their_rows() -> None:
    p = np.array([0.9, 0.1, 0.1, 0.2, 0.3, 0.4])
    y = np.array([1, 0, 1, 0, 0, 0])
    request = np.array([0, 0, 1, 1, 1, 1])
    assert grouped_auc(p, y, request) == pytest.approx((2 * 1 + 4 * 0) / 6)


def test_a_score_that_says_nothing_gets_no_credit_for_the_order_of_the_log() -> None:
    y, request = np.array([1, 0, 0, 0, 0]), np.zeros(5, np.int64)
    assert mrr(np.full(5, 0.2), y, request) == pytest.approx(1 / 3)
    assert hit_rate(np.full(5, 0.2), y, request) == 0
    assert auc(np.full(5, 0.2), y) == 0.5
    assert grouped_auc(np.full(5, 0.2), y, request) == 0.5
    assert ndcg(np.full(5, 0.2), y, request) == pytest.approx(np.mean(1 / np.log2(np.arange(2, 7))))


def test_calibration_error_of_a_calibrated_and_of_a_shifted_forecast() -> None:
    draw = np.random.default_rng(0)
    p = draw.random(200_000)
    y = (draw.random(200_000) < p).astype(float)
    assert calibration_error(p, y) < 0.005
    assert calibration_error(p * 0.8, y) == pytest.approx(0.1, abs=0.005)
    assert calibration_error(np.full(len(p), 0.3), y) == pytest.approx(0.2, abs=0.005)
    assert math.isnan(calibration_error(np.zeros(0), np.zeros(0)))


def test_normalised_entropy_is_one_for_the_base_rate() -> None:
    y = np.array([1, 0, 0, 0])
    assert normalised_entropy(np.full(4, 0.25), y) == pytest.approx(1)
    assert normalised_entropy(np.array([0.9, 0.1, 0.1, 0.1]), y) < 0.5
    assert math.isnan(normalised_entropy(np.full(4, 0.25), np.zeros(4)))


def test_certainty_that_was_wrong_costs_much_but_not_everything() -> None:
    assert log_loss(np.array([0.0]), np.array([1.0])) == pytest.approx(-math.log(1e-7))


def test_rows_with_an_unknown_label_do_not_count() -> None:
    p, y, request = np.array([0.9, 0.1, 0.4]), np.array([1, 0, np.nan]), np.array([0, 0, 1])
    assert log_loss(p, y) == pytest.approx(-math.log(0.9))
    assert auc(p, y) == 1
    assert mrr(p, y, request) == 1
    assert grouped_auc(p, y, request) == 1
    assert ndcg(p, y, request) == 1
    assert calibration_error(p, y) == pytest.approx(0.1)
    assert paired_difference(p, p, y, request).requests == 1


def test_paired_difference_counts_requests_and_not_rows() -> None:
    champion, challenger = np.array([0.5, 0.5, 0.5]), np.array([0.25, 0.25, 0.75])
    y, request = np.array([0, 0, 0]), np.array([7, 7, 3])
    found = paired_difference(champion, challenger, y, request)
    by_request = np.log([0.75 / 0.5, 0.25 / 0.5])
    assert found.requests == 2
    assert found.mean == pytest.approx(by_request.mean())
    assert found.standard_error == pytest.approx(by_request.std(ddof=1) / math.sqrt(2))
    assert found.lower == pytest.approx(found.mean - 1.6449 * found.standard_error, abs=1e-3)
    assert found.upper == pytest.approx(found.mean + 1.6449 * found.standard_error, abs=1e-3)


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
