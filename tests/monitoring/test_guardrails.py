"""Beside the log loss: each limit passed holds the challenger with its reason, and chance alone passes none."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from monitoring.evaluation.compare import compare
from monitoring.evaluation.comparison import Comparison, PredictionShift
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.drift import ColumnDrift, Drift
from monitoring.evaluation.evidence import Evidence, Forgetting, InSample, ReferenceGain, Training
from monitoring.evaluation.reranking import RankingValue
from monitoring.evaluation.skew import Skew, SkewedFeature
from monitoring.gate.decide import decide
from monitoring.gate.guardrails import guardrails
from monitoring.gate.policy import Limit, Policy
from monitoring.statistics.sequential import Moments
from tests.worlds.challengers import evidence_of, gain_of, with_gain
from tests.worlds.windows import END, START, window

COST = Cost(2.0, None, 5_000_000, None, candidates=50, score_p99_ms=3.0)
CALM = Drift(2_000, 2_000, 0.2, (ColumnDrift("device", 0.2, 0.25), ColumnDrift("label", 0.1, 0.25)))


def trained(stopped: Any) -> Training:
    return Training(2_400, 2_400, 40, stopped, 0.4, rows_touched={}, ids_admitted={})


def forgets(share: float, spread: float = 0.12) -> Forgetting:
    return Forgetting(START, END, 2_400, 0.4, 0.5, gain_of(share, spread=spread))


def in_sample(share: float, *, spread: float = 0.12, p99: float = 0.4) -> InSample:
    return InSample(gain_of(share, spread=spread), 0.4, 0.4, PredictionShift(0.0, 1.0, 0.1, p99, 0.01))


def skewed(share: float, rows: int, *, of_one: float) -> Skew:
    worst = (SkewedFeature("item_rate_1h", of_one, 0.5, 0.25, "i7"),)
    return Skew(probes=1, rows=rows, values=12 * rows, differing_share=share, worst=worst)


def compared_with(**changes: Any) -> Evidence:
    """A challenger that gains a little, and whose comparison is otherwise in these parts."""
    evidence = with_gain(0.001)
    assert evidence.comparison is not None
    return replace(evidence, comparison=replace(evidence.comparison, **changes))


def shifted(**parts: float) -> PredictionShift:
    return replace(PredictionShift(0.0, 1.0, 0.1, 0.4, 0.01), **parts)


def test_a_challenger_within_every_limit_has_no_finding() -> None:
    sound = with_gain(
        0.001, training=trained("done"), forgetting=forgets(0.0), in_sample=in_sample(0.0), cost=COST, drift=CALM
    )
    assert guardrails(Policy(), sound) == []


@pytest.mark.parametrize(
    ("code", "evidence", "sentence"),
    [
        (
            "stopped_early",
            with_gain(0.001, training=trained("early")),
            "Training stopped early: the model that was trained predicted the impressions to come worse than the one"
            " that was not. Look at the learning rate and at the window.",
        ),
        (
            "too_good",
            with_gain(0.5),
            "The log loss is 50 % lower than the champion's, which is too good to be a better model alone: look for the"
            " future in the features.",
        ),
        (
            "flat",
            compared_with(shift=shifted(spread=0.05)),
            "The challenger's predictions vary 5 % as much as the champion's: it has gone flat.",
        ),
        (
            "prediction_shift",
            compared_with(shift=shifted(p99=7.0)),
            "One prediction in a hundred moved by 7.0 or more in log-odds.",
        ),
        (
            "prediction_shift",
            with_gain(0.001, in_sample=in_sample(0.01, p99=8.0)),
            "One prediction in a hundred moved by 8.0 or more in log-odds.",
        ),
        (
            "in_sample",
            with_gain(0.001, in_sample=in_sample(-0.05)),
            "Its final weights lose 5 % to the champion on the very window they were trained on.",
        ),
        (
            "forgetting",
            with_gain(0.001, forgetting=forgets(-0.2)),
            "On the day before, its log loss is 20 % higher than the champion's: it forgets.",
        ),
        (
            "skew",
            with_gain(0.001, skew=skewed(0.1, 500, of_one=0.15)),
            "Of the values served, 10 % are not what the log gives: item_rate_1h.",
        ),
        (
            "skew_of_one",
            with_gain(0.001, skew=skewed(0.002, 500, of_one=0.9)),
            "The feature item_rate_1h was served otherwise than the log gives it on 90 % of the rows.",
        ),
        (
            "ranking_value",
            with_gain(0.001, ranking_value=RankingValue(0, surely_lost=0.2)),
            "By the logged propensities its order of items is worth 20 % less than the champion's.",
        ),
        (
            "scoring_time",
            with_gain(0.001, cost=replace(COST, score_p99_ms=1_500.0)),
            "Scoring 50 candidates takes 1500.0 ms (99th percentile).",
        ),
        ("size", with_gain(0.001, cost=replace(COST, bytes=50_000_000_000)), "The model has 50,000 MB."),
    ],
)
def test_each_limit_passed_holds_with_its_reason(code: str, evidence: Evidence, sentence: str) -> None:
    verdict = decide(Policy(), evidence)
    assert (verdict.verdict, verdict.codes) == ("hold", (code, "not_worse")), "the comparison is given as well"
    assert verdict.reasons[0].startswith(f"{sentence} Set by Policy."), "the reason names the setting"


@pytest.mark.parametrize(
    "parts",
    [
        {"forgetting": forgets(-0.2, spread=2.0)},
        {"in_sample": in_sample(-0.05, spread=1.0)},
        {"skew": skewed(0.05, 20, of_one=0.25)},
        {"training": trained("time")},
        {"ranking_value": RankingValue(0, surely_lost=0.0)},
    ],
)
def test_a_limit_passed_by_chance_alone_holds_nothing(parts: dict[str, Any]) -> None:
    assert decide(Policy(), with_gain(0.001, **parts)).verdict == "promote"


def test_bad_calibration_is_held_unless_the_champion_is_worse() -> None:
    part = window(requests=2000)
    odds = np.log(part.truth / (1 - part.truth))
    loud, louder = (1 / (1 + np.exp(-(odds + by))) for by in (0.62, 0.9))
    policy = Policy(margin=0.5)

    def comparison(champion: np.ndarray) -> Comparison:
        return compare(part.label, part.request, challenger=loud, champion=champion)

    (finding,) = guardrails(policy, evidence_of(comparison(part.truth)))
    assert (finding.code, finding.word) == ("calibration", "hold")
    assert finding.sentence.startswith("The challenger's calibration error is 0.1")
    assert finding.sentence.endswith("), beyond what chance gives. Set by Policy.calibration = 0.05.")
    assert " (the champion's is 0.0" in finding.sentence
    assert decide(policy, evidence_of(comparison(louder))).verdict == "promote"


def test_of_a_first_model_calibration_is_looked_at_and_no_difference_from_a_champion() -> None:
    part = window(requests=2000)
    odds = np.log(part.truth / (1 - part.truth))
    loud = 1 / (1 + np.exp(-(odds + 0.62)))
    first = evidence_of(compare(part.label, part.request, challenger=loud, champion=None))
    assert [finding.code for finding in guardrails(Policy(), first)] == ["calibration"]


def test_predictions_that_shift_absurdly_are_held() -> None:
    part = window()
    champion = np.clip(part.truth * 0.3, 0.001, 0.999)
    absurd = evidence_of(compare(part.label, part.request, challenger=part.truth, champion=champion))
    assert decide(Policy(), absurd).verdict == "hold"
    found = {finding.code: finding.sentence for finding in guardrails(Policy(), absurd)}
    assert found["mean_prediction"].startswith("The mean prediction moved from 0.073 to 0.243. Set by Policy.mean_pred")


def test_predictions_gone_flat_are_held() -> None:
    part = window()
    flat = np.full(len(part.label), part.label.mean()) + 1e-6 * part.truth
    verdict = decide(
        Policy(), evidence_of(compare(part.label, part.request, challenger=flat, champion=part.blurred(2.5, 1)))
    )
    assert verdict.verdict == "hold"
    assert "flat" in verdict.codes


def test_a_slice_that_loses_is_named_although_the_whole_gains() -> None:
    part = window(requests=3000)
    reader = np.where(part.request % 10 == 0, "new", "known")
    challenger = np.where(reader == "new", part.blurred(1.5, 3), part.truth)
    comparison = compare(
        part.label,
        part.request,
        challenger=challenger,
        champion=part.blurred(0.6, 4),
        slices={"reader": reader},
        kinds={"reader": "user"},
    )
    assert comparison.gain.share is not None
    assert comparison.gain.share > 0
    verdict = decide(Policy(), evidence_of(comparison))
    assert (verdict.verdict, verdict.codes[0]) == ("hold", "slices")
    assert verdict.reasons[0].startswith("The challenger loses on reader = new (log loss ")
    assert verdict.reasons[0].endswith(
        " % higher on 1,500 impressions), shown to be more than 5 %. Set by Policy.slices = 0.05."
    )


def test_three_slices_are_named_and_the_others_counted() -> None:
    part = window(requests=3000)
    region = np.array(["north", "south", "west", "east", "centre"])[part.request % 5]
    comparison = compare(
        part.label, part.request, challenger=part.blurred(1.5, 3), champion=part.truth, slices={"region": region}
    )
    found = {finding.code: finding.sentence for finding in guardrails(Policy(), evidence_of(comparison))}
    assert found["slices"].count("region = ") == 3
    assert "and 2 slices more" in found["slices"]


def test_the_exposure_of_a_value_on_a_few_requests_may_move_by_chance() -> None:
    found = []
    for requests in (24, 2400):
        part = window(requests=requests)
        publisher = np.where(np.arange(len(part.label)) % 5 < 2, "ours", "theirs")
        favoured = part.truth * np.where(publisher == "ours", 1.15, 1.0)
        comparison = compare(
            part.label, part.request, challenger=favoured, champion=part.truth, attributes={"publisher": publisher}
        )
        exposure = comparison.fairness[0].exposure
        assert exposure is not None
        policy = Policy(fairness=Limit(0.9 * abs(exposure.difference)), requests=20, calibration=Limit(1.0))
        found.append([finding for finding in guardrails(policy, evidence_of(comparison)) if finding.code == "exposure"])
    assert found[0] == []
    assert [finding.facts["value"] for finding in found[1]] == ["publisher = theirs", "publisher = ours"]
    assert found[1][1].sentence.startswith("The exposure of publisher = ours goes from 4")


def test_a_champion_of_before_that_does_better_holds_no_challenger_that_takes_nothing_away() -> None:
    better_before = (ReferenceGain("proven baseline", "3", gain_of(-0.03)),)
    assert decide(Policy(), with_gain(0.001, spread=0.01, references=better_before)).verdict == "promote"
    held = decide(Policy(), with_gain(0.001, references=better_before))
    assert (held.verdict, held.codes[0]) == ("hold", "losses_added_up"), "that is not shown"


def test_losses_of_the_challengers_before_count_against_the_same_reference() -> None:
    lost = Moments(480, -0.008, 0.12**2)
    evidence = with_gain(-0.008, references=(ReferenceGain("a day ago", "3", gain_of(-0.008)),))
    assert "losses_added_up" not in decide(Policy(), evidence).codes
    record = evidence.process
    assert record is not None
    for _ in range(12):
        record = record.add(lost, loss=0.01, against={"3": lost})
    assert "losses_added_up" in decide(Policy(), replace(evidence, process=record)).codes
    elsewhere = replace(record, against={"2": record.against["3"]})
    assert "losses_added_up" not in decide(Policy(), replace(evidence, process=elsewhere)).codes


def drift_of(against: str, **psi: float) -> Drift:
    """Of columns whose limit is 0.25, the furthest first."""
    columns = tuple(ColumnDrift(name, value, 0.25, drifted=value > 0.25) for name, value in psi.items())
    return Drift(2_000, 2_000, 0.2, columns, against)


def test_a_column_that_drifted_from_either_reference_holds_and_is_named() -> None:
    trained = drift_of("what the champion was trained on", device=0.81, label=0.2)
    hours = drift_of("the same hours of earlier days", os=0.5, device=0.4, region=0.3, label=0.26, price=0.1)
    found = guardrails(Policy(), with_gain(0.001, drift=trained, season_drift=hours))
    assert [(finding.code, finding.word) for finding in found] == [("drift", "hold"), ("season_drift", "hold")]
    assert [finding.sentence for finding in found] == [
        "device (PSI 0.81, up to 0.25 is usual) differs from what the champion was trained on. Set by"
        " Policy.drift = 1.",
        "os (PSI 0.50, up to 0.25 is usual), device (PSI 0.40, up to 0.25 is usual), region (PSI 0.30, up to 0.25 is"
        " usual) and 1 column more differ from the same hours of earlier days. Set by Policy.drift = 1.",
    ]


def test_what_is_counted_from_the_log_moves_with_every_story_and_holds_nothing() -> None:
    counted = ColumnDrift("item_shown_1h", 2.5, 0.25, drifted=True, decides=False)
    story = drift_of("the same hours of earlier days", prediction=0.2)
    story = replace(story, columns=(counted, *story.columns))
    assert guardrails(Policy(), with_gain(0.001, season_drift=story)) == []


def test_a_surface_may_let_a_column_go_further_beyond_its_limit() -> None:
    drifted = with_gain(0.001, season_drift=drift_of("the same hours of earlier days", device=0.4, label=0.2))
    assert [finding.code for finding in guardrails(Policy(drift=Limit(1.5)), drifted)] == ["season_drift"]
    assert guardrails(Policy(drift=Limit(1.7)), drifted) == []
    (finding,) = guardrails(Policy(drift=Limit(0.7)), drifted)
    assert finding.sentence.startswith("device (PSI 0.40, up to 0.17 is usual), label (PSI 0.20, up to 0.17 is usual) ")


def test_the_surface_says_what_a_breach_means() -> None:
    forgot = with_gain(0.001, forgetting=forgets(-0.2))
    assert decide(Policy(forgetting=Limit(0.1, breach="reject")), forgot).verdict == "reject"
    assert decide(Policy(forgetting=Limit(0.3)), forgot).verdict == "promote"
    stopped = with_gain(0.001, training=trained("early"))
    assert decide(Policy(early="reject"), stopped).verdict == "reject"
    assert decide(Policy(early="pass"), stopped).verdict == "promote"


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("skew", "unmeasured/skew"),
        ("drift", "unmeasured/drift"),
        ("ranking_value", "unmeasured/ranking_value"),
        ("score_p99_ms", "unmeasured/scoring_time"),
        ("megabytes", "unmeasured/size"),
        ("forgetting", "no_earlier_window"),
    ],
)
@pytest.mark.parametrize("missing", ["hold", "reject"])
def test_the_surface_says_what_a_missing_figure_means(limit: str, code: str, missing: Any) -> None:
    nothing = with_gain(0.001)
    assert decide(Policy(), nothing).verdict == "promote"
    verdict = decide(Policy(**{limit: Limit(0.1, missing=missing)}), nothing)  # type: ignore[arg-type]
    assert (verdict.verdict, verdict.codes[0]) == (missing, code)


def test_an_order_whose_value_is_refused_is_one_whose_value_is_missing() -> None:
    refused = with_gain(0.001, ranking_value=RankingValue(0, refused="Every propensity is 1."))
    assert decide(Policy(), refused).verdict == "promote"
    verdict = decide(Policy(ranking_value=Limit(0.1, missing="hold")), refused)
    assert (verdict.verdict, verdict.codes[0]) == ("hold", "unmeasured/ranking_value")
    assert verdict.reasons[0] == "The value of its ranking could not be measured."
    nothing_earlier = decide(Policy(forgetting=Limit(0.1, missing="hold")), with_gain(0.001))
    assert nothing_earlier.reasons[0] == "There is no older window to see forgetting on."
