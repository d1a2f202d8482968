"""The bench of the first thousand impressions, on a seeded log of minutes: every arm, on the same impressions."""

import time
from datetime import timedelta

import numpy as np

from benchmarks.cold import BASE, LOGISTIC, TREES, VOWPAL, Plan, bench, cut
from benchmarks.stream import folded
from flows.drill.windows import simulated
from flows.surfaces.feed import FEED


def test_each_size_is_told_beside_the_base_rate_logistic_regression_trees_and_vowpal_wabbit() -> None:
    said: list[str] = []
    plan = Plan(FEED, sizes=(200, 600), scored=300, beginnings=2)
    table = bench(plan, clock=time.perf_counter, say=said.append)
    assert len(said) == 4, "two sizes of two beginnings"
    for size in plan.sizes:
        found = [row for row in table.rows if f"after {size:,} impressions" in row.what]
        assert [row.peer for row in found if row.what.startswith("log loss")] == [BASE, LOGISTIC, TREES, VOWPAL]
        assert [row.peer for row in found if row.what.startswith("AUC")] == [LOGISTIC, TREES, VOWPAL]
        for row in found:
            assert isinstance(row.ours, float)
            assert isinstance(row.theirs, float)
            assert 0 < row.ours < 2
        judged = {row.peer for row in found if row.goal is not None}
        assert judged == {BASE}, "with logistic regression it is level from a thousand impressions on"


def test_no_request_is_learned_in_part_and_scored_in_part() -> None:
    whole = folded(simulated(seed=2, days=1.0, requests_per_day=400), FEED, warmup=timedelta(microseconds=1))
    for size in (33, 500):
        stream = cut(whole, size, 100)
        learned, scored = stream.examples[: stream.warm], stream.scored
        assert size - 10 < len(learned) <= size
        assert len(scored) >= 100
        assert learned.time.max() < scored.time.min()
        assert not np.intersect1d(learned.request, scored.request).size
        assert not np.isin(whole.examples.request[len(stream.examples) :], scored.request).any()
