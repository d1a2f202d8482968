"""A canary on the desk's pages: what it is, how it went, and its path as coordinates that ``canary.html`` writes.

Above, the success measure against the control's with its confidence sequence, which narrows as more is known. Below, a
drawing a guardrail: how near it came to its alarm.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from models.versions.canaries import CanaryRecord, Look, thinned
from monitoring.desk import words
from monitoring.desk.drawings import Caption
from monitoring.sentences import counted

WIDTH, LEFT, RIGHT, TOP, BASE = 860, 64, 760, 14, 210
"""Of the success measure's drawing; figures stand left of `LEFT`, names of lines right of `RIGHT`."""

SMALL_WIDTH, SMALL_TOP, SMALL_BASE = 320, 18, 84

MOST = 300
"""Looks that are drawn; of more, those at even distances."""

FURTHEST = 1.0
"""The scale of the difference reaches no further: a canary at twice the control's is far enough."""

GUARDRAILS = {
    "errors": "Errors",
    "empty": "Empty answers",
    "slow": "Slow answers",
    "clicks": "Clicks as they arrive",
    "sample_ratio": "Sample ratio",
    "scores": "Distribution of scores",
}

WAYS = {
    "canary": "a share of users, and a control",
    "shadow": "a shadow, which shows nothing",
    "interleave": "lists that both rank together",
}

OUTCOMES = {
    None: "is a canary",
    "promoted": "was a canary, and was promoted",
    "rolled back": "was a canary, and was rolled back",
    "superseded": "was a canary, and was superseded",
}


@dataclass(frozen=True)
class SuccessDrawing:
    """The difference over time."""

    band: str
    """Between the bounds."""
    line: str
    equal: float
    """Heights: of no difference, and of the loss that is allowed."""
    allowed: float
    texts: tuple[Caption, ...]
    height: int = BASE + 30


@dataclass(frozen=True)
class GuardrailDrawing:
    """One guardrail over time, as a share of what raises its alarm."""

    name: str
    now: str
    """In words: how near it is."""
    line: str
    alarm: float
    """Height of the alarm."""
    alarmed: bool
    texts: tuple[Caption, ...]
    height: int = SMALL_BASE + 18


@dataclass(frozen=True)
class CanaryShown:
    """All of it."""

    title: str
    running: bool
    surface: str
    update_id: int
    reason: str
    facts: tuple[tuple[str, str], ...]
    success: SuccessDrawing | None
    guardrails: tuple[GuardrailDrawing, ...]
    legend: str


def shown(canary: CanaryRecord, looks: Sequence[Look], now: datetime) -> CanaryShown:
    """What of it there is at ``now``."""
    settings = canary.settings
    points = [look.point for look in thinned(looks, MOST)]
    last: Mapping[str, Any] = points[-1] if points else {}
    ended = canary.ended_at or now
    facts = [
        ("tried by", WAYS[str(settings["way"])]),
        ("against", f"version {canary.champion_version}"),
        ("began", words.moment(canary.began_at)),
        ("ran for" if canary.outcome else "runs for", words.span(ended - canary.began_at)),
        ("users", f"{_count(last, 'users')}, control {_count(last, 'users_control')}"),
        ("requests", f"{_count(last, 'requests')}, control {_count(last, 'requests_control')}"),
        ("looked at", counted(len(looks), "time")),
    ]
    if looks:
        facts.append(("last look", f"{words.moment(looks[-1].looked_at)}: {looks[-1].word}"))
    return CanaryShown(
        title=f"Version {canary.version} {OUTCOMES[canary.outcome]}",
        running=canary.outcome is None,
        surface=canary.surface,
        update_id=canary.update_id,
        reason=canary.reason or "",
        facts=tuple(facts),
        success=_success(points, float(settings["margin"])),
        guardrails=tuple(_guardrails(points, settings)),
        legend="shaded: where it may be, whenever one looks",
    )


def _success(points: Sequence[Mapping[str, Any]], margin: float) -> SuccessDrawing | None:
    """None before anything is known."""
    known = [point for point in points if point.get("success") is not None]
    if not known:
        return None
    last = known[-1]
    wanted = [abs(float(last[name]) - 1) for name in ("success", "lower", "upper") if last.get(name) is not None]
    reach = min(max([*wanted, 3 * margin, 0.02]) * 1.3, FURTHEST)
    across = _across(points, LEFT, RIGHT)

    def up(multiple: float | None, missing: float) -> float:
        apart = missing if multiple is None else max(-reach, min(reach, multiple - 1))
        return round(TOP + (BASE - TOP) * (reach - apart) / (2 * reach), 1)

    upper = [f"{across(point)} {up(point.get('upper'), reach)}" for point in known]
    lower = [f"{across(point)} {up(point.get('lower'), -reach)}" for point in known]
    line = [f"{across(point)} {up(point['success'], 0.0)}" for point in known]
    marked = _marked(reach)
    texts = [
        Caption(LEFT - 8, up(1 + share, 0.0) + 4, words.percent(share, signed=bool(share)), "end")
        for share in (-marked, 0.0, marked)
    ]
    texts += [
        Caption(RIGHT + 8, up(1.0, 0.0) + 4, "as the control", "start"),
        Caption(RIGHT + 8, up(1 - margin, 0.0) + 14, "allowed loss", "start"),
    ]
    length = float(points[-1]["elapsed_s"])
    texts += [
        Caption(
            round(LEFT + (RIGHT - LEFT) * share, 1), BASE + 22, words.span(length * share) if share else "0", anchor
        )
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    ]
    return SuccessDrawing(
        band=_path([*upper, *reversed(lower)]) + "Z",
        line=_path(line if len(line) > 1 else [f"{LEFT} {line[0].split()[1]}", *line]),
        equal=up(1.0, 0.0),
        allowed=up(1 - margin, 0.0),
        texts=tuple(texts),
    )


def _guardrails(points: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[GuardrailDrawing]:
    alarm = -math.log(float(settings["guard_risk"]))
    found = []
    for name, title in GUARDRAILS.items():
        limit = float(settings["scores"]) or 1e-9 if name == "scores" else alarm
        values = [(point, max(0.0, float(point[name])) / limit) for point in points if point.get(name) is not None]
        if not values:
            continue
        tallest = max(1.25, min(3.0, max(value for _, value in values) * 1.05))
        across = _across(points, 0, SMALL_WIDTH)

        def up(value: float, tallest: float = tallest) -> float:
            return round(SMALL_BASE - (SMALL_BASE - SMALL_TOP) * min(value, tallest) / tallest, 1)

        line = [f"{across(point)} {up(value)}" for point, value in values]
        now = values[-1][1]
        alarmed = now >= 1
        found.append(
            GuardrailDrawing(
                name=title,
                now="alarm" if alarmed else f"{words.percent(now)} of the way to its alarm",
                line=_path(line if len(line) > 1 else [f"0 {line[0].split()[1]}", *line]),
                alarm=up(1.0),
                alarmed=alarmed,
                texts=(Caption(0, round(up(1.0) - 5, 1), "alarm", "start"),),
            )
        )
    return found


def _across(points: Sequence[Mapping[str, Any]], left: float, right: float) -> Callable[[Mapping[str, Any]], float]:
    length = float(points[-1]["elapsed_s"]) or 1.0
    return lambda point: round(left + (right - left) * max(0.0, min(1.0, float(point["elapsed_s"]) / length)), 1)


def _marked(reach: float) -> float:
    """The largest round number within the scale."""
    return max(digit * 10.0**power for power in range(-3, 1) for digit in (1, 2, 5) if digit * 10.0**power <= reach)


def _path(places: Sequence[str]) -> str:
    return "M" + "L".join(places)


def _count(point: Mapping[str, Any], name: str) -> str:
    return words.count(point.get(name))
