"""Is the next click among the items retrieved: looked for by what came before it, and compared user by user."""

import numpy as np

from models.examples import EMPTY, Examples, Layout
from models.retrieval.tower_design import TowerDesign
from models.retrieval.towers import Towers
from monitoring.evaluation.retrieval import MISSED, Difference, TowersEvidence, compare, difference, replay
from monitoring.gate.decide import Verdict, decide
from monitoring.gate.policy import Policy
from tests.worlds.challengers import with_gain

LAYOUT = Layout("towers-1", (), ("user", "item", "section"), history=2)

SET_BY = " Set by Policy.retrieval = 0.02."


def test_a_click_is_looked_for_by_those_before_it_without_the_users_last_items() -> None:
    towers = Towers.new(LAYOUT, TowerDesign(attributes=("section",), embedding=4, hidden=4, batch=1), seed=0)
    item = np.array([5, 5, 7, 5, 7, 5])
    history = np.zeros((6, 2), np.int64)
    history[5, 0] = 5
    ids = np.stack([np.arange(6) + 1, item, np.ones(6, np.int64)], axis=1)
    clicks = Examples(np.zeros((6, 0)), ids, history, np.ones(6), np.arange(6), np.arange(6.0))
    found = replay(towers, towers.recent_clicks, clicks)
    # 5 leads once it was clicked, 7 follows; who clicked 5 last is not given it once more.
    assert found.places.tolist() == [MISSED, 0, MISSED, 0, 1, MISSED]
    assert found.popular.tolist() == found.places.tolist(), "new towers give what is popular"
    assert found.recent_clicks.ids.tolist() == [5, 7]
    nothing = replay(towers, towers.recent_clicks, clicks[:0])
    assert not len(nothing.places)


def test_bounds_hold_as_often_as_they_say_although_a_users_clicks_go_together() -> None:
    draw, held, samples = np.random.default_rng(0), 0, 400
    for _ in range(samples):
        user = np.repeat(np.arange(80), 5)
        leaning = draw.choice([-1.0, 0.0, 1.0], 80, p=[0.2, 0.6, 0.2])
        found = difference(user, leaning[user])
        assert found.lower is not None
        assert found.upper is not None
        held += found.lower <= 0 <= found.upper
    assert 0.92 < held / samples < 0.98


def test_too_few_users_give_no_bounds_and_no_clicks_give_nothing() -> None:
    assert difference(np.arange(4), np.ones(4)) == Difference(1.0)
    none = np.zeros(0, np.int64)
    found = compare(none, champion=none, challenger=none, popularity=none, alive=0)
    assert (found.challenger.at[50], found.difference, found.surely_lost) == (None, Difference(), None)


USER = np.arange(1000) + EMPTY + 1
FOUND, FEWER = np.where(USER <= 400, 30, MISSED), np.where(USER <= 300, 30, MISSED)
SAME = compare(USER, champion=FOUND, challenger=FOUND, popularity=FEWER, alive=900)
WORSE = compare(USER, champion=FOUND, challenger=FEWER, popularity=FOUND, alive=900)


def verdict_on(towers: TowersEvidence) -> Verdict:
    return decide(Policy(), with_gain(0.001, towers=towers))


def test_towers_that_find_as_much_are_promoted_and_the_share_is_given() -> None:
    assert (SAME.among, SAME.against, SAME.surely_lost) == (50, "champion", 0.0)
    assert (SAME.rival, SAME.challenger.at[50], SAME.popularity.at[50]) == (SAME.champion, 0.4, 0.3)
    verdict = verdict_on(TowersEvidence(SAME, None, not_finite=0))
    assert (verdict.verdict, verdict.codes[-1]) == ("promote", "recall")
    assert verdict.reasons[-1] == "Of the next clicks its towers find 40 %, the champion's 40 %, among 50 items."


def test_the_gate_holds_towers_that_are_shown_to_find_less() -> None:
    assert WORSE.surely_lost is not None
    assert 0.02 < WORSE.surely_lost < 0.1
    verdict = verdict_on(TowersEvidence(WORSE, None, not_finite=0))
    assert (verdict.verdict, verdict.codes[0]) == ("hold", "recall")
    assert (
        verdict.reasons[0] == "Of the next clicks its towers find 30 %, the champion's 40 %, among 50 items." + SET_BY
    )


def test_the_gate_holds_towers_that_find_less_of_what_they_were_trained_on() -> None:
    verdict = verdict_on(TowersEvidence(SAME, WORSE, not_finite=0))
    assert (verdict.verdict, verdict.codes[0]) == ("hold", "recall_in_sample")
    assert (
        verdict.reasons[0]
        == "Of the last clicks it was trained on its towers find 30 %, the champion's 40 %, among 50 items." + SET_BY
    )


def test_the_gate_holds_towers_whose_vectors_are_not_numbers() -> None:
    verdict = verdict_on(TowersEvidence(SAME, None, not_finite=3))
    assert (verdict.verdict, verdict.codes[0]) == ("hold", "towers_not_finite")
    assert verdict.reasons[0] == "Its towers give vectors that are not numbers (3 of users and items)."


def test_a_window_without_clicks_says_nothing_of_towers() -> None:
    none = np.zeros(0, np.int64)
    nothing = compare(none, champion=None, challenger=none, popularity=none, alive=0)
    verdict = verdict_on(TowersEvidence(nothing, None, not_finite=0))
    assert verdict.verdict == "promote"
    assert "recall" not in verdict.codes


def test_of_few_items_ten_say_more_and_first_towers_are_held_against_popularity() -> None:
    """Nearly all clicks are among 50 of 60 items."""
    first = compare(USER, champion=None, challenger=FOUND, popularity=np.zeros(1000, int), alive=60)
    assert (first.among, first.against, first.rival) == (10, "popularity", first.popularity)
    verdict = verdict_on(TowersEvidence(first, None, not_finite=0))
    assert (
        verdict.reasons[0]
        == "Of the next clicks its towers find 0 %, those most popular 100 %, among 10 items." + SET_BY
    )
