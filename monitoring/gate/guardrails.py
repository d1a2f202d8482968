"""What else in the evidence asks for a person, whatever the log loss of champion and challenger says.

Each figure with a limit in the policy yields a finding where the limit is passed, or where the figure is missing and
the policy does not let that pass. A figure of few clicks or requests passes its limit by chance: what is held against
the limit is what is shown of it, its bound.
"""

from collections.abc import Callable, Iterator, Mapping

from monitoring.evaluation.comparison import Comparison
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.evaluation.retrieval import RetrievalComparison
from monitoring.evaluation.slices import losing
from monitoring.gate.findings import Finding
from monitoring.gate.hypotheses import no_ratchet
from monitoring.gate.policy import Limit, Policy
from monitoring.sentences import counted, percent
from monitoring.statistics.chance import surely_above

SLICE_LEVEL = 0.01
"""Chance that a slice is named that does not lose more than allowed, over all slices of a candidate."""

SLICES_NAMED = 3

SKEW_LEVEL = 0.001
"""Chance that a share of served values that differ is taken for larger than it is."""


def guardrails(policy: Policy, evidence: Evidence) -> list[Finding]:
    """Every limit passed."""
    return [finding for part in GUARDRAILS for finding in part(policy, evidence)]


def _judge(
    limit: Limit, value: float | None, figure: str, code: str, facts: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """The finding ``code`` where ``value`` is above the limit; what the policy says where there is none."""
    if value is None:
        if limit.missing != "pass":
            yield Finding(f"unmeasured/{code}", limit.missing, {"figure": figure})
    elif value > limit.at_most:
        yield Finding(code, limit.breach, facts or {})


def _training(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    if evidence.training is not None and evidence.training.stopped == "early" and policy.early != "pass":
        yield Finding("stopped_early", policy.early)


def _gain(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    compared = _compared(evidence)
    if compared.against_champion:
        gain = compared.gain
        yield from _judge(policy.too_good, gain.lower, "gain", "too_good", {"gain": percent(gain.share or 0)})


def _calibration(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    compared = _compared(evidence)
    before, now = compared.champion.calibration_error, compared.challenger.calibration_error
    # An error within the champion's, or within what chance gives, is no news.
    beyond = None if now is None else now - (compared.calibration_chance or 0.0)
    if compared.against_champion and before is not None and now is not None and now <= before:
        beyond = 0.0
    facts = {
        "now": f"{now or 0:.3f}",
        "before": "" if before is None else f" (the {compared.rival_name}'s is {before:.3f})",
    }
    yield from _judge(policy.calibration, beyond, "calibration error", "calibration", facts)


def _shift(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    compared = _compared(evidence)
    shift = compared.shift
    if shift is None or not compared.against_champion:
        return
    before, now = compared.champion.mean_prediction, compared.challenger.mean_prediction
    yield from _judge(
        policy.mean_prediction,
        None if shift.log_odds is None else abs(shift.log_odds),
        "mean prediction",
        "mean_prediction",
        {"before": f"{before or 0:.3f}", "now": f"{now or 0:.3f}"},
    )
    yield from _judge(
        policy.flattened,
        None if shift.spread is None else 1 / max(shift.spread, 1e-9),
        "spread of predictions",
        "flat",
        {"spread": percent(shift.spread or 0)},
    )
    furthest = (evidence.in_sample.shift if evidence.in_sample else shift).p99
    yield from _judge(
        policy.prediction_shift,
        furthest,
        "shift of single predictions",
        "prediction_shift",
        {"shift": f"{furthest or 0:.1f}"},
    )


def _slices(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    compared = _compared(evidence)
    if not compared.against_champion:
        return
    lost = losing(compared.slices, policy.slices.at_most, SLICE_LEVEL)
    if lost:
        named = [
            f"{part.name} (log loss {percent(-(part.gain or 0))} higher on {counted(part.impressions, 'impression')})"
            for part in lost[:SLICES_NAMED]
        ]
        more = f" and {len(lost) - SLICES_NAMED} slices more" if len(lost) > SLICES_NAMED else ""
        facts = {"slices": ", ".join(named) + more, "allowed": percent(policy.slices.at_most)}
        yield Finding("slices", policy.slices.breach, facts)


def _references(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    gains = {found.name: found.gain.moments for found in evidence.references if found.gain.moments is not None}
    if not gains:
        return
    against = (evidence.process or ProcessRecord()).against
    finding = no_ratchet(
        gains,
        margin=policy.margin,
        over_champion=_compared(evidence).gain.moments,
        cusums={found.name: against.get(found.version, 0.0) for found in evidence.references},
    )
    if finding.word != "promote":
        yield finding


def _in_sample(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    if evidence.in_sample is not None:
        gain = evidence.in_sample.gain
        facts = {"lost": percent(gain.lost or 0)}
        yield from _judge(policy.in_sample, gain.surely_lost, "window in sample", "in_sample", facts)


def _forgetting(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    if evidence.forgetting is not None:
        gain = evidence.forgetting.gain
        facts = {"lost": percent(gain.lost or 0)}
        yield from _judge(policy.forgetting, gain.surely_lost, "loss on the day before", "forgetting", facts)
    elif policy.forgetting.missing != "pass" and _compared(evidence).against_champion:
        yield Finding("no_earlier_window", policy.forgetting.missing)


def _skew(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    skew = evidence.skew
    share = None if skew is None else skew.differing_share
    if skew is None or share is None:
        yield from _judge(policy.skew, None, "skew of features", "skew")
        return
    facts = {"share": percent(share), "features": ", ".join(found.feature for found in skew.worst[:3])}
    yield from _judge(policy.skew, surely_above(share, skew.rows, SKEW_LEVEL), "skew of features", "skew", facts)
    for found in skew.worst[:1]:  # one broken feature of a hundred is less than a hundredth of the values
        facts = {"feature": found.feature, "share": percent(found.share)}
        shown = surely_above(found.share, skew.rows, SKEW_LEVEL)
        yield from _judge(policy.skew_of_one, shown, f"skew of {found.feature}", "skew_of_one", facts)


def _drift(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    for code, drift in (("drift", evidence.drift), ("baseline_drift", evidence.baseline_drift)):
        share = None if drift is None else drift.share
        yield from _judge(policy.drift, share, "drift", code, {"share": percent(share or 0)})


def _ranking_value(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    found = evidence.ranking_value
    lost = None if found is None else found.surely_lost
    facts = {"lost": percent(lost or 0)}
    yield from _judge(policy.ranking_value, lost, "value of its ranking", "ranking_value", facts)


def _towers(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    towers = evidence.towers
    if towers is None:  # requests name their candidates
        return
    if towers.not_finite:
        yield Finding("towers_not_finite", policy.retrieval.breach, {"count": f"{towers.not_finite:,}"})
        return
    parts = (
        ("recall", towers.next_clicks, "the next clicks"),
        ("recall_in_sample", towers.in_sample, "the last clicks"),
    )
    for code, part, where in parts:
        lost = None if part is None else part.surely_lost
        facts = {} if part is None else recall_sentence(part)
        yield from _judge(policy.retrieval, lost, f"recall of {where}", code, facts)


def recall_sentence(part: RetrievalComparison) -> Mapping[str, str]:
    """What share of clicks was found, beside whose: ``31 %, the champion's 35 %,``."""
    now, before = (percent(of.at.get(part.among) or 0) for of in (part.challenger, part.rival))
    rivals = "those most popular" if part.against == "popularity" else "the champion's"
    return {"found": f"{now}, {rivals} {before},", "among": f"{part.among}"}


def _fairness(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    for row in _compared(evidence).fairness:
        if row.exposure is None:  # of readers: each request shows its items to one, in whatever order
            continue
        bounds, shown = row.exposure.interval, None
        if bounds.lower is not None and bounds.upper is not None:
            shown = max(0.0, bounds.lower, -bounds.upper)
        facts = {
            "value": row.name,
            "before": percent(row.exposure.champion),
            "now": percent(row.exposure.challenger),
        }
        yield from _judge(policy.fairness, shown, f"exposure of {row.value}", "exposure", facts)


def _cost(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    cost = evidence.cost
    slow = None if cost is None else cost.score_p99_ms
    facts = {"candidates": f"{cost.candidates if cost else 0}", "took": f"{slow or 0:.1f}"}
    yield from _judge(policy.score_p99_ms, slow, "scoring time", "scoring_time", facts)
    size = None if cost is None else cost.bytes / 1e6
    yield from _judge(policy.megabytes, size, "size of the model", "size", {"megabytes": f"{size or 0:,.0f}"})


def _compared(evidence: Evidence) -> Comparison:
    assert evidence.comparison is not None, "guardrails look at what was compared"
    return evidence.comparison


GUARDRAILS: tuple[Callable[[Policy, Evidence], Iterator[Finding]], ...] = (
    _training,
    _gain,
    _calibration,
    _shift,
    _slices,
    _references,
    _in_sample,
    _forgetting,
    _skew,
    _drift,
    _ranking_value,
    _towers,
    _fairness,
    _cost,
)
"""What is looked at, in the order in which a person would."""
