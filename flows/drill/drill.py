"""The drill: does this surface's policy catch what it should, and what would it hold that is sound?

    millrace drill --surface feed
    millrace drill --surface feed --log clicks.parquet --items items.parquet --json
    millrace drill --surface movies --log ratings.csv --items movies.csv --every 90d

A log is replayed in memory, window by window: clean windows ought to be promoted. Near its end they are also cut to the
surface's own ``every``, where that is shorter. Into one late window (:func:`flows.drill.cadence.scene_of`) every fault
is planted that the surface has the columns for, at two strengths: those ought to be held or rejected, for a reason that
names the fault. What cannot be planted is reported with the reason.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from flows.drill.cadence import DAY, Cadence, Span, cadence_of, scene_of, schedule, words_of
from flows.drill.clean import Clean, PartsOfTime, is_thin
from flows.drill.faults import FAULTS, Fault, Met, Scene, Story
from flows.drill.in_memory import InMemory, JudgedWindow
from flows.drill.logs import Log, LogTooShort, rows_of
from flows.drill.texts import texts_of
from flows.drill.windows import Folding, LogWindow, joined
from flows.surface import Surface
from monitoring.gate.decide import Verdict
from monitoring.gate.memory import needed
from monitoring.gate.policy import Word

RUN_UP = 2 * DAY
"""What a fault that comes slowly takes, the scene's window its last."""

FEWEST_UPDATES = 8
"""Of a log after its warm-up, for a drill."""

HELD_AT_MOST = 0.02
"""Share of clean windows that a policy may hold, but those held for thinness."""

Progress = Callable[[str], None]
"""Gets what is done, a line at a time."""


@dataclass(frozen=True)
class Plan:
    """What to drill."""

    cadence: Cadence | None = None
    """How the log is cut; None: as :func:`flows.drill.cadence.cadence_of` says."""

    own_pace: timedelta = timedelta(hours=24)
    """How much of the log, its last part, is also replayed in windows of the surface's own ``every``, if shorter."""

    faults: tuple[Fault | Story, ...] = FAULTS
    seed: int = 0
    """Of what the faults draw."""

    stale: int = 44
    """Windows by which the champion of the fault of new readers is behind its challenger."""


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
    """A reason names the fault; of what is sound there is nothing to name."""

    needs: Mapping[str, float] = field(default_factory=dict)
    """By the code of a finding: the least limit with which the window passes."""

    of_window: bool = True
    """The window is another with the fault; else what is wrong is the training alone."""

    other_champion: bool = False
    """It was judged against another champion than is in service."""

    @property
    def caught(self) -> bool:
        """The verdict is right: of what is sound, that it was promoted."""
        return self.verdict in self.expected

    @property
    def sound(self) -> bool:
        return "promote" in self.expected


@dataclass(frozen=True)
class NotPlanted:
    """A fault that the surface or the log has not what it takes for."""

    fault: str
    strength: str | None
    """None: at any."""

    reason: str
    """As a sentence."""


@dataclass(eq=False)
class Drilled:
    """What the drill of one log gave."""

    log: str
    planted: list[Planted] = field(default_factory=list)
    not_planted: list[NotPlanted] = field(default_factory=list)
    clean: list[Clean] = field(default_factory=list)
    """Of the drill's cadence, then of the surface's own where that was replayed."""

    updates: list[JudgedWindow] = field(default_factory=list)
    """Those of clean windows, of the drill's cadence."""

    scene: JudgedWindow | None = None
    """That of the window into which faults were planted, without one; None where no model served yet."""

    first_model: timedelta | None = None
    """From the log's beginning to the end of the first window whose model was promoted; None: none was."""

    before_it: int = 0
    """Updates before that."""

    seconds: list[float] = field(default_factory=list)
    """Of each update, but for reading and publishing."""

    @property
    def passed(self) -> bool:
        """Faults were planted and each is caught and named, what is sound passes, none of the clean windows is rejected
        and few are held for more than thinness."""
        windows = sum(clean.windows for clean in self.clean)
        held = sum(clean.held - clean.thin for clean in self.clean)
        every = all(planted.caught and planted.named for planted in self.planted)
        rejected = any(clean.rejected for clean in self.clean)
        return bool(self.planted) and every and not rejected and held <= HELD_AT_MOST * windows


@dataclass(eq=False)
class _RunUp:
    """Where a fault that comes slowly begins: the updates and the fold as they stood, and the windows since."""

    updates: InMemory
    folding: Folding
    windows: list[LogWindow] = field(default_factory=list)


def drill(surface: Surface, log: Log, plan: Plan, *, clock: Callable[[], float], progress: Progress) -> Drilled:
    """Drill a surface's policy on a log. ``progress`` gets a line for each thing done. Raises LogTooShort."""
    cadence = plan.cadence or cadence_of(surface, log)
    warm_up, *spans = schedule(log, surface, cadence)
    if len(spans) < FEWEST_UPDATES:
        raise LogTooShort(
            f"{log.name} has enough for {len(spans)} updates after its warm-up, one every {words_of(cadence.every)};"
            f" a drill takes {FEWEST_UPDATES} or more"
        )
    scene_at = scene_of(spans, log, surface.attribution)
    folding = Folding(surface.features, texts_of(log, surface))
    updates, parts = InMemory(surface), PartsOfTime(log)
    pace = _OwnPace(surface.every, log.shown["shown_at"][-1] - plan.own_pace, progress, parts)
    done, run_up = Drilled(log.name, clean=[Clean(words_of(cadence.every))]), None
    if warm_up.impressions:
        updates.keep(_folded(log, folding, warm_up, cadence.step))
    for place, span in enumerate(spans):
        if run_up is None and updates.champion is not None and span.start >= spans[scene_at].end - RUN_UP:
            run_up = _RunUp(updates.fork(), copy.deepcopy(folding))
        before = copy.deepcopy(folding) if place == scene_at else None
        window = _folded(log, folding, span, cadence.step)
        if surface.every < cadence.every and updates.champion is not None:
            pace.replay(window, updates)
        began = clock()
        judged = updates.judge(window)
        done.seconds.append(clock() - began)
        if before is not None:
            scene = _scene(updates, window, judged.verdict, before, run_up, plan.stale, clock)
            if scene is None:
                reason = f"No model serves yet: {judged.verdict.reasons[0]}"
                done.not_planted += [NotPlanted(fault.name, None, reason) for fault in plan.faults]
            else:
                done.scene = judged
                _plant(scene, updates, run_up, plan, done, progress)
        elif run_up is not None and place < scene_at:
            run_up.windows.append(window)
        first = updates.champion is None
        _follow(updates, judged, progress)
        if first and updates.champion is not None:
            done.first_model = window.end - warm_up.start
        elif first:
            done.before_it += 1
        else:
            done.clean[0].add(judged, parts.of(window))
            done.updates.append(judged)
    done.clean += [pace.clean] if pace.clean.windows else []
    return done


def _folded(log: Log, folding: Folding, span: Span, step: timedelta) -> LogWindow:
    """The window of a span, folded in steps; those without an impression are passed over."""
    pieces, start = list[LogWindow](), span.start
    while start < span.end:
        end = min(start + step, span.end)
        shown = rows_of(log, start, end)
        if len(shown):
            pieces.append(LogWindow(start, end, folding.fold(shown, end), shown))
        start = end
    return replace(joined(pieces), start=span.start, end=span.end)


def _follow(updates: InMemory, judged: JudgedWindow, progress: Progress) -> None:
    """What is held for thinness alone is approved: a person would find nothing in it, and the windows after it would be
    of all that was left, where a fault of one drowns."""
    updates.follow(judged, approved=updates.champion is not None and is_thin(judged.verdict))
    if judged.verdict.verdict != "promote":
        progress(f"{_at(judged.window.end)}: {judged.verdict.verdict}: {' '.join(judged.verdict.reasons)}")


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


class _OwnPace:
    """The last part of the log in windows of the surface's own length, as updates of their own."""

    def __init__(self, every: timedelta, start: datetime, progress: Progress, parts: PartsOfTime) -> None:
        self.clean = Clean(words_of(every))
        self._every, self._start, self._progress, self._parts = every, start, progress, parts
        self._updates: InMemory | None = None

    def replay(self, window: LogWindow, updates: InMemory) -> None:
        """The window in pieces, where it is late enough; the first begins where the drill's own updates stand."""
        if window.start < self._start:
            return
        self._updates = self._updates or updates.fork()
        for piece in window.cut(self._every):
            if not self._updates.waits(piece):
                judged = self._updates.judge(piece)
                _follow(self._updates, judged, self._progress)
                self.clean.add(judged, self._parts.of(piece))


def _scene(
    updates: InMemory,
    window: LogWindow,
    verdict: Verdict,
    before: Folding,
    run_up: _RunUp | None,
    stale: int,
    clock: Callable[[], float],
) -> Scene | None:
    """What faults are planted in, with the verdict on the window as it is; None where no model serves yet."""
    champion, surface = updates.champion, updates.surface
    if champion is None:
        return None
    earlier = updates.seen[-stale:]
    return Scene(
        window=window,
        before=before,
        champion=champion.model,
        earlier=earlier,
        stale=updates.served_at(earlier[0].start).model,
        names=surface.layout.dense,
        features=surface.features,
        clock=clock,
        fewest=surface.fewest,
        held=None if verdict.verdict == "promote" else verdict.reasons[0],
        run_up=() if run_up is None else run_up.windows,
        before_run_up=None if run_up is None else run_up.folding,
    )


def _plant(
    scene: Scene, updates: InMemory, run_up: _RunUp | None, plan: Plan, done: Drilled, progress: Progress
) -> None:
    """Every fault at each strength, planted in the scene or reported as one that cannot be."""
    for fault in plan.faults:
        reasons = [fault.lacks(scene, value) for value in fault.strengths.values()]
        if reasons[0] is not None and len(set(reasons)) == 1:
            done.not_planted.append(NotPlanted(fault.name, None, reasons[0]))
            progress(f"{fault.name}: not planted: {reasons[0]}")
            continue
        for (strength, value), reason in zip(fault.strengths.items(), reasons, strict=True):
            if reason is not None:
                done.not_planted.append(NotPlanted(fault.name, strength, reason))
                progress(f"{fault.name}, {strength}: not planted: {reason}")
                continue
            met, judged = _judged(fault, value, scene, updates, run_up, plan.seed)
            verdict = judged.verdict
            done.planted.append(
                Planted(
                    fault.name,
                    strength,
                    verdict.verdict,
                    fault.expected,
                    verdict.codes,
                    verdict.reasons,
                    names(verdict, met),
                    needs=needed(updates.surface.policy, judged.evidence),
                    of_window=met.window is not scene.window,
                    other_champion=met.champion is not None,
                )
            )
            progress(f"{fault.name}, {strength}: {verdict.verdict}: {' '.join(verdict.reasons)}")


def _judged(
    fault: Fault | Story, value: float, scene: Scene, updates: InMemory, run_up: _RunUp | None, seed: int
) -> tuple[Met, JudgedWindow]:
    """What the update met and came to: of a story the first whose verdict is right and names it, or else the last."""
    random = np.random.default_rng(seed)
    if isinstance(fault, Fault):
        met = fault.plant(scene, value, random)
        return met, updates.judge(scene.window, met)
    assert run_up is not None, "it was looked whether there is one"
    going, found = run_up.updates.fork(), None
    for met in fault.tell(scene, value, random):
        assert met.window is not None, "a story has windows"
        judged = going.judge(met.window, met)
        going.follow(judged, approved=is_thin(judged.verdict))
        found = met, judged
        if judged.verdict.verdict in fault.expected and names(judged.verdict, met):
            break
    assert found is not None, "a story has a window at least"
    return found


def names(verdict: Verdict, met: Met) -> bool:
    """Whether a reason says one of the words, as words of their own: ``os`` is none of "most"."""
    text = " ".join(verdict.reasons).lower()
    return not met.words or any(re.search(rf"(?<!\w){re.escape(word.lower())}s?(?!\w)", text) for word in met.words)
