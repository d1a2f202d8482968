"""The bench of retrieval: peers are what they say they are, nothing is known before its time, one table at the end."""

import json
import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from benchmarks.logs import LogConfig
from benchmarks.retrieval import (
    RetrievalConfig,
    Retrievers,
    bench,
    clicks_of,
    design_of,
    follow,
    layout_of,
)
from benchmarks.retrievers import CoClicks, Popular
from flows.drill.logs import LogTooShort
from flows.surfaces.feed import SURFACE as FEED
from models.examples import EMPTY, Examples
from monitoring.evaluation.retrieval import MISSED

CONFIG = RetrievalConfig(
    FEED,
    LogConfig(days=0.12, requests_per_day=5000),
    warmup=timedelta(hours=2),
    tick=timedelta(minutes=5),
    half_lives=(900.0,),
    pairs=((3600.0, 2.0),),
    design=replace(design_of(FEED.features), embedding=8, hidden=8, negatives=32),
)


def clicks() -> tuple[Examples, np.ndarray]:
    return clicks_of(CONFIG.log.read(), FEED.features)


def test_clicks_come_after_their_queries_with_the_users_last_items() -> None:
    queries, came = clicks()
    assert (came >= queries.time).all()
    assert (np.diff(queries.time) >= 0).all()
    user, item = queries.ids[:, 0], queries.ids[:, 1]
    checked = 0
    for row in range(len(queries)):
        earlier = np.flatnonzero((user == user[row]) & (came < queries.time[row]))
        if len(earlier) > 1:
            last = earlier[np.argsort(came[earlier], kind="stable")][::-1][:2]
            assert queries.history[row, :2].tolist() == item[last].tolist()
            checked += 1
    assert checked > 20


def test_nothing_is_known_before_its_time() -> None:
    queries, came = clicks()
    layout, begins = layout_of(FEED.features), float(np.floor(queries.time[0])) + 7200
    cut = begins + 2400
    later = queries.time >= cut
    other = replace(queries, ids=np.where(later[:, None], queries.ids[:, :1] * 3, queries.ids))
    assert CONFIG.design is not None
    places = []
    for rows in (queries, other):
        retrievers = Retrievers.of(CONFIG, layout, CONFIG.design, begins)
        places.append(follow(rows, came, retrievers.all, layout, CONFIG.tick, begins, lambda line: None))
    before = queries.time < cut
    for name, place in places[0].items():
        assert (place[before] == places[1][name][before]).all()
        assert (place[before & (queries.time >= begins)] < MISSED).any()
        assert (place[queries.time < begins] == MISSED).all()


def test_co_clicks_are_those_of_a_loop() -> None:
    draw = np.random.default_rng(0)
    n, life, pseudo_clicks = 300, 500.0, 2.0
    ids, history = draw.integers(1, 12, (n, 2)), draw.integers(0, 12, (n, 1))
    when = np.sort(draw.uniform(0, 90_000, n))
    clicks = Examples(np.zeros((n, 0)), ids, history, np.ones(n), np.arange(n), when)
    popular = Popular(900.0, 86_400.0, 1)
    pairs = CoClicks(life, pseudo_clicks, popular)
    for end in range(10_000, 90_001, 10_000):
        part = clicks[np.flatnonzero((when >= end - 10_000) & (when < end))]
        popular.observe(part, float(end))
        pairs.observe(part, float(end))
    now = 90_000.0
    alive = popular.recent.as_of(now)
    shares = dict(zip(alive.ids.tolist(), alive.shares(now)[:, 0], strict=True))
    queries = clicks[np.arange(n - 20, n)]
    found = pairs.retrieve(queries, now, 5)
    for row, last in enumerate(queries.history[:, 0].tolist()):
        scores = {item: pseudo_clicks * share for item, share in shares.items() if item != last}
        for item in scores:
            both = (ids[:, 1] == item) & (history[:, 0] == last) & (last != EMPTY)
            scores[item] += float(np.exp2((when[both] - now) / life).sum())
        best = sorted(scores.values(), reverse=True)[:5]
        np.testing.assert_allclose([scores[item] for item in found[row].tolist()], best, rtol=1e-4)


def test_the_bench_ends_in_one_table_with_its_peers() -> None:
    lines: list[str] = []
    table = bench(CONFIG, clock=time.perf_counter, progress=lines.append)
    rows = {row.what: row for row in table.rows}
    for k in (10, 50, 100):
        row = rows[f"recall@{k}, all users, two towers, updated every 0:10:00"]
        assert isinstance(row.ours, float)
        assert 0 < row.ours <= 1
        assert row.peer in {"popularity, half-life 0:15:00", "co-clicks, half-life 1:00:00, prior of 2 clicks"}
        assert row.theirs == rows[f"recall@{k}, all users, {row.peer}"].ours
        assert row.met is None  # of a seeded log nothing is promised
    assert isinstance(rows["one retrieve of 100"].ours, float)
    assert json.loads(table.text())["name"] == "retrieval"
    assert lines


def test_a_log_that_ends_with_the_warm_up_is_refused() -> None:
    with pytest.raises(LogTooShort, match="shorter warm-up"):
        bench(replace(CONFIG, warmup=timedelta(days=1)), clock=time.perf_counter, progress=lambda line: None)
