"""The bench of the first thousand impressions, on a seeded log of minutes: every learner, on the same impressions."""

import time
from datetime import timedelta

import numpy as np
import pytest

from benchmarks.cold import BASE, LOGISTIC, TREES, VOWPAL, ColdConfig, bench, cut
from benchmarks.stream import folded
from flows.drill.logs import simulated
from flows.surfaces.feed import SURFACE as FEED


@pytest.mark.slow
def test_each_size_stands_beside_the_base_rate_logistic_regression_trees_and_vowpal_wabbit() -> None:
    lines: list[str] = []
    config = ColdConfig(FEED, sizes=(200, 600), test_size=300, beginnings=2)
    table = bench(config, clock=time.perf_counter, progress=lines.append)
    assert len(lines) == 4, "two sizes of two beginnings"
    for size in config.sizes:
        found = [row for row in table.rows if f"after {size:,} impressions" in row.what]
        assert [row.peer for row in found if row.what.startswith("log loss")] == [BASE, LOGISTIC, TREES, VOWPAL]
        assert [row.peer for row in found if row.what.startswith("AUC")] == [LOGISTIC, TREES, VOWPAL]
        for row in found:
            assert isinstance(row.ours, float)
            assert isinstance(row.theirs, float)
            assert 0 < row.ours < 2
        with_goal = {row.peer for row in found if row.goal is not None}
        assert with_goal == {BASE}, "with logistic regression it is level from a thousand impressions on"


def test_no_request_is_trained_on_in_part_and_tested_in_part() -> None:
    whole = folded(simulated(seed=2, days=1.0, requests_per_day=400), FEED, warmup=timedelta(microseconds=1))
    for size in (33, 500):
        stream = cut(whole, size, 100)
        train, test = stream.examples[: stream.warm], stream.test
        assert size - 10 < len(train) <= size
        assert len(test) >= 100
        assert train.time.max() < test.time.min()
        assert not np.intersect1d(train.request, test.request).size
        assert not np.isin(whole.examples.request[len(stream.examples) :], test.request).any()
