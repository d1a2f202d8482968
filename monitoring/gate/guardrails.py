"""What else in the evidence asks for a person, whatever the log loss of champion and challenger says.

Each figure with a limit in the policy is a `Reading`, and yields a finding where the limit is passed, or where the
figure is missing and the policy does not let that pass. A figure of few clicks or requests passes its limit by chance:
what is held against the limit is what is shown of it, its bound.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from monitoring.evaluation.comparison import Comparison
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.evaluation.rated import RatedComparison, Rival
from monitoring.evaluation.retrieval import RetrievalComparison
from monitoring.evaluation.slices import surely_lost
from monitoring.gate.findings import Finding
from monitoring.gate.hypotheses import no_ratchet
from monitoring.gate.policy import Limit, Policy
from monitoring.sentences import counted, percent
from monitoring.statistics.chance import surely_above

SLICE_LEVEL = 0.01
"""Chance that a slice is named that does not lose more than allowed, over all slices of a candidate."""

SLICES_NAMED, COLUMNS_NAMED, QUERIES_NAMED = 3, 3, 3

DRIFTS = ("drift", "season_drift")
"""Codes of findings on drift; each column is one of Evidently's tests."""

SKEW_LEVEL = 0.001
"""Chance that a share of served values that differ is taken for larger than it is."""


@dataclass(frozen=True)
class Reading:
    """A figure of the evidence, and the limit of the policy that it is held against."""

    code: str
    """Of the finding where it is beyond it."""

    setting: str
    """The field of the policy."""

    limit: Limit
    value: float | None
    """None: not measured."""

    figure: str
    """What it is, for people."""

    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> Iterator[Finding]:
        """That it is beyond the limit; or, where it is missing, what the policy says of that."""
        limit, setting = self.limit, f"Policy.{self.setting} = {self.limit.at_most:g}"
        setting += f", {limit.chosen}" if limit.chosen else ""
        if self.value is None:
            if limit.missing != "pass":
                yield Finding(f"unmeasured/{self.code}", limit.missing, {"figure": self.figure})
        elif self.value > limit.at_most:
            yield Finding(self.code, limit.breach, self.facts, setting)


def guardrails(policy: Policy, evidence: Evidence) -> list[Finding]:
    """Every limit passed."""
    found: list[Finding] = []
    for part in GUARDRAILS:
        for each in part(policy, evidence):
            found += each.findings if isinstance(each, Reading) else [each]
    return found


def readings(policy: Policy, evidence: Evidence) -> list[Reading]:
    """Every figure with a limit; none where champion and challenger were not compared."""
    if evidence.comparison is None:
        return []
    found = (each for part in GUARDRAILS for each in part(policy, evidence))
    return [each for each in found if isinstance(each, Reading)]


def _training(policy: Policy, evidence: Evidence) -> Iterator[Finding]:
    if evidence.training is not None and evidence.training.stopped == "early" and policy.early != "pass":
        yield Finding("stopped_early", policy.early, setting=f"Policy.early = {policy.early!r}")


def _gain(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
    compared = _compared(evidence)
    if compared.against_champion:
        gain = compared.gain
        facts = {"gain": percent(gain.share or 0)}
        yield Reading("too_good", "too_good", policy.too_good, gain.lower, "gain", facts)


def _calibration(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
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
    yield Reading("calibration", "calibration", policy.calibration, beyond, "calibration error", facts)


def _shift(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
    compared = _compared(evidence)
    shift = compared.shift
    if shift is None or not compared.against_champion:
        return
    before, now = compared.champion.mean_prediction, compared.challenger.mean_prediction
    yield Reading(
        "mean_prediction",
        "mean_prediction",
        policy.mean_prediction,
        None if shift.log_odds is None else abs(shift.log_odds),
        "mean prediction",
        {"before": f"{before or 0:.3f}", "now": f"{now or 0:.3f}"},
    )
    yield Reading(
        "flat",
        "flattened",
        policy.flattened,
        None if shift.spread is None else 1 / max(shift.spread, 1e-9),
        "spread of predictions",
        {"spread": percent(shift.spread or 0)},
    )
    furthest = (evidence.in_sample.shift if evidence.in_sample else shift).p99
    yield Reading(
        "prediction_shift",
        "prediction_shift",
        policy.prediction_shift,
        furthest,
        "shift of single predictions",
        {"shift": f"{furthest or 0:.1f}"},
    )


def _slices(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
    compared = _compared(evidence)
    if not compared.against_champion:
        return
    shown = surely_lost(compared.slices, SLICE_LEVEL)
    lost = [part for part, loss in shown if loss > policy.slices.at_most]
    named = [
        f"{part.name} (log loss {percent(-(part.gain or 0))} higher on {counted(part.impressions, 'impression')})"
        for part in lost[:SLICES_NAMED]
    ]
    more = f" and {len(lost) - SLICES_NAMED} slices more" if len(lost) > SLICES_NAMED else ""
    facts = {"slices": ", ".join(named) + more, "allowed": percent(policy.slices.at_most)}
    yield Reading("slices", "slices", policy.slices, shown[0][1] if shown else None, "loss of a slice", facts)


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


def _in_sample(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
    if evidence.in_sample is not None:
        gain = evidence.in_sample.gain
        facts = {"lost": percent(gain.lost or 0)}
        yield Reading("in_sample", "in_sample", policy.in_sample, gain.surely_lost, "window in sample", facts)


def _forgetting(policy: Policy, evidence: Evidence) -> Iterator[Reading | Finding]:
    if evidence.forgetting is not None:
        gain = evidence.forgetting.gain
        facts = {"lost": percent(gain.lost or 0)}
        lost = gain.surely_lost
        yield Reading("forgetting", "forgetting", policy.forgetting, lost, "loss on the day before", facts)
    elif policy.forgetting.missing != "pass" and _compared(evidence).against_champion:
        yield Finding("no_earlier_window", policy.forgetting.missing)


def _skew(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
    skew = evidence.skew
    share = None if skew is None else skew.differing_share
    if skew is None or share is None:
        yield Reading("skew", "skew", policy.skew, None, "skew of features")
        return
    facts = {"share": percent(share), "features": ", ".join(found.feature for found in skew.worst[:3])}
    shown = surely_above(share, skew.rows, SKEW_LEVEL)
    yield Reading("skew", "skew", policy.skew, shown, "skew of features", facts)
    for found in skew.worst[:1]:  # one broken feature of a hundred is less than a hundredth of the values
        facts = {"feature": found.feature, "share": percent(found.share)}
        shown = surely_above(found.share, skew.rows, SKEW_LEVEL)
        yield Reading("skew_of_one", "skew_of_one", policy.skew_of_one, shown, f"skew of {found.feature}", facts)


def _drift(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
    for code, drift in (("drift", evidence.drift), ("season_drift", evidence.season_drift)):
        columns = [] if drift is None else [column for column in drift.columns if column.decides]
        furthest = max((column.ratio for column in columns), default=None)
        over = [column for column in columns if column.ratio > policy.drift.at_most]
        named = [
            f"{column.column} (PSI {column.psi:.2f}, up to {column.limit * policy.drift.at_most:.2f} is usual)"
            for column in over[:COLUMNS_NAMED]
        ]
        more = f" and {counted(len(over) - COLUMNS_NAMED, 'column')} more" if len(over) > COLUMNS_NAMED else ""
        facts = {
            "columns": ", ".join(named) + more,
            "s": "s" if len(over) == 1 else "",
            "against": "" if drift is None else drift.against,
        }
        yield Reading(code, "drift", policy.drift, furthest, "drift", facts)


def _ranking_value(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
    found = evidence.ranking_value
    lost = None if found is None else found.surely_lost
    facts = {"lost": percent(lost or 0)}
    yield Reading("ranking_value", "ranking_value", policy.ranking_value, lost, "value of its ranking", facts)


def _towers(policy: Policy, evidence: Evidence) -> Iterator[Reading | Finding]:
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
        yield Reading(code, "retrieval", policy.retrieval, lost, f"recall of {where}", facts)


def recall_sentence(part: RetrievalComparison) -> Mapping[str, str]:
    """What share of clicks was found, beside whose: ``31 %, the champion's 35 %,``."""
    now, before = (percent(of.at.get(part.among) or 0) for of in (part.challenger, part.rival))
    rivals = "those most popular" if part.against == "popularity" else "the champion's"
    return {"found": f"{now}, {rivals} {before},", "among": f"{part.among}"}


def _text(policy: Policy, evidence: Evidence) -> Iterator[Reading | Finding]:
    text = evidence.text
    if text is None:  # it reads none
        return
    if text.not_finite:
        yield Finding("text_not_finite", policy.rated.breach, {"count": f"{text.not_finite:,}"})
        return
    rated = text.rated
    of_rivals: tuple[tuple[str, Rival, Limit], ...] = (
        ("rated", "champion", policy.rated),
        ("rated_as_it_comes", "as_it_comes", policy.rated_as_it_comes),
    )
    for code, rival, limit in of_rivals:
        over = None if rated is None else rated.over(rival)
        facts = {} if rated is None else rated_sentence(rated, rival)
        yield Reading(code, code, limit, None if over is None else over.surely_lost, "NDCG of rated pairs", facts)


def rated_sentence(rated: RatedComparison, rival: Rival) -> Mapping[str, str]:
    """Of whom, and both figures: ``120 queries``, ``0.8421``, ``0.8613``."""
    before = rated.champion if rival == "champion" else rated.as_it_comes
    return {
        "queries": f"{rated.queries:,} {'query' if rated.queries == 1 else 'queries'}",
        "now": f"{rated.challenger:.4f}",
        "before": f"{before or 0:.4f}",
    }


def _query_drift(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
    found = evidence.query_drift
    if found is None:
        return
    far = [f"“{query.query}”" for query in found.farthest[:QUERIES_NAMED]]
    facts = {
        "against": found.against,
        "mmd": f"{found.mmd:.4f}",
        "limit": f"{found.limit * policy.query_drift.at_most:.4f}",
        "named": f"{'is' if len(far) == 1 else 'are'} {', '.join(far)}" if far else "is none: all were asked before",
    }
    yield Reading("query_drift", "query_drift", policy.query_drift, found.ratio, "drift of queries", facts)


def _fairness(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
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
        yield Reading("exposure", "fairness", policy.fairness, shown, f"exposure of {row.value}", facts)


def _cost(policy: Policy, evidence: Evidence) -> Iterator[Reading]:
    cost = evidence.cost
    slow = None if cost is None else cost.score_p99_ms
    facts = {"candidates": f"{cost.candidates if cost else 0}", "took": f"{slow or 0:.1f}"}
    yield Reading("scoring_time", "score_p99_ms", policy.score_p99_ms, slow, "scoring time", facts)
    size = None if cost is None else cost.bytes / 1e6
    facts = {"megabytes": f"{size or 0:,.0f}"}
    yield Reading("size", "megabytes", policy.megabytes, size, "size of the model", facts)


def _compared(evidence: Evidence) -> Comparison:
    assert evidence.comparison is not None, "guardrails look at what was compared"
    return evidence.comparison


GUARDRAILS: tuple[Callable[[Policy, Evidence], Iterator[Reading | Finding]], ...] = (
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
    _query_drift,
    _ranking_value,
    _towers,
    _text,
    _fairness,
    _cost,
)
"""What is looked at, in the order in which a person would."""
