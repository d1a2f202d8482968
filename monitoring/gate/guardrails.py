"""What else in the evidence asks for a person, whatever the log loss of champion and challenger says.

Each figure with a limit in the policy yields a finding where the limit is passed, or where the figure is missing and
the policy does not let that pass. A figure of few clicks or requests passes its limit by chance: what is held against
the limit is what is shown of it, its bound.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.evaluation.process_record import Record
from monitoring.evaluation.slices import losing
from monitoring.gate import hypotheses as questions
from monitoring.gate.policy import Limit, Policy, Word
from monitoring.sentences import many, no, percent, rival
from monitoring.statistics.chance import surely_above
from monitoring.statistics.sequential import Moments

SLICE_LEVEL = 0.01
"""Chance that a slice is named that does not lose more than allowed, over all slices of a candidate."""

SLICES_TOLD = 3

SKEW_LEVEL = 0.001
"""Chance that a share of served values that differ is told larger than it is."""


@dataclass(frozen=True)
class Finding:
    """What one part of the evidence asks for, and its sentence."""

    word: Word
    sentence: str


def doubts(policy: Policy, figures: Mapping[str, Any]) -> list[Finding]:
    """Every limit passed."""
    return [finding for part in PARTS for finding in part(policy, figures)]


def _judge(limit: Limit, value: float | None, name: str, sentence: str) -> Iterator[Finding]:
    if no(value):
        if limit.missing != "pass":
            yield Finding(limit.missing, f"The {name} could not be measured.")
    elif value is not None and value > limit.at_most:
        yield Finding(limit.breach, sentence)


def _learning(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    learned = figures.get("learned", {})
    if learned.get("stopped") == "early" and policy.early != "pass":
        yield Finding(
            policy.early,
            "Learning stopped early: the model that learned predicted the impressions to come worse than the one that"
            " did not. Look at the learning rate and at the window.",
        )


def _gain(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    quality = figures["quality"]
    if quality["baseline"] == "champion":
        gain, shown = quality["paired"]["gain_share"], quality["paired"]["lower_share"]
        told = f"The log loss is {percent(gain or 0)} lower than the champion's, which is too good to be a better model"
        yield from _judge(policy.too_good, shown, "gain", f"{told} alone: look for the future in the features.")


def _calibration(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    quality = figures["quality"]
    before, now = quality["champion"]["calibration_error"], quality["challenger"]["calibration_error"]
    # An error within the champion's, or within what chance gives, is no news.
    beyond = None if no(now) else now - (quality.get("calibration_chance") or 0.0)
    if quality["baseline"] == "champion" and not no(before) and not no(now) and now <= before:
        beyond = 0.0
    told = f"The challenger's calibration error is {now:.3f}" if not no(now) else ""
    beside = f" (the {rival(quality)}'s is {before:.3f})" if not no(before) else ""
    yield from _judge(policy.calibration, beyond, "calibration error", f"{told}{beside}, beyond what chance gives.")


def _shift(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    quality = figures["quality"]
    shift = quality.get("shift")
    if shift is None or quality["baseline"] != "champion":
        return
    means = [quality[who]["mean_prediction"] for who in ("champion", "challenger")]
    yield from _judge(
        policy.prediction,
        None if no(shift["log_odds"]) else abs(shift["log_odds"]),
        "mean prediction",
        f"The mean prediction moved from {means[0] or 0:.3f} to {means[1] or 0:.3f}.",
    )
    spread = shift["spread"]
    yield from _judge(
        policy.flattened,
        None if no(spread) else 1 / max(spread, 1e-9),
        "spread of predictions",
        f"The challenger's predictions vary {percent(spread or 0)} as much as the champion's: it has gone flat.",
    )
    moved = (figures.get("again") or shift).get("moved_p99")
    yield from _judge(
        policy.moved,
        moved,
        "change of single predictions",
        f"One prediction in a hundred moved by {moved or 0:.1f} or more in log-odds.",
    )


def _slices(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    quality = figures["quality"]
    if quality["baseline"] != "champion":
        return
    lost = losing(quality.get("slices", []), policy.slices.at_most, SLICE_LEVEL)
    if lost:
        told = [
            f"{slice_['column']} = {slice_['value']} (log loss {percent(-slice_['gain_share'])} higher on"
            f" {many(slice_['impressions'], 'impression')})"
            for slice_ in lost[:SLICES_TOLD]
        ]
        more = f" and {len(lost) - SLICES_TOLD} slices more" if len(lost) > SLICES_TOLD else ""
        yield Finding(
            policy.slices.breach,
            f"The challenger loses on {', '.join(told)}{more}, shown to be more than {percent(policy.slices.at_most)}.",
        )


def _anchors(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    rows = figures.get("anchors", [])
    if rows:
        anchors = {row["name"]: Moments.from_dict(row["moments"]) for row in rows}
        record = Record.from_dict(figures["process"]["before"])
        log_harm = {row["name"]: record.against.get(row["version"], 0.0) for row in rows}
        over_champion = Moments.from_dict(figures["quality"]["paired"]["moments"])
        answer = questions.no_ratchet(anchors, margin=policy.margin, over_champion=over_champion, log_harm=log_harm)
        if answer.word != "promote":
            yield Finding(answer.word, answer.sentence)


def _again(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    again = figures.get("again")
    if again is not None:
        lost, shown = _lost(again)
        told = f"Its final weights lose {percent(lost or 0)} to the champion on the very window they learned from."
        yield from _judge(policy.again, shown, "window scored again", told)


def _forgetting(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    forgetting = figures.get("forgetting")
    if forgetting is not None:
        lost, shown = _lost(forgetting)
        told = f"On the day before, its log loss is {percent(lost or 0)} higher than the champion's: it forgets."
        yield from _judge(policy.forgetting, shown, "loss on the day before", told)
    elif policy.forgetting.missing != "pass" and figures["quality"]["baseline"] == "champion":
        yield Finding(policy.forgetting.missing, "There is no older window to see forgetting on.")


def _lost(paired: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The share of log loss lost, and how much of it is shown."""
    found = (None if no(paired[key]) else -paired[key] for key in ("gain_share", "upper_share"))
    lost, shown = found
    return lost, shown


def _skew(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    skew = figures.get("skew") or {}
    worst = ", ".join(row["feature"] for row in skew.get("worst", [])[:3])
    told = f"Of the values served, {percent(skew.get('differing_share') or 0)} are not what the log gives: {worst}."
    rows = skew.get("rows") or 0
    whole = None if no(skew.get("differing_share")) else surely_above(skew["differing_share"], rows, SKEW_LEVEL)
    yield from _judge(policy.skew, whole, "skew of features", told)
    for row in skew.get("worst", [])[:1]:  # one broken feature of a hundred is less than a hundredth of the values
        share = row["share"]
        told = (
            f"The feature {row['feature']} was served otherwise than the log gives it on {percent(share)} of the rows."
        )
        yield from _judge(policy.skew_of_one, surely_above(share, rows, SKEW_LEVEL), f"skew of {row['feature']}", told)


def _drift(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    for key, what in (("drift", "from what the champion learned"), ("drift_baseline", "from the baseline")):
        share = (figures.get(key) or {}).get("drifted_share")
        yield from _judge(policy.drift, share, "drift", f"{percent(share or 0)} of the columns drifted {what}.")


def _counterfactual(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    found = figures.get("counterfactual")
    if found is None or "refused" in found:
        yield from _judge(policy.counterfactual, None, "counterfactual value", "")
        return
    lost = found.get("lost_share_shown")
    told = f"By the logged propensities its order of items is worth {percent(lost or 0)} less than the champion's."
    yield from _judge(policy.counterfactual, lost, "counterfactual value", told)


def _retrieval(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    retrieval = figures.get("retrieval")
    if retrieval is None:  # requests name their candidates
        return
    if retrieval["not_finite"]:
        told = f"Its towers give vectors that are not numbers ({retrieval['not_finite']:,} of users and items)."
        yield Finding(policy.retrieval.breach, told)
        return
    for part, where in ((retrieval, "the next clicks"), (retrieval["again"], "the last clicks it learned from")):
        told = f"Of {where} its towers find {recalled(part)} among {part['among']} items." if part else ""
        yield from _judge(policy.retrieval, part.get("lost_shown"), f"recall of {where}", told)


def recalled(part: Mapping[str, Any]) -> str:
    """What share of clicks was found, beside whom: ``31 %, the champion's 35 %,``."""
    now, before = (percent(part[who][f"recall_{part['among']}"] or 0) for who in ("challenger", part["against"]))
    rivals = "those most popular" if part["against"] == "popularity" else "the champion's"
    return f"{now}, {rivals} {before},"


def _fairness(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    for row in figures["quality"].get("fairness", []):
        before, now = row["exposure_champion"], row["exposure_challenger"]
        if before is None or now is None:  # of readers: each request shows its items to one, in whatever order
            continue
        change = row["exposure_change"]
        bounds = [change["lower"], change["upper"]]
        shown = None if None in bounds else max(0.0, bounds[0], -bounds[1])
        which = f"{row['attribute']} = {row['value']}"
        told = f"The exposure of {which} goes from {percent(before or 0)} to {percent(now or 0)}."
        yield from _judge(policy.fairness, shown, f"exposure of {row['value']}", told)


def _cost(policy: Policy, figures: Mapping[str, Any]) -> Iterator[Finding]:
    cost = figures.get("cost", {})
    slow = cost.get("score_p99_ms")
    told = f"Scoring {cost.get('score_rows', 0)} candidates takes {slow or 0:.1f} ms (99th percentile)."
    yield from _judge(policy.score_p99_ms, slow, "scoring time", told)
    size = None if cost.get("bytes") is None else cost["bytes"] / 1e6
    yield from _judge(policy.megabytes, size, "size of the model", f"The model has {size or 0:,.0f} MB.")


PARTS: tuple[Callable[[Policy, Mapping[str, Any]], Iterator[Finding]], ...] = (
    _learning,
    _gain,
    _calibration,
    _shift,
    _slices,
    _anchors,
    _again,
    _forgetting,
    _skew,
    _drift,
    _counterfactual,
    _retrieval,
    _fairness,
    _cost,
)
"""What is looked at, in the order in which a person would."""
