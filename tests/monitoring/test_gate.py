"""The gate's verdicts: what is clean is promoted, what is worse is not, and the reasons can be read."""

import json
from dataclasses import replace

import numpy as np
import pytest

from monitoring.checks.limits import Check
from monitoring.evaluation.compare import compare
from monitoring.evaluation.comparison import Comparison
from monitoring.evaluation.evidence import Evidence, WindowFacts
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.gate.decide import Verdict, decide
from monitoring.gate.policy import Limit, Policy
from monitoring.records.evidence_store import canonical
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import Moments
from tests.worlds.challengers import SHOWN, compared, evidence_of, with_gain
from tests.worlds.windows import END, START, window

FAILED = Check(
    "label rate",
    0.0,
    limit="more than 1%",
    passed=False,
    detail="0.00% of the impressions have a label.",
    rows=("i1", "i2", "i3", "i4", "i5", "i6"),
)


def verdict_on(evidence: Evidence, policy: Policy | None = None) -> tuple[str, str]:
    """The verdict, and the code of what decided."""
    verdict = decide(policy or Policy(), evidence)
    return verdict.verdict, verdict.codes[0]


def related(seed: int, requests: int, step: float) -> Comparison:
    """A challenger that differs from its champion as one more hour of training does, and is truly no better."""
    part = window(seed, requests=requests)
    odds = np.log(part.truth / (1 - part.truth)) + 0.4 * np.random.default_rng(seed + 1).normal(size=len(part.truth))
    before, now = (odds + step * np.random.default_rng(seed + other).normal(size=len(odds)) for other in (2, 3))
    rate = [1 / (1 + np.exp(-values)) for values in (before, now)]
    return compare(part.label, part.request, champion=rate[0], challenger=rate[1])


def test_a_better_challenger_is_promoted_with_what_speaks_for_it() -> None:
    checks = (replace(FAILED, passed=True),)
    verdict = decide(Policy(), evidence_of(compared(0.8, 0.1), checks=checks))
    assert (verdict.verdict, verdict.codes) == ("promote", ("not_worse", "checks_passed", "auc"))


def test_clean_windows_are_practically_always_promoted() -> None:
    verdicts = [decide(Policy(), evidence_of(related(seed, 400, 0.1))).verdict for seed in range(100)]
    assert verdicts.count("promote") >= 98


def test_a_challenger_shown_worse_is_rejected() -> None:
    assert verdict_on(evidence_of(compared(0.1, 1.0))) == ("reject", "worse_beyond_chance")


def test_a_challenger_that_is_shown_to_lose_some_is_held() -> None:
    assert verdict_on(with_gain(-0.015)) == ("hold", "shown_worse")


def test_a_loss_within_the_margin_is_promoted_once_the_process_has_shown_itself() -> None:
    assert verdict_on(with_gain(-0.005)) == ("promote", "not_worse")


def test_until_the_process_has_shown_itself_thin_challengers_wait() -> None:
    new = with_gain(0.0, requests=100, process=ProcessRecord())
    assert verdict_on(new) == ("hold", "not_yet_shown")
    assert verdict_on(replace(new, process=None)) == ("hold", "not_yet_shown"), "nothing is known of the process"
    grown = ProcessRecord().add(Moments(2_000, 0.004, 0.016), loss=0.01)
    assert verdict_on(replace(new, process=grown)) == ("promote", "not_worse")


def test_a_new_design_must_be_shown_better() -> None:
    assert verdict_on(with_gain(0.0, hypothesis="better")) == ("hold", "not_shown_better")
    assert verdict_on(with_gain(0.05, hypothesis="better")) == ("promote", "shown_better")
    assert verdict_on(with_gain(-0.05, hypothesis="better")) == ("reject", "shown_worse_design")


def test_many_designs_tried_before_make_the_next_one_prove_more() -> None:
    borderline, clear = (with_gain(share, hypothesis="better") for share in (0.016, 0.0225))
    assert verdict_on(borderline) == ("hold", "not_shown_better")
    assert verdict_on(clear) == ("promote", "shown_better")
    assert verdict_on(replace(clear, tests=PastTests(2_000))) == ("hold", "not_shown_better")


def test_predictions_that_are_not_numbers_are_rejected() -> None:
    part = window()
    challenger = part.blurred(0.1, 1)
    challenger[17] = np.nan
    comparison = compare(part.label, part.request, challenger=challenger, champion=part.blurred(0.1, 2))
    verdict = decide(Policy(), evidence_of(comparison))
    assert (verdict.verdict, verdict.codes) == ("reject", ("not_finite",))


def test_weights_that_would_go_live_and_a_measure_that_are_no_numbers_are_rejected() -> None:
    sound = with_gain(0.001)
    assert verdict_on(replace(sound, not_finite=3)) == ("reject", "weights_not_finite")
    assert sound.comparison is not None
    unknown = replace(sound.comparison, challenger=replace(sound.comparison.challenger, log_loss=None))
    assert verdict_on(replace(sound, comparison=unknown)) == ("reject", "measure_not_finite")


def test_a_thin_judged_part_is_held() -> None:
    assert verdict_on(evidence_of(related(0, 8, 0.001)), Policy(requests=20)) == ("hold", "few_requests")


def test_an_empty_judged_part_is_held() -> None:
    empty = np.zeros(0)
    evidence = evidence_of(compare(empty, empty, challenger=empty, champion=empty))
    assert verdict_on(evidence) == ("hold", "nothing_to_compare")


def test_a_process_that_turned_worse_is_held_whatever_its_past() -> None:
    record = ProcessRecord().add(Moments(200_000, 0.005, 0.016), loss=0.005)
    found = []
    for _ in range(60):
        loses = with_gain(-0.004, requests=400, process=record)
        found.append(verdict_on(loses, Policy(margin=0.005)))
        record = record.add(Moments(400, -0.004, 0.0144), loss=0.005)
    assert found[0] == ("promote", "not_worse")
    assert found[-1] == ("hold", "cusum_alarm")


def test_a_first_model_must_beat_the_base_rate() -> None:
    assert verdict_on(evidence_of(compared(None, 0.1))) == ("promote", "better_than_base_rate")
    worse = evidence_of(compared(None, 4.0))
    assert verdict_on(worse) == ("hold", "worse_than_base_rate"), "later it has more to train on"
    part = window()
    base = np.full(len(part.label), part.label.mean())
    barely = base + 1e-3 * np.random.default_rng(5).normal(size=len(base))
    comparison = compare(part.label, part.request, challenger=barely, champion=None)
    assert verdict_on(evidence_of(comparison)) == ("hold", "not_shown_better_than_base_rate")


def test_beside_a_base_rate_that_knows_the_answer_a_first_model_waits() -> None:
    part = window()
    comparison = compare(np.zeros(len(part.label)), part.request, challenger=part.truth, champion=None)
    assert verdict_on(evidence_of(comparison)) == ("hold", "base_rate_not_comparable")


def test_a_failed_data_check_is_given_by_name_and_asks_for_what_it_says() -> None:
    nothing_trained = Evidence(WindowFacts(START, END, 2_400, 0.0, 0), "progressive", checks=(FAILED,))
    verdict = decide(Policy(), nothing_trained)
    assert (verdict.verdict, verdict.codes) == ("reject", ("check/label rate",))
    waits = replace(FAILED, breach="hold")
    held = decide(Policy(), with_gain(0.001, checks=(waits,)))
    assert (held.verdict, held.codes) == ("hold", ("check/label rate", "not_worse")), "the comparison is given as well"


def test_of_a_rejected_window_what_would_hold_it_is_given_too() -> None:
    """It says more of the cause."""
    waits = replace(FAILED, name="volume", breach="hold")
    verdict = decide(Policy(), with_gain(0.001, checks=(waits, FAILED)))
    assert (verdict.verdict, verdict.codes) == ("reject", ("check/label rate", "check/volume"))


def test_a_window_of_which_nothing_was_measured_has_no_verdict() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        decide(Policy(), Evidence(WindowFacts(START, END, 2_400, 0.2, 0), "progressive"))


@pytest.mark.parametrize(
    "evidence", [evidence_of(compared(0.8, 0.1)), with_gain(-0.015), with_gain(0.5, checks=(FAILED,))]
)
def test_evidence_read_back_gives_the_same_verdict(evidence: Evidence) -> None:
    stored = json.loads(canonical(evidence.as_json()))
    assert decide(Policy(), Evidence.from_json(stored)) == decide(Policy(), evidence)


@pytest.mark.parametrize(
    ("setting", "value"), [("margin", -1), ("margin", 0), ("risk", 0.7), ("requests", 0), ("approvals", 0)]
)
def test_a_policy_that_makes_no_sense_is_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        Policy(**{setting: value})  # type: ignore[arg-type]


def test_a_limit_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at_most"):
        Limit(-1)
    with pytest.raises(ValueError, match="breach"):
        Limit(1, breach="promote")  # type: ignore[arg-type]


def reasons(evidence: Evidence) -> tuple[str, ...]:
    verdict: Verdict = decide(Policy(), evidence)
    return verdict.reasons


def test_the_reasons_as_sentences() -> None:
    better = reasons(evidence_of(compared(0.8, 0.1), checks=(replace(FAILED, passed=True),) * 12))
    assert better[0].startswith("The challenger's log loss on 2,400 impressions of 480 requests is ")
    assert "% lower than the champion's (at worst" in better[0]
    assert better[1] == "All 12 data checks passed."
    assert better[2].startswith("AUC 0.7")
    assert ", the champion's 0.7" in better[2]
    assert "; calibration error 0.0" in better[2]
    assert reasons(with_gain(0.001, checks=(FAILED,)))[0] == (
        "Data check 'label rate' failed: 0.00% of the impressions have a label. Allowed: more than 1%."
        " Impressions: i1, i2, i3, i4, i5 and more."
    )
    assert reasons(with_gain(0.001, not_finite=1)) == (
        "The weights that would go live predict no number on 1 impression of the window.",
    )
    sound = with_gain(0.001).comparison
    assert sound is not None
    broken = replace(sound, challenger=replace(sound.challenger, not_finite=2))
    assert reasons(evidence_of(broken)) == ("The challenger's prediction is not a number on 2 of 2,400 impressions.",)
    unknown = replace(sound, challenger=replace(sound.challenger, calibration_error=None))
    assert reasons(evidence_of(unknown)) == ("The challenger's calibration error is not a finite number.",)
    assert reasons(evidence_of(related(0, 8, 0.001)))[0] == "The judged part is too thin: 8 requests, of at least 20."
    assert reasons(evidence_of(replace(sound, impressions=0)))[0] == "There is nothing to compare the challenger on."


def test_a_first_models_reasons_as_sentences() -> None:
    first = reasons(evidence_of(compared(None, 0.1), process=SHOWN))
    opening = "There is no champion yet. The challenger's log loss on 2,400 impressions of 480 requests is "
    assert first[0].startswith(opening)
    assert "% lower than that of the base rate (95 % bound: at worst " in first[0]
    assert first[1].startswith("AUC 0.7")
    assert "the base rate's" not in first[1], "it orders nothing"
    (worse, *_) = reasons(evidence_of(compared(None, 4.0)))
    assert worse.startswith(opening)
    assert worse.endswith("; a first model must be better than that, and has more to learn from later.")
    part = window()
    unknown = evidence_of(compare(np.zeros(len(part.label)), part.request, challenger=part.truth, champion=None))
    assert reasons(unknown)[0] == (
        "The log loss on 2,400 impressions of 480 requests cannot be compared with the base rate's."
    )
