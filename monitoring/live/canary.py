"""The canary: is a challenger on a share of live traffic worse than the champion on a share of its own, or not?

look = judge_canary(surface.canary, arms, began, now)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from monitoring.gate.findings import Finding
from monitoring.live.arms import Arms

Way = Literal["canary", "shadow", "interleave"]
Goal = Literal["superior", "not inferior"]


@dataclass(frozen=True)
class Canary:
    """How a challenger that the gate lets through is tried on live traffic before it is the champion."""

    way: Way = "canary"
    """canary: users of its own beside a control; shadow: it scores what the champion answers; interleave: both rank
    for the same request, and clicks say whose items are preferred."""

    share: float = 0.05
    """Of users who get the canary. As many are a fresh control, on the champion."""

    goal: Goal = "not inferior"
    """What must be shown before it is promoted."""

    margin: float = 0.05
    """Share of the control's success measure that may be lost and still count as not inferior."""

    errors: float = 0.01
    """Guardrail: points of requests with an error that the canary may have above the control."""

    empty: float = 0.01
    """Guardrail: the same of answers without an item."""

    slow: float = 0.02
    """Guardrail: the same of answers slower than the champion's 99th percentile."""

    clicks: float = 0.2
    """Guardrail: share of the control's clicks that may be missing as they arrive, before labels are mature."""

    scores: float = 0.2
    """Guardrail: how far the distributions of scores may be apart (Kolmogorov-Smirnov distance, 0 to 1)."""

    risk: float = 0.05
    """Chance of a false promotion, over all looks; and of a false end by the success measure."""

    guard_risk: float = 0.001
    """Chance of a false alarm of the sample ratio and of each guardrail, over all looks."""

    at_least: timedelta = timedelta(hours=1)
    """No promotion before."""

    at_most: timedelta = timedelta(days=1)
    """Then it ends: rolled back, for want of evidence."""

    every: timedelta = timedelta(minutes=1)
    """How often it is looked at."""

    def __post_init__(self) -> None:
        if self.way not in ("canary", "shadow", "interleave"):
            raise ValueError(f"Canary.way={self.way!r}: wants 'canary', 'shadow' or 'interleave'")
        if self.goal not in ("superior", "not inferior"):
            raise ValueError(f"Canary.goal={self.goal!r}: wants 'superior' or 'not inferior'")
        if not 0 < self.share <= 0.5:
            raise ValueError(
                f"Canary.share={self.share}: wants a share above 0, and 0.5 at most; the control has one too"
            )
        for name in ("margin", "errors", "empty", "slow", "clicks", "scores"):
            if not (math.isfinite(getattr(self, name)) and 0 <= getattr(self, name) < 1):
                raise ValueError(f"Canary.{name}={getattr(self, name)}: wants a share of 0 or more, below 1")
        for name in ("risk", "guard_risk"):
            if not 0 < getattr(self, name) < 0.5:
                raise ValueError(f"Canary.{name}={getattr(self, name)}: wants a chance above 0 and below 0.5")
        if not timedelta(0) <= self.at_least < self.at_most:
            raise ValueError(f"Canary.at_least={self.at_least}: wants less than at_most={self.at_most}")
        if self.every <= timedelta(0):
            raise ValueError(f"Canary.every={self.every}: must be longer than nothing")


@dataclass(frozen=True)
class CanaryLook:
    """What one look says."""

    word: Literal["wait", "promote", "roll back"]

    findings: tuple[Finding, ...]
    """Those that decide come first."""

    path_point: Mapping[str, float | int | str | None]
    """The figures of this look, plain values for JSON: what the canary's path is made of."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The findings as sentences."""
        return tuple(finding.sentence for finding in self.findings)


def judge_canary(canary: Canary, arms: Arms, began: datetime, now: datetime) -> CanaryLook:
    """Judge a canary that began at `began` by the figures that both arms have at `now`."""
    return CanaryLook("wait", (), {})
