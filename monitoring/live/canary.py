"""The canary: a challenger on a share of live traffic, beside a control on the champion. Is it worse, or not?

    look = judge_canary(surface.canary, arms, began, now)
    look.word, look.reasons, look.path_point

A look asks in this order, and what comes first decides:

1. Is the split of users what it should be? If not, no figure can be trusted: it is rolled back.
2. Does a guardrail give an alarm: errors, empty answers, slow answers, clicks that do not arrive, scores that are
   elsewhere? It is rolled back.
3. Is there traffic in both arms? Without it nothing is promoted.
4. Is the success measure shown to be superior, or not inferior? It is promoted, once it has run for `at_least`, unless
   a guardrail is found beyond its limit and not yet shown to be. Is it shown to be worse than the margin? It is rolled
   back.
5. After `at_most` without an answer it is rolled back, for want of evidence.

Every test holds at all looks together (`monitoring/statistics`), so one may look as often as one likes, and stop when
one likes. A look reads cumulative figures alone and remembers nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from monitoring.gate.findings import Finding
from monitoring.live import live_guardrails
from monitoring.live.arms import Arms
from monitoring.live.live_guardrails import Guard
from monitoring.sentences import change, counted, percent
from monitoring.statistics import difference, sequential, split
from monitoring.statistics.difference import Lift

TUNED_FOR = 20_000
"""Requests of an arm at which bounds are tightest; ten times as many or as few cost them a few percent of width."""

SPLIT_STRENGTH = 1000.0
"""Pseudo-counts of the test of the sample ratio: it looks for small differences among many users."""

PathPoint = Mapping[str, float | int | None]
"""Plain values for JSON. Of a test the natural logarithm of its evidence, which gives an alarm from -log(guard_risk)
on, under the name of its guardrail; of scores the lower bound of their distance. None: infinite, or not known."""

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

    path_point: PathPoint
    """The figures of this look: what the canary's path is made of."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The findings as sentences."""
        return tuple(finding.sentence for finding in self.findings)


def judge_canary(canary: Canary, arms: Arms, began: datetime, now: datetime) -> CanaryLook:
    """Judge a canary that began at `began` by the figures that both arms have at `now`."""
    split_evidence = _split_evidence(canary, arms)
    guards = _guardrails(canary, arms)
    success = _success(canary, arms)
    point = {
        "elapsed_s": (now - began).total_seconds(),
        "users": arms.canary.users,
        "users_control": arms.control.users,
        "requests": arms.canary.requests,
        "requests_control": arms.control.requests,
        "impressions": arms.canary.impressions,
        "impressions_control": arms.control.impressions,
        "sample_ratio": split_evidence,
        **{guard.name: guard.shown for guard in guards},
        "success": success.found,
        "lower": success.lower,
        "upper": success.upper,
    }
    findings = tuple(_found(canary, arms, split_evidence, guards, success, now - began))
    decides = findings[0].word
    word: Literal["wait", "promote", "roll back"] = (
        "roll back" if decides == "reject" else "promote" if decides == "promote" else "wait"
    )
    return CanaryLook(word, findings, {name: _plain(value) for name, value in point.items()})


def _found(
    canary: Canary, arms: Arms, split_evidence: float, guards: Sequence[Guard], success: Lift, ran: timedelta
) -> Iterator[Finding]:
    """What the tests find, those that decide first."""
    chance = percent(canary.guard_risk)
    if split_evidence >= -math.log(canary.guard_risk):
        users, control = counted(arms.canary.users, "user"), counted(arms.control.users, "user")
        yield Finding("sample_ratio", "reject", {"canary": users, "control": control, "chance": chance})
    for guard in guards:
        if guard.alarm:
            facts = {"figure": guard.figure, "seen": guard.seen, "chance": chance}
            limit = f"Canary.{guard.name} = {getattr(canary, guard.name)!r}"
            yield Finding(f"live_guardrail/{guard.name}", "reject", facts, limit)
    last = ran >= canary.at_most
    if not (arms.canary.requests and arms.control.requests):
        requests, control = (counted(each.requests, "request") for each in (arms.canary, arms.control))
        yield Finding("no_traffic", "reject" if last else "hold", {"canary": requests, "control": control})
        return
    unsure = [guard for guard in guards if guard.beyond and not guard.alarm]
    found = _success_finding(canary, success, ran, last=last, sound=not unsure)
    holds = (
        Finding(f"live_guardrail_unsure/{guard.name}", "hold", {"figure": guard.figure, "seen": guard.seen})
        for guard in unsure
    )
    yield from (found, *holds) if found.word == "reject" else (*holds, found)


def _success_finding(canary: Canary, success: Lift, ran: timedelta, *, last: bool, sound: bool) -> Finding:
    """``sound``: no guardrail is found beyond its limit."""
    floor = 1.0 if canary.goal == "superior" else 1 - canary.margin
    facts = {
        "found": _compared(success),
        "goal": "better" if canary.goal == "superior" else f"less than {percent(canary.margin)} lower",
    }
    if success.upper < 1 - canary.margin:
        return Finding("live_worse", "reject", facts, f"Canary.margin = {canary.margin!r}")
    if success.lower > floor and ran >= canary.at_least and sound:
        return Finding("live_shown", "promote", facts)
    if last:
        return Finding("want_of_evidence", "reject", facts, f"Canary.at_most = {canary.at_most}")
    if success.lower > floor:
        return Finding("live_shown_early", "hold", facts, f"Canary.at_least = {canary.at_least}")
    return Finding("live_not_yet_shown", "hold", facts)


def _split_evidence(canary: Canary, arms: Arms) -> float:
    """Users of a canary fall to either arm with equal chance; others have no arms."""
    if canary.way != "canary":
        return 0.0
    users = arms.canary.users + arms.control.users
    return float(split.log_evidence(arms.canary.users, users, 0.5, strength=SPLIT_STRENGTH))


def _guardrails(canary: Canary, arms: Arms) -> tuple[Guard, ...]:
    level = canary.guard_risk
    return (
        live_guardrails.rate("errors", arms, allowed=canary.errors, level=level),
        live_guardrails.rate("empty", arms, allowed=canary.empty, level=level),
        live_guardrails.rate("slow", arms, allowed=canary.slow, level=level),
        live_guardrails.clicks(arms, allowed=canary.clicks, level=level),
        live_guardrails.scores(arms, allowed=canary.scores, level=level, tuned_for=TUNED_FOR),
    )


def _success(canary: Canary, arms: Arms) -> Lift:
    """The success measure as a multiple of the control's."""
    if canary.way == "shadow":
        gain = arms.paired
        lower, upper = (bound(gain, canary.risk, TUNED_FOR) for bound in (sequential.lower, sequential.upper))
        return Lift(1 + gain.mean if gain.n else None, 1 + lower, 1 + upper)
    if canary.way == "interleave":
        wins, losses = arms.preferences.wins, arms.preferences.losses
        lower, upper = split.odds(wins, losses, canary.risk)
        return Lift(wins / losses if losses else None, lower, upper)
    return difference.lift(arms.canary.reward, arms.control.reward, canary.risk, tuned_for=TUNED_FOR)


def _compared(success: Lift) -> str:
    """A sentence about the success measure beside its control's."""
    if success.found is None:
        return "The canary's success measure cannot be compared with its control's yet."
    least = "unbounded below" if success.lower == -math.inf else f"at worst {change(1 - success.lower)}"
    most = "unbounded above" if success.upper == math.inf else f"at best {change(1 - success.upper)}"
    found = f"The canary's success measure is {change(1 - success.found)} than its control's"
    return f"{found}, {least} and {most}, whenever one looks."


def _plain(value: float | int | None) -> float | int | None:
    """For JSON: six digits are enough for a path."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
