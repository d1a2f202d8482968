"""What the report shows as Evidently's tests is what the gate decided: page and verdict never disagree."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from monitoring.checks.limits import BREACHES, SETTINGS, Check, InForce, Limits, outcome
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.drift import Against, MeasuredDrift, measure
from monitoring.evaluation.evidence import Evidence, InSample, Training
from monitoring.evaluation.reranking import RankingValue
from monitoring.evaluation.skew import Skew, SkewedFeature
from monitoring.gate.decide import Verdict, decide
from monitoring.gate.gate_tests import gate_tests
from monitoring.gate.guardrails import DRIFTS
from monitoring.gate.policy import Limit, Policy
from monitoring.reports.report import About, build
from tests.worlds.challengers import gain_of, with_gain
from tests.worlds.windows import END, START

LIMITS = InForce(Limits(), own={"volume": 4.0, "labels agree": 0.3})


def drawn_checks(random: np.random.Generator, worst: float) -> tuple[Check, ...]:
    """Every check, most of them passed: by the limit that it needs, up to `worst` times that in force."""
    checks = []
    for name in BREACHES:
        if name not in SETTINGS:
            checks.append(outcome(LIMITS, name, 0.0, "", random.random() > 0.02, ""))
            continue
        limit = LIMITS.of(name)
        needs = None if random.random() < 0.1 else limit * float(random.uniform(0, worst))
        passed = needs is None or needs <= limit * 1.01  # as near as what is needed is looked for
        checks.append(outcome(LIMITS, name, 0.0, "", passed, "", needs=needs))
    return tuple(checks)


def drawn_drift(random: np.random.Generator, against: str, at_most: float, far: float) -> MeasuredDrift:
    before = pl.DataFrame({f"f{n}": random.normal(size=300) for n in range(4)})
    now = before.select(pl.col(f"f{n}") + random.uniform(0, far) for n in range(4))
    return measure(before, now, Against(against, at_most=at_most, informing=frozenset(["f0"])))


def drawn(seed: int) -> tuple[Policy, Evidence, tuple[MeasuredDrift, ...]]:
    """Evidence of which each part may be within its limits or not, be missing, or be looked at by nobody."""
    random = np.random.default_rng(seed)
    at_most = float(random.choice([0.5, 1.0, 2.0]))
    policy = Policy(
        drift=Limit(at_most, missing=random.choice(["pass", "hold"])),
        ranking_value=Limit(0.05, missing=random.choice(["pass", "hold"])),
    )
    drifts = [
        drawn_drift(random, against, at_most, far=float(random.choice([0.2, 2.0])))
        for against in ("what the champion was trained on", "the same hours of earlier days")
    ]
    skew = SkewedFeature("price", float(random.uniform(0, 0.6)), 0.5, 0.25, "i7")
    parts: dict[str, Any] = {
        "checks": drawn_checks(random, worst=float(random.choice([0.9, 1.05]))),
        "training": Training(2_400, 2_400, 40, random.choice(["done", "early"], p=[0.8, 0.2]), 0.4, {}, {}),
        "cost": Cost(2.0, None, int(random.choice([10**6, 10**11])), None, 50, float(random.uniform(1, 1_200))),
        "in_sample": InSample(gain_of(float(random.uniform(-0.04, 0.1))), 0.4, 0.4, with_gain(0.0).comparison.shift),  # type: ignore[union-attr, arg-type]
        "skew": Skew(probes=1, rows=500, values=6_000, differing_share=float(random.uniform(0, 0.1)), worst=(skew,)),
        "drift": drifts[0].drift,
        "season_drift": drifts[1].drift if random.random() < 0.7 else None,
        "not_finite": int(random.choice([0, 3], p=[0.9, 0.1])),
    }
    if random.random() < 0.5:
        parts["ranking_value"] = RankingValue(0, surely_lost=float(random.uniform(0, 0.1)))
    evidence = with_gain(float(random.uniform(-0.03, 0.4)), **parts)
    return policy, evidence, tuple(drifts[: 2 if evidence.season_drift else 1])


def decisive(verdict: Verdict) -> set[str]:
    """Codes of what asks for a person or worse, but for drift, which is tested by column."""
    return {finding.code for finding in verdict.findings if finding.word != "promote"} - set(DRIFTS)


@pytest.mark.parametrize("seed", range(8))
def test_what_the_report_shows_as_failed_is_what_the_gate_found(seed: int) -> None:
    policy, evidence, drifts = drawn(seed)
    verdict = decide(policy, evidence)
    page = build(
        About("feed", 1, START, END, "1", "2"), verdict, evidence, drifts, gate_tests(policy, evidence, LIMITS)
    )
    failed: set[str] = set()
    columns: dict[str, set[str]] = {}
    for test in page.snapshot.tests_results:
        if test.status.value in ("SUCCESS", "WARNING"):
            continue
        params = test.metric_config.params
        if "column" in params:
            columns.setdefault(params["against"], set()).add(params["column"])
        else:
            failed.add(params["name"])
    assert failed == decisive(verdict)
    assert columns == {
        drift.against: {column.column for column in drift.holding}
        for drift in (evidence.drift, evidence.season_drift)
        if drift is not None and drift.holding
    }
    if failed <= set(verdict.codes) and "reject" not in {finding.word for finding in verdict.findings}:
        against = {"drift": evidence.drift, "season_drift": evidence.season_drift}
        over = {code for code, drift in against.items() if drift is not None and drift.holding}
        assert over == set(DRIFTS) & set(verdict.codes), "a drifted column holds"
    shown = [widget["title"] for widget in page.snapshot.to_snapshot_model().tests_widgets[1].params["tests"]]
    assert len(shown) == len(page.snapshot.tests_results) >= len(BREACHES), "the page has them all"


def test_figures_fail_and_pass_as_the_gate_finds_for_many_more() -> None:
    seen: set[str] = set()
    for seed in range(100, 140):
        policy, evidence, _ = drawn(seed)
        verdict = decide(policy, evidence)
        tests = gate_tests(policy, evidence, LIMITS)
        assert {test.code for test in tests if not test.passed} == decisive(verdict)
        seen.update(decisive(verdict))
    assert {
        "too_good",
        "size",
        "scoring_time",
        "stopped_early",
        "weights_not_finite",
        "unmeasured/ranking_value",
    } <= seen
    assert any(code.startswith("check/") for code in seen)


def test_a_check_is_shown_with_the_limit_it_needs_and_the_one_in_force() -> None:
    check = outcome(LIMITS, "volume", 9_000.0, "", False, "", needs=5.5)
    evidence = with_gain(0.001, checks=(check, outcome(LIMITS, "nulls", 0.0, "", True, "")))
    volume, nulls = gate_tests(Policy(), evidence, LIMITS)[:2]
    assert (volume.code, volume.value, volume.limit, volume.passed) == ("check/volume", 5.5, 4.0, False)
    assert (nulls.code, nulls.value, nulls.limit, nulls.passed) == ("check/nulls", 0.0, 0.0, True)


def test_guardrails_that_the_verdict_does_not_look_at_are_no_tests() -> None:
    broken = outcome(LIMITS, "nulls", 0.1, "", False, "")
    codes = {test.code for test in gate_tests(Policy(), with_gain(0.5, checks=(broken,)), LIMITS)}
    assert codes == {"check/nulls"}, "it is rejected for its data"
    few = gate_tests(replace(Policy(), requests=10_000), with_gain(0.5), LIMITS)
    assert [(test.code, test.passed) for test in few] == [("few_requests", False)]
