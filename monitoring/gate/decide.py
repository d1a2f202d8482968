"""The gate: from what was measured to a verdict, with reasons an analyst understands.

    verdict = decide(Policy(), figures)

`figures` is the plain dict that the evidence keeps (`monitoring/evaluation/evaluate.py`, with the checks of the window
before it). The same figures and policy always give the same verdict.

**What it promises.** A routine update (a challenger of the champion's own design) is asked whether it is *not worse*
than the champion by more than `margin`. That is a promise about the updating process, not about one update: the record
of all its challengers must show, by a confidence sequence, a mean gain above minus the margin; so a process that is
worse by the margin is ever let through with a chance of at most `risk`, however many challengers it brings. Of the
single challenger the gate promises less: one that is shown to be worse by more than the margin is rejected, and one
that looks it and is shown to be worse at all waits; what a small window cannot show nobody can see, which is what the
live watch is for. An alarm ends the
record's credit when recent challengers lose. Small losses do not add up: the challenger is compared with the champions
of a day and of a week ago and with the last that was shown better than its predecessor, on the same fresh impressions.
A challenger of a new design is asked whether it is *better*: there the single challenger must be shown to gain, and the
expected share of false ones among those promoted stays at or below `risk`, however many are tried.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.evaluation.process_record import Record
from monitoring.gate import hypotheses as questions
from monitoring.gate.guardrails import Finding, doubts, recalled
from monitoring.gate.policy import Limit, Policy, Word
from monitoring.sentences import change, many, no, rival, sure
from monitoring.statistics.error_control import Past
from monitoring.statistics.sequential import Moments

__all__ = ["Limit", "Policy", "Verdict", "decide"]


@dataclass(frozen=True)
class Verdict:
    """What the gate says of the evidence, and why: what decided comes first."""

    verdict: Word
    reasons: tuple[str, ...]


def decide(policy: Policy, figures: Mapping[str, Any]) -> Verdict:
    """The verdict on `figures`: reject before hold before promote.

    Raises KeyError when there is neither a failed data check nor a comparison: then nothing was measured.
    """
    findings = list(_data(figures))
    if not any(finding.word == "reject" for finding in findings):
        findings += _quality(policy, figures)
    words: tuple[Word, ...] = ("reject", "hold")
    for word in words:
        told = [finding.sentence for finding in findings if finding.word == word]
        if told:
            # A rejected window's other ills say more of the cause; a held challenger's comparison is told as well.
            beside = [f.sentence for f in findings if f.word == ("hold" if word == "reject" else "promote")]
            return Verdict(word, tuple(told + (beside if word == "reject" else beside[:1])))
    return Verdict("promote", (*(finding.sentence for finding in findings), *_assurances(figures)))


def _data(figures: Mapping[str, Any]) -> Iterator[Finding]:
    for check in figures.get("checks", []):
        if not check["passed"]:
            yield Finding(check.get("breach", "reject"), _failed_check(check))


def _failed_check(check: Mapping[str, Any]) -> str:
    sentence = f"Data check '{check['name']}' failed: {check['detail']} Allowed: {check['limit']}."
    rows = list(check["rows"])
    if rows:
        named = ", ".join(rows[:5])
        sentence += f" Impressions: {named}{' and more' if len(rows) > 5 else ''}."
    return sentence


def _quality(policy: Policy, figures: Mapping[str, Any]) -> list[Finding]:
    quality = figures["quality"]
    broken = _not_finite(quality) or _final_not_finite(figures)
    if broken:
        return [Finding("reject", sentence) for sentence in broken]
    if not quality["impressions"]:
        return [Finding("hold", "There is nothing to compare the challenger on.")]
    if quality["requests"] < policy.requests:
        few = many(quality["requests"], "request")
        return [Finding("hold", f"The judged part is too thin: {few}, of at least {policy.requests:,}.")]
    if quality["baseline"] == "base_rate":
        return [_against_base_rate(policy, quality), *doubts(policy, figures)]
    return [_answer(policy, figures), *doubts(policy, figures)]


def _answer(policy: Policy, figures: Mapping[str, Any]) -> Finding:
    """What the surface's question is answered, over the record of the process."""
    quality = figures["quality"]
    candidate = Moments.from_dict(quality["paired"]["moments"])
    if figures["question"] == "better":
        past = Past.from_dict(figures["tests"]["before"])
        answer = questions.better(candidate, past=past, risk=policy.risk, impressions=quality["impressions"])
    else:
        record = Record.from_dict(figures["process"]["before"])
        answer = questions.not_worse(
            candidate, record, margin=policy.margin, risk=policy.risk, impressions=quality["impressions"]
        )
    return Finding(answer.word, answer.sentence)


def _not_finite(quality: Mapping[str, Any]) -> list[str]:
    challenger = quality["challenger"]
    if challenger["not_finite"]:
        count, of = challenger["not_finite"], quality["impressions"]
        return [f"The challenger's prediction is not a number on {count:,} of {of:,} impressions."]
    if not quality["impressions"]:
        return []  # thin, not broken
    names = {"log_loss": "log loss", "calibration_error": "calibration error", "mean_prediction": "mean prediction"}
    return [f"The challenger's {word} is not a finite number." for key, word in names.items() if no(challenger[key])]


def _final_not_finite(figures: Mapping[str, Any]) -> list[str]:
    """Weights that broke with the last batch, which nothing was predicted by before it was learned."""
    count = figures.get("final_not_finite", 0)
    told = f"The weights that would go live predict no number on {many(count, 'impression')} of the window."
    return [told] if count else []


def _against_base_rate(policy: Policy, quality: Mapping[str, Any]) -> Finding:
    """There is no champion: the challenger must beat the label rate, of the window or, of what was predicted before it
    was learned, as known by then.

    Until one does, each waits: its window is then learned again with what comes, and a young surface gets there.
    """
    paired = quality["paired"]
    gain, lower, upper = paired["gain_share"], paired["lower_share"], paired["upper_share"]
    where = f"on {many(quality['impressions'], 'impression')} of {many(quality['requests'], 'request')}"
    if no(gain):
        return Finding("hold", f"The log loss {where} cannot be compared with the base rate's.")
    told = f"There is no champion yet. The challenger's log loss {where} is {change(gain)} than that of the base rate"
    if gain <= 0 or (upper is not None and upper <= 0):
        return Finding("hold", f"{told}; a first model must be better than that, and has more to learn from later.")
    if lower is None or lower <= 0:
        bound = "too few requests for a bound" if lower is None else f"{sure(paired)} bound: at worst {change(lower)}"
        return Finding("hold", f"{told}, which is not shown ({bound}).")
    return Finding("promote", f"{told} ({sure(paired)} bound: at worst {change(lower)}).")


def _assurances(figures: Mapping[str, Any]) -> list[str]:
    quality = figures["quality"]
    told = []
    if figures.get("checks"):
        told.append(f"All {len(figures['checks'])} data checks passed.")
    if not no(quality["challenger"]["auc"]):
        before = quality["champion"]["auc"]  # none of a base rate: it orders nothing
        beside = "" if no(before) else f", the {rival(quality)}'s {before:.4f}"
        told.append(
            f"AUC {quality['challenger']['auc']:.4f}{beside};"
            f" calibration error {quality['challenger']['calibration_error']:.3f}."
        )
    retrieval = figures.get("retrieval")
    if retrieval and retrieval["clicks"] and not no(retrieval["challenger"][f"recall_{retrieval['among']}"]):
        told.append(f"Of the next clicks its towers find {recalled(retrieval)} among {retrieval['among']} items.")
    return told
