"""The gate's verdicts: what is clean is promoted, what is worse is not, and the reasons can be read."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from monitoring.evaluation.compare import compare
from monitoring.evaluation.process_record import Record
from monitoring.gate.decide import Limit, Policy, decide
from monitoring.records.evidence_store import canonical
from monitoring.statistics.error_control import Past
from monitoring.statistics.sequential import Moments
from tests.monitoring.worlds import window

SHOWN = Record().add(Moments(20_000, 0.005, 0.016), loss=0.01)
"""A process that has shown itself."""


def asked(
    quality: Mapping[str, Any], *, record: Record = SHOWN, question: str = "not_worse", **more: Any
) -> dict[str, Any]:
    """The figures of a candidate with this comparison."""
    return {
        "checks": [],
        "quality": quality,
        "question": question,
        "champion": "7",
        "process": {"before": record.as_dict()},
        "tests": {"before": Past().as_dict()},
        **more,
    }


def judged(
    champion_noise: float | None, challenger_noise: float, *, requests: int = 480, **more: Any
) -> dict[str, Any]:
    """Two models that know the truth but for an error of their log-odds."""
    part = window(requests=requests)
    champion = None if champion_noise is None else part.blurred(champion_noise, 1000)
    quality = compare(part.label, part.request, challenger=part.blurred(challenger_noise, 2000), champion=champion)
    return asked(quality, **more)


def related(seed: int, requests: int, step: float) -> dict[str, Any]:
    """A challenger that differs from its champion as one more hour of learning does, and is truly no better."""
    part = window(seed, requests=requests)
    odds = np.log(part.truth / (1 - part.truth)) + 0.4 * np.random.default_rng(seed + 1).normal(size=len(part.truth))
    before, now = (odds + step * np.random.default_rng(seed + other).normal(size=len(odds)) for other in (2, 3))
    rate = [1 / (1 + np.exp(-values)) for values in (before, now)]
    return compare(part.label, part.request, champion=rate[0], challenger=rate[1])


def with_gain(share: float, *, requests: int = 480, spread: float = 0.12, **more: Any) -> dict[str, Any]:
    """A comparison whose gain in log loss is exactly that."""
    figures = judged(0.1, 0.1, requests=requests, **more)
    figures["quality"] = copy.deepcopy(figures["quality"])
    reach = 1.645 * spread / requests**0.5
    figures["quality"]["paired"] |= {
        "gain_share": share,
        "lower_share": share - reach,
        "upper_share": share + reach,
        "moments": Moments(requests, share, spread**2).as_dict(),
    }
    return figures


def test_a_better_challenger_is_promoted_with_figures_in_words() -> None:
    verdict = decide(Policy(), judged(0.8, 0.1))
    assert verdict.verdict == "promote"
    assert verdict.reasons[0].startswith("The challenger's log loss on 2,400 impressions of 480 requests is ")
    assert "% lower than the champion's (at worst" in verdict.reasons[0]


def test_clean_windows_are_practically_always_promoted() -> None:
    verdicts = [decide(Policy(), asked(related(seed, 400, 0.1))).verdict for seed in range(100)]
    assert verdicts.count("promote") >= 98


def test_a_challenger_shown_worse_is_rejected() -> None:
    verdict = decide(Policy(), judged(0.1, 1.0))
    assert verdict.verdict == "reject"
    assert "at best" in verdict.reasons[0]
    assert "higher than the champion's" in verdict.reasons[0]


def test_a_challenger_that_is_shown_to_lose_some_is_held() -> None:
    verdict = decide(Policy(margin=0.01), with_gain(-0.015, requests=480))
    assert verdict.verdict == "hold"
    assert verdict.reasons[0].startswith(
        "The challenger's log loss on 2,400 impressions of 480 requests is 1.5 % higher"
    )


def test_a_loss_within_the_margin_is_promoted_once_the_process_has_shown_itself() -> None:
    assert decide(Policy(margin=0.01), with_gain(-0.005)).verdict == "promote"


def test_until_the_process_has_shown_itself_thin_challengers_wait() -> None:
    verdict = decide(Policy(margin=0.01), with_gain(0.0, requests=100, record=Record()))
    assert verdict.verdict == "hold"
    assert "not yet shown" in verdict.reasons[0]
    grown = Record().add(Moments(2_000, 0.004, 0.016), loss=0.01)
    assert decide(Policy(margin=0.01), with_gain(0.0, requests=100, record=grown)).verdict == "promote"


def test_a_new_design_must_be_shown_better() -> None:
    assert decide(Policy(), with_gain(0.0, question="better")).verdict == "hold"
    verdict = decide(Policy(), with_gain(0.05, question="better"))
    assert verdict.verdict == "promote"
    assert "shown to be better" in verdict.reasons[0]
    assert decide(Policy(), with_gain(-0.05, question="better")).verdict == "reject"


def test_many_designs_tried_before_make_the_next_one_prove_more() -> None:
    fresh, tired = Past(), Past(tested=2_000, small=1_000)
    borderline = with_gain(0.016, question="better")
    assert decide(Policy(), borderline | {"tests": {"before": fresh.as_dict()}}).verdict == "hold"
    clear = with_gain(0.0225, question="better")
    assert decide(Policy(), clear | {"tests": {"before": fresh.as_dict()}}).verdict == "promote"
    assert decide(Policy(), clear | {"tests": {"before": tired.as_dict()}}).verdict == "hold"


def test_predictions_that_are_not_numbers_are_rejected() -> None:
    part = window()
    challenger = part.blurred(0.1, 1)
    challenger[17] = np.nan
    quality = compare(part.label, part.request, challenger=challenger, champion=part.blurred(0.1, 2))
    verdict = decide(Policy(), asked(quality))
    assert verdict.verdict == "reject"
    assert verdict.reasons == ("The challenger's prediction is not a number on 1 of 2,400 impressions.",)


def test_a_thin_judged_part_is_held() -> None:
    verdict = decide(Policy(requests=20), asked(related(0, 8, 0.001)))
    assert verdict.verdict == "hold"
    assert verdict.reasons[0] == "The judged part is too thin: 8 requests, of at least 20."


def test_an_empty_judged_part_is_held() -> None:
    empty = np.zeros(0)
    verdict = decide(Policy(), asked(compare(empty, empty, challenger=empty, champion=empty)))
    assert verdict.verdict == "hold"
    assert "nothing to compare" in verdict.reasons[0]


def test_bad_calibration_is_held_unless_the_champion_is_worse() -> None:
    part = window(requests=2000)
    odds = np.log(part.truth / (1 - part.truth))
    loud = 1 / (1 + np.exp(-(odds + 0.62)))
    policy = Policy(margin=0.5)
    verdict = decide(policy, asked(compare(part.label, part.request, challenger=loud, champion=part.truth)))
    assert verdict.verdict == "hold"
    assert "calibration error is 0.1" in verdict.reasons[0]
    louder = 1 / (1 + np.exp(-(odds + 0.9)))
    assert (
        decide(policy, asked(compare(part.label, part.request, challenger=loud, champion=louder))).verdict == "promote"
    )


def test_predictions_that_shift_absurdly_are_held() -> None:
    part = window()
    champion = np.clip(part.truth * 0.3, 0.001, 0.999)
    verdict = decide(Policy(), asked(compare(part.label, part.request, challenger=part.truth, champion=champion)))
    assert verdict.verdict == "hold"
    assert any("The mean prediction moved from 0." in reason for reason in verdict.reasons)


def test_predictions_gone_flat_are_held() -> None:
    part = window()
    flat = np.full(len(part.label), part.label.mean()) + 1e-6 * part.truth
    quality = compare(part.label, part.request, challenger=flat, champion=part.blurred(2.5, 1))
    verdict = decide(Policy(), asked(quality))
    assert verdict.verdict == "hold"
    assert any("gone flat" in reason for reason in verdict.reasons)


def test_a_slice_that_loses_is_named_although_the_whole_gains() -> None:
    part = window(requests=3000)
    reader = np.where(part.request % 10 == 0, "new", "known")
    challenger = np.where(reader == "new", part.blurred(1.5, 3), part.truth)
    quality = compare(
        part.label,
        part.request,
        challenger=challenger,
        champion=part.blurred(0.6, 4),
        slices={"reader": reader},
        kinds={"reader": "user"},
    )
    verdict = decide(Policy(), asked(quality))
    assert quality["paired"]["gain_share"] > 0
    assert verdict.verdict == "hold"
    assert verdict.reasons[0].startswith("The challenger loses on reader = new (log loss ")


@pytest.mark.parametrize(
    ("more", "phrase"),
    [
        ({"learned": {"stopped": "early"}}, "Learning stopped early"),
        ({"forgetting": {"gain_share": -0.2, "upper_share": -0.15}}, "On the day before, its log loss is 20 % higher"),
        (
            {"again": {"gain_share": -0.05, "upper_share": -0.02, "moved_p99": 0.4}},
            "on the very window they learned from",
        ),
        (
            {"again": {"gain_share": 0.01, "upper_share": 0.02, "moved_p99": 8.0}},
            "One prediction in a hundred moved by 8.0",
        ),
        (
            {"skew": {"differing_share": 0.1, "rows": 500, "worst": [{"feature": "item_rate_1h", "share": 0.9}]}},
            "are not what the log gives: item_rate_1h",
        ),
        ({"counterfactual": {"lost_share_shown": 0.2}}, "worth 20 % less"),
        ({"cost": {"score_p99_ms": 1500.0, "score_rows": 50}}, "Scoring 50 candidates takes 1500.0 ms"),
        ({"cost": {"bytes": 50e9}}, "The model has 50,000 MB"),
    ],
)
def test_each_limit_passed_is_held_with_its_reason(more: dict[str, Any], phrase: str) -> None:
    assert decide(Policy(), with_gain(0.001)).verdict == "promote"
    verdict = decide(Policy(), with_gain(0.001, **more))
    assert verdict.verdict == "hold"
    assert phrase in verdict.reasons[0]
    assert verdict.reasons[-1].startswith("The challenger's log loss on"), "the comparison is told as well"


@pytest.mark.parametrize(
    "more",
    [
        {"forgetting": {"gain_share": -0.2, "upper_share": 0.05}},
        {"again": {"gain_share": -0.05, "upper_share": 0.01, "moved_p99": 0.4}},
        {"skew": {"differing_share": 0.05, "rows": 20, "worst": [{"feature": "item_rate_1h", "share": 0.25}]}},
    ],
)
def test_a_limit_passed_by_chance_alone_holds_nothing(more: dict[str, Any]) -> None:
    assert decide(Policy(), with_gain(0.001, **more)).verdict == "promote"


def test_the_exposure_of_a_value_on_a_few_requests_may_move_by_chance() -> None:
    words = []
    for requests in (24, 2400):
        part = window(requests=requests)
        publisher = np.where(np.arange(len(part.label)) % 5 < 2, "ours", "theirs")
        favoured = part.truth * np.where(publisher == "ours", 1.15, 1.0)
        quality = compare(
            part.label, part.request, challenger=favoured, champion=part.truth, attributes={"publisher": publisher}
        )
        change = quality["fairness"][0]["exposure_change"]
        policy = Policy(fairness=Limit(0.9 * abs(change["difference"])), requests=20, calibration=Limit(1.0))
        told = " ".join(decide(policy, asked(quality)).reasons)
        words.append("exposure of" in told)
    assert words == [False, True]


def test_an_older_champion_that_does_better_holds_no_challenger_that_takes_nothing_away() -> None:
    anchors = [{"name": "standard", "version": "3", "moments": Moments(480, -0.03, 0.0144).as_dict()}]
    assert decide(Policy(), with_gain(0.001, spread=0.01, anchors=anchors)).verdict == "promote"
    assert decide(Policy(), with_gain(0.001, anchors=anchors)).verdict == "hold", "that is not shown"


def test_a_gain_too_good_to_be_true_is_held() -> None:
    verdict = decide(Policy(), with_gain(0.5))
    assert verdict.verdict == "hold"
    assert "look for the future in the features" in verdict.reasons[0]


def test_the_surface_says_what_a_breach_and_what_a_missing_figure_mean() -> None:
    forgot = with_gain(0.001, forgetting={"gain_share": -0.2, "upper_share": -0.15})
    assert decide(Policy(forgetting=Limit(0.1, breach="reject")), forgot).verdict == "reject"
    assert decide(Policy(forgetting=Limit(0.3)), forgot).verdict == "promote"
    assert decide(Policy(forgetting=Limit(0.1, missing="hold")), with_gain(0.001)).verdict == "hold"
    assert decide(Policy(counterfactual=Limit(0.1, missing="reject")), with_gain(0.001)).verdict == "reject"


def test_a_process_that_loses_lately_is_held_whatever_its_past() -> None:
    record = Record().add(Moments(200_000, 0.005, 0.016), loss=0.005)
    words = []
    for _ in range(60):
        loses = with_gain(-0.004, requests=400, record=record)
        words.append(decide(Policy(margin=0.005), loses).verdict)
        record = record.add(Moments(400, -0.004, 0.0144), loss=0.005)
    assert words[0] == "promote"
    assert words[-1] == "hold"


def test_a_first_model_must_beat_the_base_rate() -> None:
    assert decide(Policy(), judged(None, 0.1)).verdict == "promote"
    assert decide(Policy(), judged(None, 4.0)).verdict == "hold", "later it has more to learn from"
    part = window()
    base = np.full(len(part.label), part.label.mean())
    barely = base + 1e-3 * np.random.default_rng(5).normal(size=len(base))
    verdict = decide(Policy(), asked(compare(part.label, part.request, challenger=barely, champion=None)))
    assert verdict.verdict == "hold"
    assert "base rate" in verdict.reasons[0]


def test_a_failed_data_check_is_told_by_name_and_asks_for_what_it_says() -> None:
    check = {"name": "label rate", "passed": False, "detail": "0.00% of the impressions have a label."}
    check |= {"limit": "more than 1%", "rows": ["i1", "i2", "i3", "i4", "i5", "i6"], "value": 0.0, "breach": "reject"}
    verdict = decide(Policy(), {"checks": [check]})
    assert verdict.verdict == "reject"
    assert verdict.reasons == (
        "Data check 'label rate' failed: 0.00% of the impressions have a label. Allowed: more than 1%."
        " Impressions: i1, i2, i3, i4, i5 and more.",
    )
    assert decide(Policy(), with_gain(0.001) | {"checks": [check | {"breach": "hold"}]}).verdict == "hold"


def test_the_same_figures_read_back_give_the_same_verdict() -> None:
    figures = judged(0.8, 0.1)
    assert decide(Policy(), json.loads(canonical(figures))) == decide(Policy(), figures)


@pytest.mark.parametrize(
    ("setting", "value"), [("margin", -1), ("margin", 0), ("risk", 0.7), ("requests", 0), ("approvals", 0)]
)
def test_a_policy_that_makes_no_sense_is_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        Policy(**{setting: value})


def test_a_limit_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at_most"):
        Limit(-1)
    with pytest.raises(ValueError, match="breach"):
        Limit(1, breach="promote")  # type: ignore[arg-type]
