"""What an update leaves behind for those after it, from its checks and its evidence."""

from monitoring.checks.limits import Check, PastWindow
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.history import CHECK, QUERIES, Remembered
from monitoring.evaluation.window import Checks
from monitoring.gate import hypotheses
from monitoring.gate.guardrails import readings
from monitoring.gate.policy import Policy
from monitoring.statistics.error_control import PastTests


def remember(policy: Policy, checks: Checks, evidence: Evidence) -> Remembered:
    """For the surface's history, whatever the verdict."""
    window = checks.window
    return Remembered(
        update_id=window.update_id,
        champion=evidence.champion,
        window=past_window(evidence),
        failed=tuple(check.name for check in evidence.failed_checks),
        process_before=evidence.process,
        process_after=evidence.process_after,
        tests=_tests_after(policy, evidence),
        baseline=evidence.baseline,
        baseline_moves=_baseline_moves(evidence),
        profiles=checks.profiles,
        needs=needed(policy, evidence),
    )


def needed(policy: Policy, evidence: Evidence) -> dict[str, float]:
    """The least limit with which the window passes each check and guardrail, by the finding's code; of drift each
    column's and the queries' too, beyond chance."""
    found = {f"{CHECK}{check.name}": check.needs for check in evidence.checks}
    found |= {reading.code: reading.value for reading in readings(policy, evidence)}
    for code, drift in (("drift", evidence.drift), ("season_drift", evidence.season_drift)):
        found |= {f"{code}/{column.column}": column.beyond_chance for column in (drift.columns if drift else ())}
    if evidence.query_drift is not None:
        found[QUERIES] = evidence.query_drift.beyond_chance
    return {code: float(value) for code, value in found.items() if value is not None}


def past_window(evidence: Evidence) -> PastWindow:
    """The window as later ones are compared with it."""
    by_name = {check.name: check for check in evidence.checks}
    kinds = ("users", "items")
    return PastWindow(
        evidence.window.start,
        evidence.window.end,
        evidence.window.impressions,
        evidence.window.label_rate,
        None if evidence.prequential is None else evidence.prequential.log_loss,
        _value(by_name.get("labels agree")),
        {kind: by_name[f"new {kind}"].value for kind in kinds if f"new {kind}" in by_name},
    )


def _value(check: Check | None) -> float | None:
    return None if check is None else check.value


def _tests_after(policy: Policy, evidence: Evidence) -> PastTests | None:
    if evidence.tests is None or evidence.comparison is None or evidence.comparison.gain.moments is None:
        return None
    return hypotheses.better(evidence.comparison.gain.moments, past=evidence.tests, risk=policy.risk).tests


def _baseline_moves(evidence: Evidence) -> bool:
    moments = evidence.over_baseline
    return moments is not None and hypotheses.baseline_moves(moments)
