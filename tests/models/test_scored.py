"""Measures by request and by part against their definitions, written the slow way."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics import auc
from models.ranking_metrics import Scored, codes

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]), st.integers(0, 1), st.integers(0, 4)),
    min_size=1,
    max_size=30,
)
Rows = list[tuple[float, int, int]]


def columns(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p, y, request = (np.array([row[k] for row in rows]) for k in range(3))
    return p, y, request


def ranked(p: np.ndarray) -> np.ndarray:
    """Mean rank from the top of each row, a tie sharing it."""
    return np.array([1 + (p > own).sum() + ((p == own).sum() - 1) / 2 for own in p])


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_each_request_is_measured_for_itself(rows: Rows) -> None:
    p, y, request = columns(rows)
    found = Scored.of(p, y, request).by_request()
    for place, one in enumerate(np.unique(request)):
        mine = request == one
        clicked, rank = y[mine] == 1, ranked(p[mine])
        assert (found.rows[place], found.clicks[place]) == (mine.sum(), clicked.sum())
        assert found.auc[place] == pytest.approx(auc(p[mine], y[mine]), nan_ok=True)
        assert found.first_click[place] == pytest.approx(
            rank[clicked].min() if 0 < clicked.sum() < mine.sum() else math.nan, nan_ok=True
        )


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_ndcg_is_the_mean_over_all_orders_of_what_ties(rows: Rows) -> None:
    p, y, request = columns(rows)
    found = Scored.of(p, y, request)
    ndcg = found.by_request().ndcg
    for place, one in enumerate(np.unique(request)):
        mine = request == one
        if not 0 < y[mine].sum() < mine.sum():
            assert math.isnan(ndcg[place])
            continue
        # The mean over orders: a tied row stands at each of the ranks of its run equally often.
        gain = 0.0
        for own in p[mine & (y == 1)]:
            above, level = (p[mine] > own).sum(), (p[mine] == own).sum()
            gain += np.mean(1 / np.log2(1 + above + np.arange(1, level + 1)))
        best = sum(1 / math.log2(1 + rank) for rank in range(1, y[mine].sum() + 1))
        assert ndcg[place] == pytest.approx(gain / best)


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_the_auc_of_each_part_is_that_of_its_rows_alone(rows: Rows) -> None:
    p, y, part = columns(rows)
    expected = [auc(p[part == one], y[part == one]) for one in range(5)]
    np.testing.assert_allclose(Scored.of(p, y).auc_by(part, 5), expected)


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_placements_of_either_class_average_to_the_auc(rows: Rows) -> None:
    p, y, request = columns(rows)
    scored = Scored.of(p, y, request)
    for own in (0, 1):
        if 0 < y.sum() < len(y):
            assert scored.placements()[y == own].mean() == pytest.approx(scored.auc())


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_attention_goes_by_rank_and_ties_share_it(rows: Rows) -> None:
    p, y, request = columns(rows)
    scored = Scored.of(p, y, request)
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
    together, apart = (Scored.of(p[rows], y[rows], request[rows]).by_request() for rows in (np.arange(200), shuffled))
    np.testing.assert_allclose(together.ndcg, apart.ndcg)
    np.testing.assert_allclose(together.auc, apart.auc)


def test_codes_are_the_same_for_sorted_and_unsorted_and_for_text() -> None:
    assert codes(np.array([3, 3, 7, 9])).tolist() == [0, 0, 1, 2]
    assert codes(np.array([9, 3, 7, 3])).tolist() == [2, 0, 1, 0]
    assert codes(np.array(["b", "a", "b"])).tolist() == [1, 0, 1]
    assert codes(np.zeros(0, np.int64)).tolist() == []


def test_no_rows_have_no_measures() -> None:
    scored = Scored.of(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    assert scored.requests == 0
    assert math.isnan(scored.auc())
    assert len(scored.by_request().ndcg) == 0
