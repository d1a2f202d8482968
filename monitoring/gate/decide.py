"""The gate: from what was measured to a verdict, with reasons an analyst understands.

    verdict = decide(Policy(), evidence)

The same evidence and policy always give the same verdict.

**What it promises.** A routine update (a challenger of the champion's own shape) must show that it is *not worse* than
the champion by more than `margin`. That is a promise about the updating process, not about one update: the record of
all its challengers must show, by a confidence sequence, a mean gain above minus the margin; so a process that is worse
by the margin is ever let through with a chance of at most `risk`, however many challengers it brings. Of the single
challenger the gate promises less: one that is shown to be worse by more than the margin is rejected, and one that looks
it and is shown to be worse at all waits; what a small window cannot show nobody can see, which is what the live watch
is for. A CUSUM alarm ends the record's credit when recent challengers lose. Small losses do not add up: the challenger
is compared with the champions of a day and of a week ago and with the proven baseline, on the same fresh impressions,
and waits where it cannot be shown that no more than two margins were lost since that baseline. A challenger of a new
shape must show that it is *better*: there the single challenger must be shown to gain, and the expected share of false
ones among those promoted stays at or below `risk`, however many are tried.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from monitoring.checks.limits import Check
from monitoring.evaluation.comparison import Comparison
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.evaluation.rated import Rival
from monitoring.gate import hypotheses
from monitoring.gate.findings import Finding
from monitoring.gate.guardrails import guardrails, rated_sentence, recall_sentence
from monitoring.gate.policy import Policy, Word
from monitoring.measures import BY_KEY
from monitoring.sentences import change, counted, percent
from monitoring.statistics.error_control import PastTests

IMPRESSIONS_NAMED = 5
"""Impressions that the sentence of a failed check names."""


@dataclass(frozen=True)
class Verdict:
    """What the gate says of the evidence, and why: what decided comes first."""

    verdict: Word
    findings: tuple[Finding, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The findings as sentences."""
        return tuple(finding.sentence for finding in self.findings)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(finding.code for finding in self.findings)


def decide(policy: Policy, evidence: Evidence) -> Verdict:
    """The verdict on `evidence`: reject before hold before promote.

    Raises ValueError when there is neither a failed data check nor a comparison: then nothing was measured.
    """
    findings = [_failed(check) for check in evidence.failed_checks]
    if not any(finding.word == "reject" for finding in findings):
        findings += _quality(policy, evidence)
    words: tuple[Word, ...] = ("reject", "hold")
    for word in words:
        decisive = [finding for finding in findings if finding.word == word]
        if decisive:
            # A rejected window's other ills say more of the cause; a held challenger's comparison is given as well.
            beside = [finding for finding in findings if finding.word == ("hold" if word == "reject" else "promote")]
            return Verdict(word, tuple(decisive + (beside if word == "reject" else beside[:1])))
    return Verdict("promote", (*findings, *_assurances(evidence)))


def _failed(check: Check) -> Finding:
    named = ", ".join(check.rows[:IMPRESSIONS_NAMED])
    more = " and more" if len(check.rows) > IMPRESSIONS_NAMED else ""
    rows = f" Impressions: {named}{more}." if check.rows else ""
    facts = {"name": check.name, "detail": check.detail, "limit": check.limit, "rows": rows}
    needs = "" if check.needs is None else f"; this window needs {check.needs:.3g}"
    return Finding(f"check/{check.name}", check.breach, facts, f"{check.setting}{needs}" if check.setting else "")


def looks_at_guardrails(policy: Policy, evidence: Evidence) -> bool:
    """Whether the verdict looks at them: at a window that is not rejected for its data, and of which there is enough to
    compare."""
    if evidence.comparison is None or any(check.breach == "reject" for check in evidence.failed_checks):
        return False
    return not _nothing_to_judge(policy, evidence, evidence.comparison)


def _quality(policy: Policy, evidence: Evidence) -> list[Finding]:
    compared = evidence.comparison
    if compared is None:
        raise ValueError("nothing was measured: no data check failed, and there is no comparison")
    nothing = _nothing_to_judge(policy, evidence, compared)
    if nothing:
        return nothing
    answer = _hypothesis(policy, evidence) if compared.against_champion else _against_base_rate(compared)
    return [answer, *guardrails(policy, evidence)]


def _nothing_to_judge(policy: Policy, evidence: Evidence, compared: Comparison) -> list[Finding]:
    """Why the comparison says nothing, where it does not."""
    broken = [*_not_finite(compared), *_weights_not_finite(evidence)]
    if broken:
        return broken
    if not compared.impressions:
        return [Finding("nothing_to_compare", "hold")]
    if compared.requests < policy.requests:
        facts = {"requests": counted(compared.requests, "request"), "least": f"{policy.requests:,}"}
        return [Finding("few_requests", "hold", facts)]
    return []


def _hypothesis(policy: Policy, evidence: Evidence) -> Finding:
    """What the challenger must show, over the record of the process."""
    compared = evidence.comparison
    assert compared is not None
    assert compared.gain.moments is not None, "a champion was compared with"
    if evidence.hypothesis == "better":
        tests = evidence.tests or PastTests()
        answer = hypotheses.better(
            compared.gain.moments, past=tests, risk=policy.risk, impressions=compared.impressions
        )
        return answer.finding
    return hypotheses.not_worse(
        compared.gain.moments,
        evidence.process or ProcessRecord(),
        margin=policy.margin,
        risk=policy.risk,
        over_baseline=evidence.over_baseline,
        impressions=compared.impressions,
    ).finding


def _not_finite(compared: Comparison) -> Iterator[Finding]:
    challenger, of = compared.challenger, counted(compared.impressions, "impression")
    if challenger.not_finite:
        yield Finding("not_finite", "reject", {"count": f"{challenger.not_finite:,}", "impressions": of})
        return
    if not compared.impressions:
        return  # thin, not broken
    for key in ("log_loss", "calibration_error", "mean_prediction"):
        if challenger.of(BY_KEY[key]) is None:
            yield Finding("measure_not_finite", "reject", {"measure": BY_KEY[key].name})


def _weights_not_finite(evidence: Evidence) -> Iterator[Finding]:
    """Weights that broke with the last batch, which nothing was predicted by before it was trained on."""
    if evidence.not_finite:
        yield Finding("weights_not_finite", "reject", {"impressions": counted(evidence.not_finite, "impression")})


def _against_base_rate(compared: Comparison) -> Finding:
    """There is no champion: the challenger must beat the label rate, of the window or, of what was predicted before it
    was trained on, as known by then.

    Until one does, each waits: its window is then trained on again with what comes, and a young surface gets there.
    """
    gain = compared.gain
    where = f"on {counted(compared.impressions, 'impression')} of {counted(compared.requests, 'request')}"
    if gain.share is None:
        return Finding("base_rate_not_comparable", "hold", {"where": where})
    sentence = (
        f"There is no champion yet. The challenger's log loss {where} is {change(gain.share)} than that of the base"
        " rate"
    )
    if gain.share <= 0 or (gain.upper is not None and gain.upper <= 0):
        return Finding("worse_than_base_rate", "hold", {"compared": sentence})
    if gain.lower is None:
        facts = {"compared": sentence, "bound": "too few requests for a bound"}
        return Finding("not_shown_better_than_base_rate", "hold", facts)
    bound = f"{percent(gain.confidence)} bound: at worst {change(gain.lower)}"
    facts = {"compared": sentence, "bound": bound}
    if gain.lower <= 0:
        return Finding("not_shown_better_than_base_rate", "hold", facts)
    return Finding("better_than_base_rate", "promote", facts)


def _assurances(evidence: Evidence) -> Iterator[Finding]:
    if evidence.checks:
        yield Finding("checks_passed", "promote", {"count": f"{len(evidence.checks)}"})
    compared = evidence.comparison
    if compared is not None and compared.challenger.auc is not None:
        before = compared.champion.auc  # none of a base rate: it orders nothing
        yield Finding(
            "auc",
            "promote",
            {
                "now": f"{compared.challenger.auc:.4f}",
                "before": "" if before is None else f", the {compared.rival_name}'s {before:.4f}",
                "calibration": f"{compared.challenger.calibration_error or 0.0:.3f}",
            },
        )
    towers = evidence.towers
    if towers is not None and towers.next_clicks.challenger.at.get(towers.next_clicks.among) is not None:
        yield Finding("recall", "promote", recall_sentence(towers.next_clicks))
    rated = None if evidence.text is None else evidence.text.rated
    if rated is not None:
        rival: Rival = "as_it_comes" if rated.champion is None else "champion"
        yield Finding("rated" if rival == "champion" else "rated_as_it_comes", "promote", rated_sentence(rated, rival))
