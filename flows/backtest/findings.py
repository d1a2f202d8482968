"""What a backtest's summary says, in figures and in words: shared by its page and by its table in the terminal.

headline(summary)  ->  "Fresh features raised AUC by 0.061 and MRR by 0.052; fresh models ..."
"""

from dataclasses import dataclass

from flows.backtest.summary import ARMS, CHAMPION_ARM, FEATURES_ONLY_ARM, FROZEN_ARM, Arm, ByArm, Summary
from monitoring.measures import BY_KEY, DIGITS, Measure
from monitoring.sentences import counted

SHOWN_MEASURES = tuple(
    BY_KEY[key] for key in ("auc", "mrr", "hit_at_1", "log_loss", "normalised_entropy", "calibration_error")
)
"""The measures that the page and the table show."""

AUC = BY_KEY["auc"]
HEADLINE = (AUC, BY_KEY["mrr"])

UNCHANGED = 0.0005
"""A difference that reads 0.000 with the three digits that sentences give."""


@dataclass(frozen=True)
class Contrast:
    """What is gained from one arm to the next fresher one."""

    name: str
    before: Arm
    after: Arm

    @property
    def meaning(self) -> str:
        return f"{self.after.name} minus {self.before.name}"


FRESH_FEATURES = Contrast("Fresh features", FROZEN_ARM, FEATURES_ONLY_ARM)
FRESH_MODELS = Contrast("Fresh models", FEATURES_ONLY_ARM, CHAMPION_ARM)
CONTRASTS = (FRESH_FEATURES, FRESH_MODELS)


def figure(arms: ByArm, arm: Arm, measure: Measure) -> float | None:
    """One figure of an arm; None where the data do not define it."""
    return arms[arm].of(measure)


def gain(arms: ByArm, contrast: Contrast, measure: Measure) -> float | None:
    """Change of the measure from arm to arm, in its own unit; for a loss, below 0 is better."""
    before, after = figure(arms, contrast.before, measure), figure(arms, contrast.after, measure)
    return None if before is None or after is None else after - before


def is_better(change: float, measure: Measure) -> bool | None:
    """Whether a change is for the better; None when it is too small to be seen at the digits of a measure."""
    return None if abs(change) < 0.5 * 10**-DIGITS else change * measure.sign > 0


def best(arms: ByArm, measure: Measure) -> Arm | None:
    """The arm whose figure is best at the digits of a measure; None where two have it, or one alone has a figure."""
    rounded = {arm: round(value, DIGITS) for arm in ARMS if (value := figure(arms, arm, measure)) is not None}
    top = max(rounded.values(), key=lambda value: value * measure.sign, default=None)
    leaders = [arm for arm, value in rounded.items() if value == top]
    return leaders[0] if len(leaders) == 1 and len(rounded) > 1 else None


def why_left_out(arms: ByArm, measure: Measure) -> str | None:
    """Why no arm has the figure, where there is a reason for each."""
    reasons = [arms[arm].left_out.get(measure.key) for arm in ARMS]
    return reasons[-1] if all(reasons) else None


def windows_ahead(summary: Summary, contrast: Contrast, measure: Measure) -> tuple[int, int]:
    """In how many windows the contrast was for the better, and how many have the figure for both arms."""
    gains = [gain(window.arms, contrast, measure) for window in summary.windows]
    changes = [change for change in gains if change is not None]
    return sum(is_better(change, measure) is True for change in changes), len(changes)


def put_into_service(summary: Summary) -> int:
    """Models that were promoted by the gate, or approved although it held them."""
    return summary.count("promote") + summary.count("approve")


def without_model(summary: Summary) -> str | None:
    """A sentence where no model came out of the warm-up: for how long the base rate stood in, and why."""
    period, every = summary.base_rate, summary.evaluated
    if period is None:
        return None
    how_long = (
        "all along" if summary.no_model_at_all else f"for the first {period.impressions:,} of {every:,} impressions"
    )
    return f"No model was in service {how_long}, and the base rate stood in: {period.reason.rstrip('.')}."


def approvals(summary: Summary) -> str | None:
    """A sentence where an analyst was played: of what the gate held, how much was approved."""
    if not summary.approve_held:
        return None
    approved, refused = summary.count("approve"), summary.approvals_refused
    held = approved + refused
    if not held:
        return "--approve-held had nothing to approve: the gate held no challenger."
    sentence = f"--approve-held played the analyst: {approved:,} of {counted(held, 'held challenger')} approved"
    return f"{sentence}, {counted(refused, 'approval')} refused." if refused else f"{sentence}."


def headline(summary: Summary) -> str:
    """Two sentences or three: what fresh features and what fresh models were worth, in AUC and MRR; and how many of
    the models the gate had held."""
    if not summary.evaluated:
        return "No impression was scored: the log ends with the warm-up."
    if summary.no_model_at_all:
        return "No model was good enough to serve, so there is nothing to say of fresh features and models."
    features = _worth(FRESH_FEATURES, summary.arms)
    features = features[0].upper() + features[1:]
    served, approved = put_into_service(summary), summary.count("approve")
    if served > 1:
        sentence = f"{features}; {_worth(FRESH_MODELS, summary.arms)}."
    else:
        sentence = f"{features}. No update after the first model was promoted, so there were no fresh models."
    if not approved:
        return sentence
    models = counted(served, "model")
    return f"{sentence} Of {models} put into service, {approved:,} had been held by the gate and approved all the same."


def _worth(contrast: Contrast, arms: ByArm) -> str:
    name = contrast.name.lower()
    gains = {measure.name: gain(arms, contrast, measure) for measure in HEADLINE}
    changes = {measure: change for measure, change in gains.items() if change is not None}
    if not changes:
        return f"what {name} are worth cannot be said, for want of clicks"
    clauses, last = [], ""
    for measure, change in changes.items():
        same = abs(change) < UNCHANGED
        verb = "left" if same else "raised" if change > 0 else "lowered"
        amount = " as it was" if same else f" by {abs(change):.3f}"
        clauses.append(f"{'' if verb == last else verb + ' '}{measure}{amount}")
        last = verb
    return f"{name} {' and '.join(clauses)}"
