"""The gate's verdicts: what is clean is promoted, what is worse is not, and the reasons can be read."""

import numpy as np
import pytest

from monitoring.compare import compare
from monitoring.gate import Policy, decide
from monitoring.records import canonical
from tests.monitoring.worlds import window


def judged(
    champion_noise: float | None, challenger_noise: float, *, seed: int = 0, requests: int = 480, **changes: object
) -> dict[str, object]:
    part = window(seed, requests=requests)
    champion = None if champion_noise is None else part.blurred(champion_noise, 1000 + seed)
    challenger = part.blurred(challenger_noise, 2000 + seed)
    return {"checks": [], "quality": compare(part.label, part.request, challenger=challenger, champion=champion)}


def related(seed: int, requests: int, step: float) -> dict[str, object]:
    """A challenger that differs from its champion as one more hour of learning does, and is truly no better."""
    part = window(seed, requests=requests)
    odds = np.log(part.truth / (1 - part.truth)) + 0.4 * np.random.default_rng(seed + 1).normal(size=len(part.truth))
    before, now = (odds + step * np.random.default_rng(seed + other).normal(size=len(odds)) for other in (2, 3))
    rate = [1 / (1 + np.exp(-values)) for values in (before, now)]
    return {"quality": compare(part.label, part.request, champion=rate[0], challenger=rate[1])}


def test_a_better_challenger_is_promoted_with_figures_in_words() -> None:
    verdict = decide(Policy(), judged(0.8, 0.1))
    assert verdict.verdict == "promote"
    assert verdict.reasons[0].startswith("The challenger's log loss on 2,400 impressions of 480 requests is ")
    assert "% lower than the champion's (95 % bound: at worst" in verdict.reasons[0]
    assert verdict.reasons[0].endswith("; allowed is 2 % higher.")


def test_clean_windows_are_practically_always_promoted() -> None:
    verdicts = [decide(Policy(), related(seed, 400, 0.15)).verdict for seed in range(100)]
    assert verdicts.count("promote") >= 98


def test_a_challenger_shown_worse_is_rejected() -> None:
    verdict = decide(Policy(), judged(0.1, 1.0))
    assert verdict.verdict == "reject"
    assert "at best" in verdict.reasons[0]
    assert "higher than the champion's" in verdict.reasons[0]


def test_a_challenger_that_looks_worse_without_proof_is_held() -> None:
    quality = dict(judged(0.1, 0.1)["quality"])  # type: ignore[call-overload]
    quality["paired"] = {**quality["paired"], "gain_share": -0.03, "lower_share": -0.07, "upper_share": 0.01}
    verdict = decide(Policy(), {"quality": quality})
    assert verdict.verdict == "hold"
    assert verdict.reasons[0].endswith(
        "is 3 % higher than the champion's (95 % bound: at worst 7 % higher); allowed is 2 % higher."
    )


def test_a_loss_within_the_margin_is_promoted() -> None:
    quality = dict(judged(0.1, 0.1)["quality"])  # type: ignore[call-overload]
    quality["paired"] = {**quality["paired"], "gain_share": -0.01, "lower_share": -0.03, "upper_share": 0.01}
    assert decide(Policy(), {"quality": quality}).verdict == "promote"


def test_predictions_that_are_not_numbers_are_rejected() -> None:
    part = window()
    challenger = part.blurred(0.1, 1)
    challenger[17] = np.nan
    quality = compare(part.label, part.request, challenger=challenger, champion=part.blurred(0.1, 2))
    verdict = decide(Policy(), {"quality": quality})
    assert verdict.verdict == "reject"
    assert verdict.reasons == ("The challenger's prediction is not a number on 1 of 2,400 impressions.",)


def test_a_thin_judging_part_is_held() -> None:
    verdict = decide(Policy(requests=20), judged(0.5, 0.1, requests=8))
    assert verdict.verdict in ("hold", "reject")
    verdict = decide(Policy(requests=20), related(0, 8, 0.001))
    assert verdict.verdict == "hold"
    assert verdict.reasons[0] == "The judging part is too thin: 8 requests, of at least 20."


def test_an_empty_judging_part_is_held() -> None:
    empty = np.zeros(0)
    quality = compare(empty, empty, challenger=empty, champion=empty)
    verdict = decide(Policy(), {"quality": quality})
    assert verdict.verdict == "hold"
    assert "nothing to compare" in verdict.reasons[0]


def test_a_judging_part_of_one_request_is_held() -> None:
    part = window(requests=1)
    quality = compare(part.label, part.request, challenger=part.truth, champion=part.truth)
    assert decide(Policy(), {"quality": quality}).verdict == "hold"


def test_bad_calibration_is_held_unless_the_champion_is_worse() -> None:
    part = window(requests=2000)
    odds = np.log(part.truth / (1 - part.truth))
    loud = 1 / (1 + np.exp(-(odds + 0.62)))
    policy = Policy(hold_margin=1.0, reject_margin=1.0)
    quality = compare(part.label, part.request, challenger=loud, champion=part.truth)
    verdict = decide(policy, {"quality": quality})
    assert verdict.verdict == "hold"
    assert "calibration error is 0.1" in verdict.reasons[0]
    louder = 1 / (1 + np.exp(-(odds + 0.9)))
    quality = compare(part.label, part.request, challenger=loud, champion=louder)
    assert decide(policy, {"quality": quality}).verdict == "promote"


def test_predictions_that_shift_absurdly_are_held() -> None:
    part = window()
    champion = np.clip(part.truth * 0.3, 0.001, 0.999)
    quality = compare(part.label, part.request, challenger=part.truth, champion=champion)
    verdict = decide(Policy(), {"quality": quality})
    assert verdict.verdict == "hold"
    assert "Predictions have shifted" in verdict.reasons[0]


def test_predictions_gone_flat_are_held() -> None:
    part = window()
    flat = np.full(len(part.label), part.label.mean()) + 1e-6 * part.truth
    quality = compare(part.label, part.request, challenger=flat, champion=part.blurred(2.5, 1))
    verdict = decide(Policy(), {"quality": quality})
    assert verdict.verdict == "hold"
    assert "gone flat" in verdict.reasons[0]


def test_a_first_model_must_beat_the_base_rate() -> None:
    assert decide(Policy(), judged(None, 0.1)).verdict == "promote"
    assert decide(Policy(), judged(None, 4.0)).verdict == "hold", "later it has more to learn from"
    part = window()
    base = np.full(len(part.label), part.label.mean())
    barely = base + 1e-3 * np.random.default_rng(5).normal(size=len(base))
    quality = compare(part.label, part.request, challenger=barely, champion=None)
    verdict = decide(Policy(), {"quality": quality})
    assert verdict.verdict == "hold"
    assert "base rate" in verdict.reasons[0]


def test_a_failed_data_check_is_rejected_by_name_before_anything_was_trained() -> None:
    check = {"name": "label rate", "passed": False, "detail": "0.00% of the impressions have a label."}
    check |= {"limit": "more than 1%", "rows": ["i1", "i2", "i3", "i4", "i5", "i6"], "value": 0.0}
    verdict = decide(Policy(), {"checks": [check]})
    assert verdict.verdict == "reject"
    assert verdict.reasons == (
        "Data check 'label rate' failed: 0.00% of the impressions have a label. Allowed: more than 1%."
        " Impressions: i1, i2, i3, i4, i5 and more.",
    )


def test_the_same_figures_read_back_give_the_same_verdict() -> None:
    import json

    figures = judged(0.8, 0.1)
    assert decide(Policy(), json.loads(canonical(figures))) == decide(Policy(), figures)


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="hold_margin"):
        Policy(hold_margin=-1)
    with pytest.raises(ValueError, match="requests"):
        Policy(requests=0)
