"""The drill: does this surface's policy catch what it should, and what would it hold that is sound?

    millrace drill --surface feed
    millrace drill --surface feed --log clicks.parquet --items items.parquet --json

A log is replayed in memory, in hourly windows and near its end in windows of ten minutes: clean windows ought to be
promoted. Near the end every fault is planted into one window, at two strengths: those ought to be held or rejected, for
a reason that names the fault.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from flows.drill.faults import FAULTS, Fault, Scene
from flows.drill.in_memory import InMemory, JudgedWindow
from flows.drill.logs import Log, LogTooShort, rows_of, spans
from flows.drill.windows import Folding, LogWindow
from flows.surface import Surface
from monitoring.gate.policy import Word

HOUR, DAY, TEN_MINUTES = timedelta(hours=1), timedelta(days=1), timedelta(minutes=10)

SCENE_BEFORE_END = timedelta(hours=3)
"""The window in which faults are planted ends so long before the log does."""

STALE = 44
"""Windows by which the champion of the fault of new readers is behind its challenger."""

HELD_AT_MOST = 0.02
"""Share of clean windows that a policy may hold."""

Progress = Callable[[str], None]
"""Gets what is done, a line at a time."""


@dataclass(frozen=True)
class Plan:
    """What to drill."""

    tens: timedelta = timedelta(hours=24)
    """How much of the log, its last part, is also replayed in windows of ten minutes."""

    faults: tuple[Fault, ...] = FAULTS
    seed: int = 0
    """Of what the faults draw."""


@dataclass(frozen=True)
class Planted:
    """One fault at one strength, and what the gate said."""

    fault: str
    strength: str
    verdict: Word
    expected: frozenset[Word]
    codes: tuple[str, ...]
    reasons: tuple[str, ...]
    named: bool
    """A reason names the fault."""

    @property
    def caught(self) -> bool:
        return self.verdict in self.expected


@dataclass(frozen=True)
class Stopped:
    """A clean window that was not promoted."""

    window: str
    verdict: Word
    codes: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(eq=False)
class Clean:
    """Clean windows of one cadence."""

    every: str
    windows: int = 0
    stopped: list[Stopped] = field(default_factory=list)

    @property
    def held(self) -> int:
        return sum(stopped.verdict == "hold" for stopped in self.stopped)

    @property
    def rejected(self) -> int:
        return sum(stopped.verdict == "reject" for stopped in self.stopped)

    def add(self, judged: JudgedWindow) -> None:
        self.windows += 1
        if judged.verdict.verdict != "promote":
            name = f"{judged.window.end:%Y-%m-%d %H:%M} UTC"
            verdict = judged.verdict
            self.stopped.append(Stopped(name, verdict.verdict, verdict.codes, verdict.reasons))


@dataclass(eq=False)
class Drilled:
    """What the drill of one log gave."""

    log: str
    planted: list[Planted] = field(default_factory=list)
    hourly: Clean = field(default_factory=lambda: Clean("hour"))
    tens: Clean = field(default_factory=lambda: Clean("ten minutes"))
    updates: list[JudgedWindow] = field(default_factory=list)
    """The hourly ones of clean windows."""

    @property
    def clean(self) -> Sequence[Clean]:
        return [clean for clean in (self.hourly, self.tens) if clean.windows]

    @property
    def passed(self) -> bool:
        """Faults were planted and each is caught and named, none of the clean windows rejected and few held."""
        windows = sum(clean.windows for clean in self.clean)
        held, rejected = (sum(getattr(clean, which) for clean in self.clean) for which in ("held", "rejected"))
        every = all(planted.caught and planted.named for planted in self.planted)
        return bool(self.planted) and every and not rejected and held <= HELD_AT_MOST * windows


def drill(surface: Surface, log: Log, plan: Plan, *, clock: Callable[[], float], progress: Progress) -> Drilled:
    """Drill a surface's policy on a log. ``progress`` gets a line for each thing done. Raises LogTooShort."""
    done = Drilled(log.name)
    every = spans(log, HOUR)
    begins = every[0][0] + DAY
    scene_at = scene_end(log, every)
    if scene_at <= begins + HOUR:
        raise LogTooShort(f"{log.name} spans {len(every)} hours; a drill takes 36 or more, the first day to begin with")
    tens_from = every[-1][1] - plan.tens
    folding, hourly = Folding(surface.features), InMemory(surface)
    tens: InMemory | None = None
    for window, before in _windows(log, folding, scene_at):
        if window.end <= begins:
            hourly.keep(window)
            continue
        if hourly.champion is None:
            if before is not None:
                progress(f"{window.end:%m-%d %H:%M}: no model serves yet into whose window faults could be planted")
            judged = _update(hourly, window, progress)
            continue
        if window.start >= tens_from:
            tens = tens or hourly.fork()
            for piece in window.cut(TEN_MINUTES):
                if (judged := _update(tens, piece, progress)) is not None:
                    done.tens.add(judged)
        if before is not None:
            done.planted += planted(hourly, window, before, log, plan, clock=clock, progress=progress)
        if (judged := _update(hourly, window, progress)) is not None:
            done.hourly.add(judged)
            done.updates.append(judged)
    return done


def scene_end(log: Log, every: Sequence[tuple[datetime, datetime]]) -> datetime:
    """The end of the hour in which faults are planted: the last one with impressions that ends long enough before the
    log does."""
    latest = every[-1][1] - SCENE_BEFORE_END
    return max((end for start, end in every if end <= latest and len(rows_of(log, start, end))), default=every[0][0])


def _windows(log: Log, folding: Folding, scene_at: datetime) -> Iterator[tuple[LogWindow, Folding | None]]:
    """The log's hours with an impression, each folded; with the one that ends at ``scene_at`` the fold before it."""
    for start, end in spans(log, HOUR):
        shown = rows_of(log, start, end)
        if len(shown):
            before = copy.deepcopy(folding) if end == scene_at else None
            yield LogWindow(start, end, folding.fold(shown, end), shown), before


def _update(updates: InMemory, window: LogWindow, progress: Progress) -> JudgedWindow | None:
    """One update that is followed; None where the window waits for more."""
    if updates.waits(window):
        return None
    judged = updates.judge(window)
    updates.follow(judged)
    if judged.verdict.verdict != "promote":
        progress(f"{window.end:%m-%d %H:%M}: {judged.verdict.verdict}: {' '.join(judged.verdict.reasons)}")
    return judged


def planted(
    updates: InMemory,
    window: LogWindow,
    before: Folding,
    log: Log,
    plan: Plan,
    *,
    clock: Callable[[], float],
    progress: Progress,
) -> list[Planted]:
    """Every fault at each strength, planted in the window."""
    earlier = updates.seen[-STALE:]
    champion = updates.champion
    assert champion is not None, "faults are planted into a surface at work"
    scene = Scene(
        window=window,
        before=before,
        champion=champion.model,
        earlier=earlier,
        stale=updates.served_at(earlier[0].start).model,
        names=updates.surface.layout.dense,
        contexts=log.contexts,
        clock=clock,
    )
    found = []
    for fault in plan.faults:
        if not fault.applies(scene):
            progress(f"{fault.name}: the log has not what it takes")
            continue
        for strength, value in fault.strengths.items():
            met = fault.plant(scene, value, np.random.default_rng(plan.seed))
            verdict = updates.judge(window, met).verdict
            text = " ".join(verdict.reasons).lower()
            named = any(name.lower() in text for name in met.words)
            found.append(
                Planted(fault.name, strength, verdict.verdict, fault.expected, verdict.codes, verdict.reasons, named)
            )
            progress(f"{fault.name}, {strength}: {verdict.verdict}: {' '.join(verdict.reasons)}")
    return found
