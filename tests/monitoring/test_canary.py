"""The canary, judged after every look: an equal one goes through, a worse one goes back, nothing without traffic."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from benchmarks.canary_simulations import BEGAN, Outcome, Planted, Traffic, last_look, looks, outcomes
from monitoring.live.arms import SCORE_BINS, Arm, Arms, Preferences
from monitoring.live.canary import Canary, judge_canary
from monitoring.statistics.difference import Ratio
from monitoring.statistics.sequential import Moments

CANARY = Canary(margin=0.1)
TRAFFIC = Traffic(users=10_000, looks=24)


def ends(planted: Planted, canary: Canary = CANARY, *, runs: int = 25, traffic: Traffic = TRAFFIC) -> Outcome:
    return outcomes(canary, planted, traffic, runs=runs, seed=11)


def test_an_equal_canary_is_promoted_as_not_inferior_and_is_not_rolled_back_by_an_alarm() -> None:
    found = ends(Planted(), runs=60)
    assert found.promoted > 0.9
    assert found.rolled_back == 0.0
    assert found.requests is not None
    assert found.requests < 10_000


def test_a_canary_that_loses_what_the_margin_allows_and_no_less_is_seldom_promoted() -> None:
    assert ends(Planted(clicks=0.9), runs=60).promoted <= 0.07


@pytest.mark.parametrize(
    ("planted", "code", "requests"),
    [
        (Planted(clicks=0.7), "live_worse", 4_000),
        (Planted(clicks=0.4), "live_guardrail/clicks", 1_500),
        (Planted(errors=0.05), "live_guardrail/errors", 2_000),
        (Planted(empty=0.05), "live_guardrail/empty", 2_000),
        (Planted(slow=0.1), "live_guardrail/slow", 1_500),
        (Planted(slow=0.05), "live_guardrail/slow", 6_000),
        (Planted(constant_score=0.0), "live_guardrail/scores", 1_500),
        (Planted(constant_score=0.99), "live_guardrail/scores", 1_500),
    ],
)
def test_a_worse_canary_is_rolled_back_soon_and_for_what_is_wrong_with_it(
    planted: Planted, code: str, requests: int
) -> None:
    found = ends(planted)
    assert found.rolled_back == 1.0
    assert code in found.codes
    assert found.requests is not None
    assert found.requests < requests


def test_a_better_canary_is_shown_to_be_superior_and_an_equal_one_is_not() -> None:
    superior = replace(CANARY, goal="superior")
    assert ends(Planted(clicks=1.25), superior).promoted == 1.0
    assert ends(Planted(), superior).promoted <= 0.08


def test_a_split_that_favours_one_arm_is_found() -> None:
    found = ends(Planted(users=1.3))
    assert found.rolled_back > 0.9
    assert "sample_ratio" in found.codes


def test_one_percent_more_users_in_one_arm_are_found_among_millions() -> None:
    def look(more: float) -> str:
        control = Arm(users=2_000_000, requests=1)
        arms = Arms(control, replace(control, users=round(2_000_000 * more)))
        return judge_canary(CANARY, arms, BEGAN, BEGAN + timedelta(hours=2)).findings[0].code

    assert look(1.01) == "sample_ratio"
    assert look(0.99) == "sample_ratio"
    assert look(1.001) == "live_not_yet_shown"


def test_without_traffic_nothing_is_promoted() -> None:
    busy = Arm(users=40, requests=90, answered=90, reward=Ratio(40, 1.0, 1.0, 0.1))
    for arms in (Arms(), Arms(control=busy), Arms(canary=replace(busy, users=50), control=Arm(users=45))):
        look = judge_canary(CANARY, arms, BEGAN, BEGAN + timedelta(hours=5))
        assert (look.word, look.findings[-1].code) == ("wait", "no_traffic")
        last = judge_canary(CANARY, arms, BEGAN, BEGAN + CANARY.at_most)
        assert (last.word, last.findings[0].code) == ("roll back", "no_traffic")
    assert "without traffic nothing is promoted" in look.reasons[-1]


def test_an_arm_that_nobody_falls_to_is_a_broken_split() -> None:
    arms = Arms(control=Arm(users=400, requests=900, answered=900))
    look = judge_canary(CANARY, arms, BEGAN, BEGAN + timedelta(minutes=5))
    assert (look.word, look.findings[0].code) == ("roll back", "sample_ratio")


def test_a_good_canary_is_not_promoted_before_its_time_and_a_bad_one_goes_back_at_once() -> None:
    good, control = Ratio(5_000, 0.6, 2.0, 0.3, 0.5, 0.1), Ratio(5_000, 0.5, 2.0, 0.3, 0.5, 0.1)
    better = Arms(Arm(users=5_000, requests=10_000, reward=control), Arm(users=5_000, requests=10_000, reward=good))
    early = judge_canary(CANARY, better, BEGAN, BEGAN + timedelta(minutes=59))
    assert (early.word, early.findings[0].code) == ("wait", "live_shown_early")
    assert judge_canary(CANARY, better, BEGAN, BEGAN + timedelta(minutes=60)).word == "promote"
    worse = Arms(better.canary, better.control)
    assert judge_canary(CANARY, worse, BEGAN, BEGAN + timedelta(minutes=1)).word == "roll back"


def test_a_canary_that_shows_nothing_in_its_time_is_rolled_back_for_want_of_evidence() -> None:
    few = Traffic(users=200, looks=24)
    look, _ = last_look(CANARY, looks(Planted(), few, np.random.default_rng(1)))
    assert (look.word, look.findings[0].code) == ("roll back", "want_of_evidence")
    assert "Set by Canary.at_most" in look.reasons[0]


def test_an_alarm_comes_before_a_success() -> None:
    ratio = Ratio(5_000, 0.6, 2.0, 0.3, 0.5, 0.1)
    arm = Arm(users=5_000, requests=10_000, answered=10_000, reward=ratio)
    arms = Arms(replace(arm, reward=replace(ratio, top=0.5)), replace(arm, errors=900))
    look = judge_canary(CANARY, arms, BEGAN, BEGAN + timedelta(hours=2))
    assert look.word == "roll back"
    assert [finding.code for finding in look.findings] == ["live_guardrail/errors", "live_shown"]
    assert "Set by Canary.errors = 0.01" in look.reasons[0]


def test_a_shadow_is_judged_by_what_it_gains_on_the_same_impressions() -> None:
    shadow = Canary(way="shadow")
    assert ends(Planted(), shadow).promoted == 1.0
    assert ends(Planted(gain=-0.1), shadow).rolled_back == 1.0
    thin = Arms(Arm(requests=9), Arm(requests=9), Moments(9, 0.2, 0.1))
    assert judge_canary(shadow, thin, BEGAN, BEGAN + timedelta(hours=2)).word == "wait"


def test_an_interleaving_is_judged_by_whose_items_users_prefer() -> None:
    interleave = Canary(way="interleave", margin=0.1, goal="superior")
    assert ends(Planted(clicks=1.4), interleave).promoted == 1.0
    assert ends(Planted(clicks=0.6), interleave).rolled_back == 1.0
    ties = Arms(Arm(requests=9), Arm(requests=9), preferences=Preferences(0, 0, 900))
    assert judge_canary(interleave, ties, BEGAN, BEGAN + timedelta(hours=2)).word == "wait"


def test_the_path_is_plain_json_and_holds_every_test() -> None:
    *_, (ran, arms) = looks(Planted(), Traffic(users=500, looks=4), np.random.default_rng(2))
    for each in (arms, Arms()):
        point = dict(judge_canary(CANARY, each, BEGAN, BEGAN + ran).path_point)
        assert json.loads(json.dumps(point, allow_nan=False)) == point
        assert point.keys() >= {"sample_ratio", "errors", "empty", "slow", "clicks", "scores", "lower", "upper"}


def test_a_setting_or_a_figure_that_cannot_be_is_named() -> None:
    for wrong, message in (
        ({"share": 0.6}, "share"),
        ({"margin": 1.0}, "margin"),
        ({"way": "parade"}, "shadow"),
        ({"goal": "best"}, "superior"),
        ({"risk": 0.0}, "risk"),
        ({"at_least": timedelta(days=2)}, "at_most"),
        ({"every": timedelta(0)}, "every"),
    ):
        with pytest.raises(ValueError, match=message):
            Canary(**wrong)
    for wrong, message in (
        ({"scores": (1,) * (SCORE_BINS + 1)}, "bins"),
        ({"answered": 3, "slow": 4}, "slow"),
        ({"clicks": 3}, "squares"),
    ):
        with pytest.raises(ValueError, match=message):
            Arm(**wrong)
