"""The bench of scoring, on a log of minutes: its rows are there, and a larger table changes no score."""

import time
from datetime import timedelta

import numpy as np

from benchmarks.score import ScoreConfig, bench, grown, requests, served
from benchmarks.stream import folded
from flows.drill.logs import simulated
from flows.surfaces.feed import SURFACE as FEED
from models.frames import to_score
from models.learning.learner import fine_tune
from models.learning.model import Model

SMALL = ScoreConfig(days=1.1, requests_per_day=300, candidates=(5,), calls=10, bulk=200, rows=500)


def test_the_bench_has_the_time_of_a_request_and_the_network_alone_beside_it() -> None:
    table = bench(SMALL, clock=time.perf_counter, progress=lambda line: None)
    found = {row.what: row for row in table.rows}
    assert found.keys() >= {"5 candidates of a request, median", "in bulk, a core"}
    assert [name for name, row in found.items() if row.goal] == ["5 candidates of a request, served, median"]
    for row in table.rows:
        assert isinstance(row.ours, float)
        assert row.ours > 0
        assert row.theirs


def test_what_serving_is_timed_on_are_the_served_rows_of_the_examples() -> None:
    stream = folded(simulated(seed=1, days=1.1, requests_per_day=200), FEED, warmup=timedelta(days=1))
    schema = FEED.features.schema
    read = to_score(served(stream.test, schema), np.zeros((len(stream.test), 0), np.float32), schema, 0.0)
    for name in ("dense", "ids", "history"):
        np.testing.assert_array_equal(getattr(read, name), getattr(stream.test, name))


def test_the_large_tables_hold_what_the_small_ones_did() -> None:
    stream = folded(simulated(seed=1, days=1.1, requests_per_day=200), FEED, warmup=timedelta(days=1))
    start = Model.new(stream.layout, FEED.design, 0)
    model, _ = fine_tune(start, stream.examples[: stream.warm], seed=0, device="cpu", clock=time.perf_counter)
    large = grown(model, 500, seed=0)
    assert max(table.rows for table in large.tables) >= 500
    for request in requests(stream.test, 7, 3, seed=2):
        np.testing.assert_array_equal(large.score(request), model.score(request))
