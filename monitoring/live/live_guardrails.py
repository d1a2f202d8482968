"""Guardrails of a canary: what may not be worse than in its control, each by a test that holds at all looks together.

    guard = rate("slow", arms, allowed=0.02, level=0.001)
    guard.alarm, guard.beyond, guard.shown

`level` is the chance of a false alarm at some look.
"""

import math
from dataclasses import dataclass
from typing import Literal

from monitoring.live.arms import Arms
from monitoring.sentences import counted, percent
from monitoring.statistics import proportions, split
from monitoring.statistics.distance import distance

Rate = Literal["errors", "empty", "slow"]

FIGURES = {
    "errors": "Requests with an error",
    "empty": "Answers without an item",
    "slow": "Answers slower than the champion's 99th percentile",
}


@dataclass(frozen=True)
class Guard:
    """What one guardrail says."""

    name: str
    """The field of Canary that is its limit."""

    figure: str
    """In words."""

    seen: str
    """In words: what is found."""

    shown: float
    """The natural logarithm of the evidence; of scores the lower bound of the distance."""

    alarm: bool
    """It is shown to be beyond its limit."""

    beyond: bool
    """It is found beyond its limit, shown or not."""


def rate(name: Rate, arms: Arms, *, allowed: float, level: float) -> Guard:
    """Requests with this outcome: is their share above the control's by more than `allowed`?"""
    ours, control = ((getattr(arm, name), arm.answered) for arm in (arms.canary, arms.control))
    shown = float(proportions.log_evidence(*ours, *control, allowed=allowed))
    beyond = bool(ours[1] and control[1]) and ours[0] / ours[1] - control[0] / control[1] > allowed
    return Guard(
        name, FIGURES[name], _beside(_share(*ours), _share(*control)), shown, shown >= -math.log(level), beyond
    )


def clicks(arms: Arms, *, allowed: float, level: float) -> Guard:
    """Clicks as they arrive: is more than the share `allowed` of the control's missing?

    Clicks of one user hang together, so they count as so many independent ones (`split.independent`).
    """
    ours, control = arms.canary, arms.control
    arrived, squared = ours.clicks + control.clicks, ours.clicks_squared + control.clicks_squared
    shown, beyond = 0.0, False
    if arrived and ours.exposure_s > 0 and control.exposure_s > 0:
        expected = (1 - allowed) * ours.exposure_s
        worth = split.independent(arrived, squared) / arrived
        share = expected / (expected + control.exposure_s)
        shown = float(split.log_evidence(worth * ours.clicks, worth * arrived, share, side="below"))
        beyond = ours.clicks < share * arrived
    seen = _beside(counted(ours.clicks, "click"), counted(control.clicks, "click"))
    return Guard("clicks", "Clicks as they arrive", seen, shown, shown >= -math.log(level), beyond)


def scores(arms: Arms, *, allowed: float, level: float, tuned_for: int) -> Guard:
    """Scores: are their distributions further apart than `allowed`?"""
    ours, control = (
        (arm.scores, split.independent(sum(arm.scores), arm.impressions_squared)) for arm in (arms.canary, arms.control)
    )
    apart = distance(*ours, *control, level=level, tuned_for=tuned_for)
    seen = f"{apart.found:.2f} from the control's in Kolmogorov-Smirnov distance, at least {apart.at_least:.2f}"
    return Guard(
        "scores", "Distribution of scores", seen, apart.at_least, apart.at_least > allowed, apart.found > allowed
    )


def _beside(now: str, control: str) -> str:
    return f"{now} in the canary, {control} in its control"


def _share(count: int, of: int) -> str:
    return f"{percent(count / of)} of {of:,}" if of else "none"
