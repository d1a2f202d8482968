"""The gate's findings as tests: what was held against what, and whether it passed, for the report to show.

    tests = gate_tests(policy, evidence, limits)

Evidently runs them beside those of drift's columns, which it measures itself.

One test a data check and a guardrail: the least limit with which the window passes, and the limit in force. Other
findings that ask for a person (a hypothesis not shown, predictions that are no numbers) are 1 where 0 is allowed. So
what fails here is what the verdict names.
"""

import math
from dataclasses import dataclass

from monitoring.checks.limits import SETTINGS, Check, InForce
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.history import CHECK
from monitoring.gate.decide import decide, looks_at_guardrails
from monitoring.gate.guardrails import DRIFTS, Reading, readings
from monitoring.gate.policy import Policy


@dataclass(frozen=True)
class GateTest:
    """One figure against its limit."""

    code: str
    """Of the finding where it is beyond it."""

    title: str
    """For people."""

    value: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.value <= self.limit


def gate_tests(policy: Policy, evidence: Evidence, limits: InForce) -> list[GateTest]:
    """Every check, and every guardrail that the verdict looks at but those of drift, whose columns are tested one by
    one; and what else asks for a person."""
    found = [_check(check, limits) for check in evidence.checks]
    if looks_at_guardrails(policy, evidence):
        measured = [reading for reading in readings(policy, evidence) if reading.value is not None]
        found += [_guardrail(reading) for reading in measured if reading.code not in DRIFTS]
    seen = {test.code for test in found if not test.passed}
    others = [finding for finding in decide(policy, evidence).findings if finding.word != "promote"]
    return found + [
        GateTest(finding.code, finding.code.replace("_", " ").replace("/", ": "), 1.0, 0.0)
        for finding in others
        if finding.code not in seen and finding.code not in DRIFTS
    ]


def _check(check: Check, limits: InForce) -> GateTest:
    """By the limit that it needs, where it has one. That is found to a hundredth part: within it, the check decides."""
    code, title = f"{CHECK}{check.name}", f"Data check '{check.name}'"
    if check.needs is None or check.name not in SETTINGS:
        return GateTest(code, title, 0.0 if check.passed else 1.0, 0.0)
    limit = limits.of(check.name)
    value = min(check.needs, limit) if check.passed else max(check.needs, math.nextafter(limit, math.inf))
    return GateTest(code, f"{title}, the limit it needs", value, limit)


def _guardrail(reading: Reading) -> GateTest:
    assert reading.value is not None
    return GateTest(reading.code, f"Guardrail '{reading.figure}'", reading.value, reading.limit.at_most)
