"""What the watch finds in what a champion has served."""

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from monitoring.evaluation.compare import compare
from monitoring.live.watch import Promised, Watch, Watching, judge, loss_deviation, staleness

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def served(requests: int, seed: int = 0, rate: float = 0.2) -> Arrays:
    """Labels, request codes and true probabilities of requests of five impressions."""
    random = np.random.default_rng(seed)
    truth = 1 / (1 + np.exp(-random.normal(math.log(rate / (1 - rate)), 1.0, requests * 5)))
    return (random.random(requests * 5) < truth).astype(np.float64), np.repeat(np.arange(requests), 5), truth


def blurred(truth: np.ndarray, noise: float, seed: int = 1) -> np.ndarray:
    """The truth with noise in log-odds: the more, the worse."""
    odds = np.log(truth / (1 - truth)) + np.random.default_rng(seed).normal(0, noise, len(truth))
    scores: np.ndarray = 1 / (1 + np.exp(-odds))
    return scores


def found(arrays: Arrays, scores: np.ndarray, before: np.ndarray | None, promised: Promised, **limits: Any) -> Watching:
    label, request, _ = arrays
    compared = compare(label, request, challenger=scores, champion=before)
    deviation = loss_deviation(label, request, scores)
    return judge(Watch(**limits), compared, deviation, promised, now="8", before=None if before is None else "7")


def promise(scores_noise: float = 0.1) -> Promised:
    """What the evidence promised, of another window."""
    label, request, truth = served(2000, seed=9)
    judged = compare(label, request, challenger=blurred(truth, scores_noise, seed=2), champion=None)
    return Promised(judged.requests, judged.challenger)


def codes(watching: Watching) -> list[str]:
    return [finding.code for finding in watching.findings]


def test_a_champion_that_keeps_its_promise_is_well() -> None:
    arrays = served(1500)
    watching = found(arrays, blurred(arrays[2], 0.1), blurred(arrays[2], 0.2, seed=3), promise())
    assert watching.word == "well", watching.reasons
    assert codes(watching) == ["served_no_worse", "promised/normalised entropy", "promised/calibration error"]


def test_a_champion_shown_worse_than_the_version_before_it_is_a_breach_that_going_back_mends() -> None:
    arrays = served(1500)
    watching = found(arrays, blurred(arrays[2], 0.8), blurred(arrays[2], 0.1, seed=3), promise(0.8))
    assert (watching.word, codes(watching)[0]) == ("breach", "served_worse")
    assert watching.before_is_better


def test_a_world_that_changed_for_both_is_a_breach_that_going_back_does_not_mend() -> None:
    arrays = served(1500)
    label, request, truth = arrays
    upside_down = (1 - label, request, truth)
    scores = blurred(truth, 0.1)
    watching = found(upside_down, scores, blurred(truth, 0.3, seed=3) * 0.9, promise())
    assert watching.word == "breach"
    assert not watching.before_is_better
    broken = [finding.code for finding in watching.findings if finding.word == "reject"]
    assert "promised/normalised entropy" in broken


def test_probabilities_that_are_off_are_a_breach_even_where_there_was_no_version_before() -> None:
    arrays = served(1500)
    watching = found(arrays, np.clip(arrays[2] + 0.3, 0, 0.99), None, promise())
    assert watching.word == "breach"
    broken = [finding.code for finding in watching.findings if finding.word == "reject"]
    assert "promised/calibration error" in broken
    assert codes(watching)[: len(broken)] == broken, "what makes it a breach comes first"
    assert not watching.before_is_better


def test_a_prediction_that_is_not_a_number_is_a_breach() -> None:
    arrays = served(1500)
    broken = arrays[2].copy()
    broken[7] = np.nan
    watching = found(arrays, broken, arrays[2], promise())
    assert (watching.word, watching.before_is_better) == ("breach", True)
    assert codes(watching) == ["served_not_finite"]
    assert not found(arrays, broken, None, promise()).before_is_better


@pytest.mark.parametrize("requests", [0, 1, 99])
def test_thin_data_say_nothing_however_bad_they_look(requests: int) -> None:
    arrays = served(requests)
    watching = found(arrays, 1 - arrays[2], arrays[2], promise())
    assert (watching.word, codes(watching)) == ("thin", ["served_few"])


def test_evidence_that_promised_nothing_leaves_the_comparison_with_the_version_before() -> None:
    arrays = served(1500)
    well = found(arrays, blurred(arrays[2], 0.1), arrays[2], Promised())
    assert (well.word, codes(well)) == ("well", ["served_no_worse"])
    breach = found(arrays, blurred(arrays[2], 0.8), arrays[2], Promised())
    assert (breach.word, codes(breach)) == ("breach", ["served_worse"])


def test_champions_as_good_as_promised_are_left_alone_however_often_one_looks() -> None:
    """A dozen, each as good as the version before it, looked at three times as what it served grows."""
    alarms = 0
    promised = promise(0.3)
    for seed in range(12):
        label, request, truth = served(960, seed=100 + seed)
        now, before = blurred(truth, 0.3, seed=seed), blurred(truth, 0.3, seed=1000 + seed)
        for rows in (1600, 3200, 4800):
            part = (label[:rows], request[:rows], truth[:rows])
            alarms += found(part, now[:rows], before[:rows], promised).word == "breach"
    assert alarms == 0


def test_what_the_watch_finds_as_sentences() -> None:
    arrays = served(1500)
    truth = arrays[2]
    well = found(arrays, blurred(truth, 0.1), blurred(truth, 0.2, seed=3), promise()).reasons
    assert well[0].startswith(
        "On 7,500 impressions of 1,500 requests whose labels are known, the log loss of version 8 is "
    )
    assert well[0].endswith(
        "lower than that of version 7, which served before it; allowed is 1 % higher, and more is not shown."
    )
    assert well[1].startswith("Its normalised entropy is 0.")
    assert "; its evidence promised 0." in well[1]
    assert well[1].endswith(" is allowed.")
    worse = found(arrays, blurred(truth, 0.8), blurred(truth, 0.1, seed=3), promise(0.8)).reasons[0]
    assert " % higher than that of version 7, which served before it (at best " in worse
    assert worse.endswith(" % higher, whenever one looks); allowed is 1 % higher.")
    first = found(arrays, truth, None, Promised()).reasons[0]
    assert " lower than that of the base rate; allowed is" in first
    broken = truth.copy()
    broken[7] = np.nan
    assert found(arrays, broken, truth, promise()).reasons == (
        "The prediction of version 8 is not a number on 1 of 7,500 impressions.",
    )
    assert found(served(1), truth[:5], truth[:5], promise()).reasons == (
        "Version 8 has served 5 impressions of 1 request whose labels are known; the watch waits for 100 requests.",
    )


def test_a_stale_champion_is_a_matter_for_a_person() -> None:
    limits = Watch(stale_after=timedelta(hours=3))
    assert staleness(limits, "8", timedelta(hours=3)) is None
    sentence = staleness(limits, "8", timedelta(hours=5))
    assert sentence is not None
    assert sentence.startswith("Version 8 was trained on nothing newer than 5.0 hours ago; allowed is 3.0 hours.")


@pytest.mark.parametrize(
    ("field", "value"),
    [("margin", -0.1), ("risk", 0.0), ("requests", 1), ("look_back", timedelta(0)), ("entropy_limit", math.nan)],
)
def test_limits_that_make_no_sense_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Watch\.{field}="):
        Watch(**{field: value})
