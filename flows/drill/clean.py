"""Clean windows of a drill: how many were not promoted, why, and how it was at night and at weekends."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from flows.drill.in_memory import JudgedWindow
from flows.drill.logs import Log
from flows.drill.windows import LogWindow, seconds_of
from monitoring.gate.decide import Verdict
from monitoring.gate.policy import Word

THIN = frozenset(
    (
        "nothing_to_compare",
        "few_requests",
        "too_thin",
        "not_yet_shown",
        "sum_not_yet_shown",
        "base_rate_not_comparable",
        "not_shown_better_than_base_rate",
        "unmeasured",
    )
)
"""Findings, by the first part of their code, that say no more than that there is too little to judge by: the window is
trained on with the next, and nobody need look."""

NIGHT_HOURS = 6
"""Hours of the day, those with the fewest impressions of the log, that are its night."""

NIGHT, WEEKEND = "night", "weekend"


@dataclass(frozen=True)
class Stopped:
    """A clean window that was not promoted."""

    window: str
    verdict: Word
    codes: tuple[str, ...]
    reasons: tuple[str, ...]

    thin: bool = False
    """It was held for thinness alone."""


@dataclass(eq=False)
class Part:
    """Clean windows of a part of the day or week."""

    windows: int = 0
    held: int = 0
    """But those for thinness."""


@dataclass(eq=False)
class Clean:
    """Clean windows of one cadence."""

    every: str
    """``hour``, ``10 minutes``: what stands after "every"."""

    windows: int = 0
    stopped: list[Stopped] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    """By ``night`` and ``weekend``; those that no window was of are not there."""

    @property
    def held(self) -> int:
        return sum(stopped.verdict == "hold" for stopped in self.stopped)

    @property
    def thin(self) -> int:
        """Of those held, for thinness alone."""
        return sum(stopped.thin for stopped in self.stopped)

    @property
    def rejected(self) -> int:
        return sum(stopped.verdict == "reject" for stopped in self.stopped)

    def add(self, judged: JudgedWindow, parts: Iterable[str] = ()) -> None:
        """Count a window, and that it is of these parts."""
        verdict, thin = judged.verdict, is_thin(judged.verdict)
        self.windows += 1
        for name in parts:
            part = self.parts.setdefault(name, Part())
            part.windows += 1
            part.held += verdict.verdict == "hold" and not thin
        if verdict.verdict != "promote":
            name = f"{judged.window.end:%Y-%m-%d %H:%M} UTC"
            self.stopped.append(Stopped(name, verdict.verdict, verdict.codes, verdict.reasons, thin))


def is_thin(verdict: Verdict) -> bool:
    """Whether there was too little to judge by, and nothing else."""
    decisive = [finding.code for finding in verdict.findings if finding.word == verdict.verdict]
    return verdict.verdict == "hold" and all(code.partition("/")[0] in THIN for code in decisive)


class PartsOfTime:
    """Which windows of a log are of its night, and which of a weekend, by the UTC clock."""

    def __init__(self, log: Log) -> None:
        hours = (seconds_of(log.shown["shown_at"]) // 3600 % 24).astype(np.int64)
        counts = np.bincount(hours, minlength=24)
        self._night = frozenset(np.argsort(counts, kind="stable")[:NIGHT_HOURS].tolist())

    def of(self, window: LogWindow) -> list[str]:
        """The parts that the window's middle lies in, where it is no longer than they are."""
        length = window.end - window.start
        middle = window.start + length / 2
        found = [NIGHT] if length <= timedelta(hours=NIGHT_HOURS) and middle.hour in self._night else []
        return [*found, WEEKEND] if length <= timedelta(days=1) and middle.weekday() >= 5 else found
