"""The bench of retrieval: peers are what they say they are, nothing is known before its time, one table at the end."""

import json
import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from benchmarks.retrieval import MISSED, Arms, LogTooShort, Plan, bench, clicks_of, design_of, follow, layout_of
from benchmarks.retrieval_arms import CoClicks, Popular
from flows.drill.windows import simulated
from flows.surfaces.feed import FEED
from models.examples import EMPTY, Examples

PLAN = Plan(
    days=0.12,
    requests_per_day=5000,
    warmup=timedelta(hours=2),
    tick=timedelta(minutes=5),
    half_lives=(900.0,),
    pairs=((3600.0, 2.0),),
    design=replace(design_of(FEED.features), embedding=8, hidden=8, negatives=32),
)


def told(seed: int = 0) -> tuple[Examples, np.ndarray]:
    return clicks_of(
        simulated(seed=seed, days=PLAN.days, requests_per_day=PLAN.requests_per_day), FEED.features, FEED.attribution
    )


def test_clicks_come_after_they_were_asked_for_with_the_users_last_items() -> None:
    asked, came = told()
    assert (came >= asked.time).all()
    assert (np.diff(asked.time) >= 0).all()
    user, item = asked.ids[:, 0], asked.ids[:, 1]
    checked = 0
    for row in range(len(asked)):
        earlier = np.flatnonzero((user == user[row]) & (came < asked.time[row]))
        if len(earlier) > 1:
            last = earlier[np.argsort(came[earlier], kind="stable")][::-1][:2]
            assert asked.history[row, :2].tolist() == item[last].tolist()
            checked += 1
    assert checked > 20


def test_nothing_is_known_before_its_time() -> None:
    asked, came = told()
    layout, begins = layout_of(FEED.features), float(np.floor(asked.time[0])) + 7200
    cut = begins + 2400
    later = asked.time >= cut
    other = replace(asked, ids=np.where(later[:, None], asked.ids[:, :1] * 3, asked.ids))
    assert PLAN.design is not None
    places = []
    for rows in (asked, other):
        arms = Arms.of(PLAN, layout, PLAN.design, begins)
        places.append(follow(rows, came, arms.all, layout, PLAN, begins, lambda line: None))
    before = asked.time < cut
    for name, place in places[0].items():
        assert (place[before] == places[1][name][before]).all()
        assert (place[before & (asked.time >= begins)] < MISSED).any()
        assert (place[asked.time < begins] == MISSED).all()


def test_co_clicks_are_those_of_a_loop() -> None:
    draw = np.random.default_rng(0)
    n, life, strength = 300, 500.0, 2.0
    ids, history = draw.integers(1, 12, (n, 2)), draw.integers(0, 12, (n, 1))
    when = np.sort(draw.uniform(0, 90_000, n))
    clicks = Examples(np.zeros((n, 0)), ids, history, np.ones(n), np.arange(n), when)
    popular = Popular(900.0, 86_400.0, 1)
    arm = CoClicks(life, strength, popular)
    for end in range(10_000, 90_001, 10_000):
        part = clicks[np.flatnonzero((when >= end - 10_000) & (when < end))]
        popular.see(part, float(end))
        arm.see(part, float(end))
    now = 90_000.0
    alive = popular.lately.as_of(now)
    shares = dict(zip(alive.ids.tolist(), alive.shares(now)[:, 0], strict=True))
    asked = clicks[np.arange(n - 20, n)]
    found = arm.retrieve(asked, now, 5)
    for row, last in enumerate(asked.history[:, 0].tolist()):
        scores = {item: strength * share for item, share in shares.items() if item != last}
        for item in scores:
            both = (ids[:, 1] == item) & (history[:, 0] == last) & (last != EMPTY)
            scores[item] += float(np.exp2((when[both] - now) / life).sum())
        best = sorted(scores.values(), reverse=True)[:5]
        np.testing.assert_allclose([scores[item] for item in found[row].tolist()], best, rtol=1e-4)


def test_the_bench_ends_in_one_table_with_its_peers() -> None:
    lines: list[str] = []
    table = bench(PLAN, clock=time.perf_counter, say=lines.append)
    rows = {row.what: row for row in table.rows}
    for k in (10, 50, 100):
        row = rows[f"recall@{k}, all users, two towers, updated every 0:10:00"]
        assert isinstance(row.ours, float)
        assert 0 < row.ours <= 1
        assert row.peer in {"popularity, half-life 0:15:00", "co-clicks, half-life 1:00:00, strength 2"}
        assert row.theirs == rows[f"recall@{k}, all users, {row.peer}"].ours
        assert row.met is None  # of a seeded log nothing is promised
    assert isinstance(rows["one retrieve of 100"].ours, float)
    assert json.loads(table.text())["name"] == "retrieval"
    assert lines


def test_a_log_that_ends_with_the_warm_up_is_refused() -> None:
    with pytest.raises(LogTooShort, match="shorter warm-up"):
        bench(replace(PLAN, warmup=timedelta(days=1)), clock=time.perf_counter, say=lambda line: None)
