"""What a backtest's summary says, in figures and in words: shared by its page and by its table in the terminal.

headline(report.summary())  ->  "Fresh features raised AUC by 0.061 and MRR by 0.052; fresh models ..."
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Summary = Mapping[str, Any]
"""What ``flows.backtest.run.Report.summary`` gives, or the same read back from JSON."""

SAME = 0.0005
"""A difference that reads 0.000 with the three digits that sentences give."""


@dataclass(frozen=True)
class Measure:
    """A figure that every arm has."""

    key: str
    name: str
    higher_is_better: bool
    meaning: str


MEASURES = (
    Measure("auc", "AUC", True, "chance that a clicked impression scores above one not clicked; 0.5 is guessing"),
    Measure("mrr", "MRR", True, "mean over requests of 1 / rank of the highest clicked item"),
    Measure("hit_at_1", "hit@1", True, "share of requests whose top item was clicked"),
    Measure("log_loss", "log loss", False, "nats per impression"),
    Measure(
        "normalised_entropy", "norm. entropy", False, "log loss over that of the constant click rate; 1 is no better"
    ),
    Measure("calibration_error", "calibration error", False, "mean gap of predicted and observed click rate, by bin"),
)
AUC, MRR = MEASURES[:2]
HEADLINE = (AUC, MRR)


@dataclass(frozen=True)
class Arm:
    """One way of serving the same impressions."""

    key: str
    name: str
    meaning: str


CHAMPION = Arm("champion", "champion", "fresh features, fresh model")
FEATURES_ONLY = Arm("features_only", "features only", "fresh features, first model")
FROZEN = Arm("frozen", "frozen", "frozen features, first model")
ARMS = (FROZEN, FEATURES_ONLY, CHAMPION)
"""From the stalest to the freshest; each differs from the one before by one thing."""


@dataclass(frozen=True)
class Step:
    """What is gained from one arm to the next fresher one."""

    name: str
    before: Arm
    after: Arm


FEATURES = Step("Fresh features", FROZEN, FEATURES_ONLY)
MODELS = Step("Fresh models", FEATURES_ONLY, CHAMPION)
STEPS = (FEATURES, MODELS)


def known(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def figure(part: Summary, arm: Arm, measure: Measure) -> float | None:
    """One figure of the whole summary or of one of its windows; None where the data do not define it."""
    return known((part.get(arm.key) or {}).get(measure.key))


def gain(part: Summary, step: Step, measure: Measure) -> float | None:
    """Change of the measure over the step, in its own unit; for a loss, below 0 is better."""
    before, after = figure(part, step.before, measure), figure(part, step.after, measure)
    return None if before is None or after is None else after - before


def is_better(change: float, measure: Measure) -> bool | None:
    """Whether a change is for the better; None when it is too small to be told at four digits."""
    if abs(change) < 0.00005:
        return None
    return (change > 0) == measure.higher_is_better


def best(summary: Summary, measure: Measure) -> frozenset[str]:
    """Key of the arm with the best figure at four digits; none where two have it, or one alone has a figure."""
    known_figures = {arm.key: figure(summary, arm, measure) for arm in ARMS}
    rounded = {key: round(value, 4) for key, value in known_figures.items() if value is not None}
    if not rounded:
        return frozenset()
    top = max(rounded.values()) if measure.higher_is_better else min(rounded.values())
    keys = frozenset(key for key, value in rounded.items() if value == top)
    return keys if len(keys) == 1 and len(rounded) > 1 else frozenset()


def why_none(summary: Summary, measure: Measure) -> str | None:
    """Why no arm has the figure, where they say so: it could not have been other than it is."""
    reasons = [((summary.get(arm.key) or {}).get("left_out") or {}).get(measure.key) for arm in ARMS]
    return str(reasons[-1]) if all(reasons) else None


def ahead(summary: Summary, step: Step, measure: Measure) -> tuple[int, int]:
    """In how many windows the step was for the better, and in how many it could be told."""
    changes = [gain(window, step, measure) for window in summary["windows"]]
    told = [change for change in changes if change is not None]
    return sum(is_better(change, measure) is True for change in told), len(told)


def promotions_after_warm_up(summary: Summary) -> int:
    """Updates after the first model's that put a model into service."""
    promoted = [update for update in summary["updates"] if update["verdict"] == "promote"]
    return len(promoted[1:])


def without_model(summary: Summary) -> str | None:
    """A sentence where no model came out of the warm-up: for how long the base rate stood in, and why."""
    found = summary.get("base_rate")
    if not found:
        return None
    every = found["impressions"] == summary["scored"]
    spell = "all along" if every else f"for the first {found['impressions']:,} of {summary['scored']:,} impressions"
    reason = found["reason"].rstrip(".")
    return f"No model was in service {spell}, and the base rate stood in: {reason}."


def headline(summary: Summary) -> str:
    """A sentence or two: what fresh features and what fresh models were worth, in AUC and MRR."""
    if not summary["scored"]:
        return "No impression was scored: the log ends with the warm-up."
    if summary.get("base_rate") and summary["base_rate"]["impressions"] == summary["scored"]:
        return "No model was good enough to serve, so there is nothing to say of fresh features and models."
    told = _moved(FEATURES, summary)
    told = told[0].upper() + told[1:]
    if promotions_after_warm_up(summary):
        return f"{told}; {_moved(MODELS, summary)}."
    return f"{told}. No update after the first model was promoted, so there were no fresh models."


def _moved(step: Step, summary: Summary) -> str:
    name = step.name.lower()
    changes = {measure.name: gain(summary, step, measure) for measure in HEADLINE}
    moved = {what: change for what, change in changes.items() if change is not None}
    if not moved:
        return f"what {name} are worth cannot be said, for want of clicks"
    told, verb = [], ""
    for measure, change in moved.items():
        same = abs(change) < SAME
        ours = "left" if same else "raised" if change > 0 else "lowered"
        told.append(
            f"{'' if ours == verb else ours + ' '}{measure}{' as it was' if same else f' by {abs(change):.3f}'}"
        )
        verb = ours
    return f"{name} {' and '.join(told)}"


def signed(change: float | None, digits: int = 4) -> str:
    """``+0.0613``, ``−0.0021``, ``0.0000``; a dash where there is none."""
    if change is None:
        return "–"
    text = f"{change:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{change:.{digits}f}") == 0 else text


def number(value: float | None, digits: int = 4) -> str:
    """A figure with its digits; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def without_nan(value: Any) -> Any:
    """The same object with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
