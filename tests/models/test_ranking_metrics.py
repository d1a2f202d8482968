"""Metrics by request and by part against their definitions, written the slow way."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ranking_metrics import LabelledScores, codes
from tests.models import reference_metrics as reference
from tests.models.reference_metrics import auc

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]), st.integers(0, 1), st.integers(0, 4)),
    min_size=1,
    max_size=30,
)
Rows = list[tuple[float, int, int]]


def columns(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p, y, request = (np.array([row[k] for row in rows]) for k in range(3))
    return p, y, request


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_each_request_is_measured_for_itself(rows: Rows) -> None:
    p, y, request = columns(rows)
    found = LabelledScores.of(p, y, request).by_request()
    for place, one in enumerate(np.unique(request)):
        mine = request == one
        clicked, rank = y[mine] == 1, reference.rank(p[mine])
        assert (found.rows[place], found.clicks[place]) == (mine.sum(), clicked.sum())
        assert found.auc[place] == pytest.approx(auc(p[mine], y[mine]), nan_ok=True)
        assert found.first_click[place] == pytest.approx(
            rank[clicked].min() if 0 < clicked.sum() < mine.sum() else math.nan, nan_ok=True
        )


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_ndcg_is_the_mean_over_all_orders_of_ties(rows: Rows) -> None:
    p, y, request = columns(rows)
    ndcg = LabelledScores.of(p, y, request).by_request().ndcg
    for place, one in enumerate(np.unique(request)):
        mine = request == one
        assert ndcg[place] == pytest.approx(reference.ndcg(p[mine], y[mine], request[mine]), nan_ok=True)


def test_scores_that_are_all_alike_earn_nothing_by_the_order_of_the_log() -> None:
    p, y, request = np.full(5, 0.2), np.array([1, 0, 0, 0, 0]), np.zeros(5, np.int64)
    scores = LabelledScores.of(p, y, request)
    found = scores.by_request()
    assert (scores.auc(), found.auc[0], found.first_click[0]) == (0.5, 0.5, 3)
    assert found.ndcg[0] == pytest.approx(np.mean(1 / np.log2(np.arange(2, 7))))


@pytest.mark.parametrize("error", [0.0, 0.2])
def test_bins_of_calibration_are_equally_filled_whatever_ties(error: float) -> None:
    draw = np.random.default_rng(0)
    p = draw.random(2_000).round(2)
    y = (draw.random(2_000) < p * (1 - error)).astype(float)
    bins = LabelledScores.of(p, y).calibration_bins(20)
    found = np.abs(np.bincount(bins, p - y)).sum() / len(p)
    assert found == pytest.approx(reference.calibration_error(p, y))
    assert len(np.unique(bins)) == 20


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_the_auc_of_each_part_is_that_of_its_rows_alone(rows: Rows) -> None:
    p, y, part = columns(rows)
    expected = [auc(p[part == one], y[part == one]) for one in range(5)]
    np.testing.assert_allclose(LabelledScores.of(p, y).auc_by(part, 5), expected)


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_placements_of_either_class_average_to_the_auc(rows: Rows) -> None:
    p, y, request = columns(rows)
    scored = LabelledScores.of(p, y, request)
    for own in (0, 1):
        if 0 < y.sum() < len(y):
            assert scored.placements()[y == own].mean() == pytest.approx(scored.auc())


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_attention_goes_by_rank_and_ties_share_it(rows: Rows) -> None:
    p, y, request = columns(rows)
    scored = LabelledScores.of(p, y, request)
    exposure, first = scored.exposure(), scored.first()
    for one in np.unique(request):
        mine = request == one
        size = mine.sum()
        assert exposure[mine].sum() == pytest.approx((1 / np.log2(1 + np.arange(1, size + 1))).sum())
        assert first[mine].sum() == pytest.approx(1)
        top = p[mine] == p[mine].max()
        assert first[mine][top] == pytest.approx(1 / top.sum())
        assert (np.diff(exposure[mine][np.argsort(p[mine], kind="stable")]) >= -1e-12).all()


def test_rows_of_a_request_need_not_stand_together() -> None:
    draw = np.random.default_rng(1)
    p, y, request = draw.random(200), draw.integers(0, 2, 200), np.sort(draw.integers(0, 40, 200))
    shuffled = draw.permutation(200)
    together, apart = (
        LabelledScores.of(p[rows], y[rows], request[rows]).by_request() for rows in (np.arange(200), shuffled)
    )
    np.testing.assert_allclose(together.ndcg, apart.ndcg)
    np.testing.assert_allclose(together.auc, apart.auc)


def test_codes_are_the_same_for_sorted_and_unsorted_and_for_text() -> None:
    assert codes(np.array([3, 3, 7, 9])).tolist() == [0, 0, 1, 2]
    assert codes(np.array([9, 3, 7, 3])).tolist() == [2, 0, 1, 0]
    assert codes(np.array(["b", "a", "b"])).tolist() == [1, 0, 1]
    assert codes(np.zeros(0, np.int64)).tolist() == []


def test_no_rows_have_no_measures() -> None:
    scored = LabelledScores.of(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    assert scored.requests == 0
    assert math.isnan(scored.auc())
    assert len(scored.by_request().ndcg) == 0
