"""The bench of headlines: the ways to choose see the same requests, and what is judged is the truth of the world."""

import numpy as np
import pytest

from benchmarks.headline_stops import EVENLY as SHOWN_EVENLY
from benchmarks.headline_stops import _lived
from benchmarks.headlines import EVENLY, GREEDY, WAYS, HeadlineConfig, run_seed, world_of

CONFIG = HeadlineConfig((5,), days=0.8, first=0.35, requests_per_day=3_000, articles_per_day=10, users=100)


@pytest.mark.slow
def test_every_way_shows_the_same_requests_and_chance_is_what_chance_is() -> None:
    found = run_seed(CONFIG, 5, clock=lambda: 0.0, progress=lambda line: None)
    world = world_of(CONFIG, 5)
    assert {*found} == {*WAYS}
    for shown in found.values():
        assert shown.requests["article"].to_list() == [
            article for article, new in zip(world.article, world.new, strict=True) if new
        ]
        assert shown.requests["highest"].equals(found[EVENLY].requests["highest"])
        assert np.all(shown.lost >= -1e-12)
        best = shown.requests.filter("best")
        np.testing.assert_allclose(best["chance"], best["highest"])
    each = [1 / len(world.variants[article]) for article in found[EVENLY].requests["article"]]
    assert found[EVENLY].share() == pytest.approx(np.mean(each), abs=4 * np.sqrt(0.25 / len(each)))
    assert found[GREEDY].regret != found[EVENLY].regret


def test_a_headline_that_is_far_worse_is_stopped_in_a_life_of_it() -> None:
    life = _lived(np.random.default_rng(1), np.array([2.0, 0.0]), 4_000, SHOWN_EVENLY)
    assert not life.best_stopped
    assert life.losers == len(life.stopped_at) == 1
    assert life.stopped_at[0] < 1
