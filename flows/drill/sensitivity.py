"""How large a fault must be before a check or guardrail speaks, and how often each speaks on windows that are sound.

    measured = measure(surface, log, Plan(), clock=time.perf_counter, progress=print)
    measured.trial               # what the desk draws (``monitoring/gate/sensitivity.py``)

A log is replayed in memory as the drill replays it, its last part in windows as updates of the surface claim them.
Near the end every fault is planted into one window, at rising strengths. What each window needs of every limit is kept,
so that nothing has to be replayed for another limit.
"""

import copy
import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from flows.drill.faults import FAULTS, Fault, Scene
from flows.drill.in_memory import InMemory, JudgedWindow
from flows.drill.life import DAY, HOUR, Life, Trained, life_of
from flows.drill.logs import MICROSECOND, Log, LogTooShort, rows_of
from flows.drill.windows import Folding, LogWindow
from flows.surface import Surface
from monitoring.evaluation.history import CHECK
from monitoring.gate.memory import needed
from monitoring.gate.sensitivity import PastNeeds, PlantedFault, Strength, Trial
from monitoring.sentences import percent
from monitoring.statistics.sequential import Moments

RUNGS = 5
"""Strengths at which a fault is planted."""

BEFORE_END = timedelta(hours=3)
"""The window in which faults are planted ends so long before the log does, at most a tenth of it."""

STALE = 12
"""Windows by which the champion of the fault of new readers is behind its challenger: fewer than in a drill, since each
is trained on again and again."""

Progress = Callable[[str, float], None]
"""Gets what is done, and how much of all as a share."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    windows: int = 144
    """At most so many windows of the surface's own length, the log's last; what is before goes by the hour."""

    faults: tuple[Fault, ...] = FAULTS
    seed: int = 0
    """Of what the faults draw."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What was measured."""

    life: Life
    trained: Trained
    trial: Trial
    cadence: timedelta
    """Of the windows of the trial."""


@dataclass(eq=False)
class _Replayed:
    """What the updates came to, as they are made."""

    begin: datetime
    windows: list[PastNeeds] = field(default_factory=list)
    last_start: datetime | None = None
    first_model: timedelta | None = None
    held_before: int = 0
    gains: Moments = field(default_factory=Moments)
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, surface: Surface, judged: JudgedWindow, seconds: float, *, counts: bool) -> None:
        evidence, verdict = judged.evidence, judged.verdict.verdict
        if self.first_model is None and verdict == "promote":
            self.first_model = judged.window.end - self.begin
        self.held_before += self.first_model is None
        if evidence.process_after is not None:
            self.gains = evidence.process_after.moments
        if evidence.cost is not None and evidence.cost.examples_per_s:
            self.rates.append(evidence.cost.examples_per_s)
        self.seconds.append(seconds)
        if counts:
            start = judged.checks.window.start
            if start == self.last_start:  # it was held, and this one holds it
                self.windows.pop()
            self.last_start = start
            state = {"promote": "promoted", "hold": "held", "reject": "rejected"}[verdict]
            self.windows.append(PastNeeds(judged.window.end, needed(surface.policy, evidence), state=state))

    @property
    def trained(self) -> Trained:
        rate = statistics.median(self.rates) if self.rates else None
        seconds = statistics.median(self.seconds) if self.seconds else None
        return Trained(self.first_model, self.held_before, self.gains, rate, seconds)


def measure(surface: Surface, log: Log, plan: Plan, *, clock: Callable[[], float], progress: Progress) -> Sensitivity:
    """Measure both ways in which this surface's limits are wrong on a log. Raises LogTooShort."""
    life = life_of(surface, log)
    if not life.updates:
        raise LogTooShort(
            f"{log.name} has {life.impressions:,} impressions, and an update of {surface.name} waits for"
            f" fewest={surface.fewest:,}: name a longer log, or a smaller fewest"
        )
    own = _whole_ticks(life.cadence, surface)
    begin = log.shown["shown_at"][0]
    counts_from, every = windows_of(log, own, plan.windows)
    scene_at = _scene_end(log, every, surface.fewest)
    folding, updates, done = Folding(surface.features), InMemory(surface), _Replayed(begin)
    scene, faults = dict[str, float](), list[PlantedFault]()
    for place, (start, end) in enumerate(every):
        shown = rows_of(log, start, end)
        progress("replay", place / len(every))
        if not len(shown):
            continue
        before = copy.deepcopy(folding) if end == scene_at else None
        window = LogWindow(start, end, folding.fold(shown, end), shown)
        if updates.waits(window):
            continue
        began = clock()
        judged = updates.judge(window)
        done.add(surface, judged, clock() - began, counts=start >= counts_from and updates.champion is not None)
        if before is not None and updates.champion is not None:
            scene = needed(surface.policy, judged.evidence)
            faults = list(_planted(updates, window, before, log, plan, clock=clock, progress=progress))
        updates.follow(judged)
    trial = Trial(log.name, tuple(done.windows), scene, tuple(faults))
    return Sensitivity(life, done.trained, trial, own)


def windows_of(log: Log, own: timedelta, most: int) -> tuple[datetime, list[tuple[datetime, datetime]]]:
    """From when on windows count, and the spans ``(start, end]`` of a log.

    The last `most` are of the surface's own length, and begin a day into the log or, where it is shorter than two, in
    its middle. What is before goes by the hour, or by the surface's own length where that is longer.
    """
    first, last = log.shown["shown_at"][0], log.shown["shown_at"][-1]
    counts_from = max(first + min(DAY, (last - first) / 2), last - most * own)
    start, spans = _on_the_hour(first) - MICROSECOND, list[tuple[datetime, datetime]]()
    while start < last:
        end = start + (own if start + HOUR > counts_from else max(own, HOUR))
        spans.append((start, end))
        start = end
    return counts_from, spans


def ladder(fault: Fault) -> dict[str, float]:
    """Rising strengths of a fault, from well below the weaker of its two to the stronger, in words."""
    if fault.ladder is not None:
        values = fault.ladder
    else:
        weak, strong = min(fault.strengths.values()), max(fault.strengths.values())
        values = (weak / 4, weak / 2, weak, (weak * strong) ** 0.5, strong)
    return {strength_in_words(value, fault.strengths): value for value in values}


def strength_in_words(value: float, named: Mapping[str, float]) -> str:
    """As those that have a name: "2 % of the requests" for one gives "0.5 % of the requests" for another."""
    for words, other in named.items():
        if value == other:
            return words
    for words, other in named.items():
        for text, new in ((percent(other), percent(value)), (f"{other:g}", f"{value:.2g}")):
            if re.search(rf"(?<![\d.]){re.escape(text)}(?![\d.])", words):
                return words.replace(text, new)
    weakest = min(named, key=lambda words: named[words])
    found, places = re.subn(r"\b(all|half|a third|a quarter)\b", percent(value), weakest)
    return found if places else f"{value:.2g} ({weakest}: {named[weakest]:g})"


def _planted(
    updates: InMemory,
    window: LogWindow,
    folding: Folding,
    log: Log,
    plan: Plan,
    *,
    clock: Callable[[], float],
    progress: Progress,
) -> Iterator[PlantedFault]:
    """Every fault at each strength, planted in the window."""
    earlier = updates.seen[-STALE:]
    champion = updates.champion
    assert champion is not None, "faults are planted into a surface at work"
    scene = Scene(
        window=window,
        before=folding,
        champion=champion.model,
        earlier=earlier,
        stale=updates.served_at(earlier[0].start).model,
        names=updates.surface.layout.dense,
        contexts=log.contexts,
        clock=clock,
    )
    for place, fault in enumerate(plan.faults):
        progress("plant faults", place / len(plan.faults))
        if not fault.applies(scene):
            continue
        steps, before = list[Strength](), None
        for words, value in ladder(fault).items():
            met = fault.plant(scene, value, np.random.default_rng(plan.seed))
            needs = needed(updates.surface.policy, updates.judge(window, met).evidence)
            if met.window is scene.window:  # what its data checks say is nothing of a fault of training
                needs = {code: need for code, need in needs.items() if not code.startswith(CHECK)}
            steps.append(Strength(words, needs))
            if met.champion is not None and before is None:  # another champion moves much by itself
                before = needs
        yield PlantedFault(fault.name, tuple(steps), before)


def _scene_end(log: Log, every: list[tuple[datetime, datetime]], fewest: int) -> datetime:
    """The end of the window in which faults are planted: the last one with impressions enough that ends some time
    before the log does, so that what came late to it is known; else the fullest."""
    first, last = every[0][0], every[-1][1]
    latest = last - min(BEFORE_END, (last - first) / 10)
    sized = [(len(rows_of(log, start, end)), end) for start, end in every if end <= latest]
    enough = [end for count, end in sized if count >= fewest]
    return enough[-1] if enough else max(sized or [(0, last)])[1]


def _whole_ticks(length: timedelta, surface: Surface) -> timedelta:
    """As many whole ticks of the fold, of which a window must be."""
    tick = timedelta(seconds=surface.features.tick)
    return max(round(length / tick), 1) * tick


def _on_the_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
