"""Is the next click among the items retrieved: asked by what came before it, and compared user by user."""

import numpy as np

from models.examples import EMPTY, Examples, Layout
from models.retrieval.towers import TowerDesign, Towers
from monitoring.evaluation.retrieval import MISSED, ask, compare, difference
from monitoring.gate.decide import Policy, decide
from tests.monitoring.test_gate import with_gain

LAYOUT = Layout("towers-1", (), ("user", "item", "section"), history=2)


def test_a_click_is_asked_for_by_those_before_it_without_the_users_last_items() -> None:
    towers = Towers.new(LAYOUT, TowerDesign(attributes=("section",), embedding=4, hidden=4, batch=1), seed=0)
    item = np.array([5, 5, 7, 5, 7, 5])
    history = np.zeros((6, 2), np.int64)
    history[5, 0] = 5
    ids = np.stack([np.arange(6) + 1, item, np.ones(6, np.int64)], axis=1)
    clicks = Examples(np.zeros((6, 0)), ids, history, np.ones(6), np.arange(6), np.arange(6.0))
    asked = ask(towers, towers.recent_clicks, clicks)
    # 5 leads once it was clicked, 7 follows; who clicked 5 last is not given it again.
    assert asked.places.tolist() == [MISSED, 0, MISSED, 0, 1, MISSED]
    assert asked.popular.tolist() == asked.places.tolist(), "new towers give what is popular"
    assert asked.lately.ids.tolist() == [5, 7]
    nothing = ask(towers, towers.recent_clicks, clicks[:0])
    assert not len(nothing.places)


def test_bounds_hold_as_often_as_they_say_although_a_users_clicks_go_together() -> None:
    draw, held, runs = np.random.default_rng(0), 0, 400
    for _ in range(runs):
        user = np.repeat(np.arange(80), 5)
        leaning = draw.choice([-1.0, 0.0, 1.0], 80, p=[0.2, 0.6, 0.2])
        found = difference(user, leaning[user])
        assert found["lower"] is not None
        assert found["upper"] is not None
        held += found["lower"] <= 0 <= found["upper"]
    assert 0.92 < held / runs < 0.98


def test_too_few_users_give_no_bounds_and_no_clicks_give_nothing() -> None:
    assert difference(np.arange(4), np.ones(4)) == {"mean": 1.0, "lower": None, "upper": None}
    none = np.zeros(0, np.int64)
    figures = compare(none, champion=none, challenger=none, popularity=none, alive=0)
    assert (figures["challenger"]["recall_50"], figures["lost_shown"]) == (None, None)


def test_the_gate_holds_towers_that_are_shown_to_find_less() -> None:
    user = np.arange(1000) + EMPTY + 1
    found = np.where(user <= 400, 30, MISSED)
    fewer = np.where(user <= 300, 30, MISSED)
    same = compare(user, champion=found, challenger=found, popularity=fewer, alive=900)
    worse = compare(user, champion=found, challenger=fewer, popularity=found, alive=900)
    assert (same["among"], same["lost_shown"]) == (50, 0.0)

    def verdict(**figures: object) -> tuple[str, str]:
        told = decide(Policy(), with_gain(0.001, retrieval={"again": {}, "not_finite": 0, **figures}))
        return told.verdict, told.reasons[0]

    assert verdict(**same)[0] == "promote"
    told = decide(Policy(), with_gain(0.001, retrieval={"again": {}, "not_finite": 0, **same})).reasons
    assert "Of the next clicks its towers find 40 %, the champion's 40 %, among 50 items." in told
    word, reason = verdict(**worse)
    assert (word, reason) == (
        "hold",
        "Of the next clicks its towers find 30 %, the champion's 40 %, among 50 items.",
    )
    assert verdict(**same, again=worse) == (
        "hold",
        reason.replace("the next clicks", "the last clicks it learned from"),
    )
    assert "not numbers (3 of users" in verdict(**same, not_finite=3)[1]
    none = np.zeros(0, np.int64)
    assert verdict(**compare(none, champion=None, challenger=none, popularity=none, alive=0))[0] == "promote"
    # Nearly all clicks are among 50 of 60 items: 10 tell more.
    first = compare(user, champion=None, challenger=found, popularity=np.zeros(1000, int), alive=60)
    assert (first["among"], first["against"]) == (10, "popularity")
    assert verdict(**first)[1] == "Of the next clicks its towers find 0 %, those most popular 100 %, among 10 items."
