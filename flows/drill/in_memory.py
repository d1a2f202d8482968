"""The updates of one surface over a log in memory: the story of ``flows/update.py`` without what it does it in.

    updates = InMemory(surface)
    done = updates.judge(window)
    updates.follow(done)

Training, checks, evaluation, gate and what is recalled of the past are the very functions of an update. So is what
becomes of a window that is not promoted: held, it is trained on together with the next; rejected, it is passed over.
There is no database, registry or report.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flows.drill.faults import Met
from flows.drill.logs import MICROSECOND
from flows.drill.windows import LogWindow, joined
from flows.steps.history import EARLIER
from flows.steps.publish import STATE_OF, trained_to
from flows.steps.train import Fitted, Start, fit
from flows.surface import Surface
from models.frames import Frame, parted
from models.learning.model import Model
from models.retrieval.artifact import VersionTowers
from monitoring.evaluation.evaluate import Trained, evaluate
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.history import DAY, CurrentUpdate, History, InService, PastUpdate, Reference, recall
from monitoring.evaluation.reranking import propensities_of
from monitoring.evaluation.season import LOOKED_BACK, PERIODS_BACK, Span, season, trained_slices
from monitoring.evaluation.season import joined as joined_frames
from monitoring.evaluation.skew import Skew
from monitoring.evaluation.window import Champion, Checks, Window, check
from monitoring.gate.decide import Verdict, decide
from monitoring.gate.hypotheses import PROVEN_BASELINE
from monitoring.gate.memory import remember
from monitoring.names import GATE

DEFAULT_MET = Met(words=())

PERSON = "a person"
"""Who approves."""


@dataclass(frozen=True, eq=False)
class TrainedVersion:
    """A model that was, or is, in service."""

    version: str
    trained_to: datetime
    """The newest impression of its training part."""

    model: Model
    towers: VersionTowers | None
    """What it retrieves with."""

    @property
    def as_champion(self) -> Champion:
        return Champion(self.version, self.model)


@dataclass(frozen=True, eq=False)
class JudgedWindow:
    """What an update of a window came to."""

    window: LogWindow
    checks: Checks
    fitted: Fitted | None
    evidence: Evidence
    verdict: Verdict

    @property
    def trained(self) -> Trained | None:
        return None if self.fitted is None else self.fitted.trained


class InMemory:
    """A surface's champions and all that its next update needs to know of the past."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        self.line: list[TrainedVersion] = []
        """Champions in order, the present one last."""
        self.seen: list[LogWindow] = []
        """Training parts of promoted windows, of the days that updates look back on."""
        self._rejected: list[LogWindow] = []
        """Those of rejected ones, which nothing is trained on."""
        self._past: list[PastUpdate] = []
        self._left: LogWindow | None = None
        self._unseen = 0
        """Impressions left that no update has looked at."""
        self._longest = timedelta(0)
        """Length of the longest window promoted."""
        self._trained_to: datetime | None = None
        self._learned: LogWindow | None = None
        """What the champion was trained on by its own update."""

    @property
    def champion(self) -> TrainedVersion | None:
        """In service; None before the first."""
        return self.line[-1] if self.line else None

    def fork(self) -> "InMemory":
        """The same updates so far, to go on by themselves."""
        other = copy(self)
        other.line, other.seen = list(self.line), list(self.seen)
        other._rejected, other._past = list(self._rejected), list(self._past)
        return other

    def served_at(self, moment: datetime) -> TrainedVersion:
        """The champion of a while ago: the last that was trained up to ``moment``, or the first."""
        known = [version for version in self.line if version.trained_to <= moment]
        return (known or self.line[:1])[-1]

    def waits(self, window: LogWindow) -> bool:
        """Is there too little for an update? Then it is kept for the next."""
        if self._unseen + len(window) >= self.surface.fewest:
            return False
        self.keep(window)
        return True

    def keep(self, window: LogWindow) -> None:
        """Leave a window to the next update."""
        self._left = self._with_left(window)
        self._unseen += len(window)

    def judge(self, window: LogWindow, met: Met = DEFAULT_MET) -> JudgedWindow:
        """One update of the window and of what is left from before it; a fault's ``met`` stands for the window.

        Changes nothing: ``follow`` does.
        """
        window = met.window or window
        whole = self._with_left(window)
        claimed = self._claimed(whole)
        champion = self._met_champion(met)
        history = self.history(claimed)
        checks = check(claimed, champion, history)
        fitted = self._fit(window, claimed, champion, met) if checks.sound else None
        evidence = evaluate(checks, champion, None if fitted is None else fitted.trained, history)
        return JudgedWindow(whole, checks, fitted, evidence, decide(self.surface.policy, evidence))

    def follow(self, judged: JudgedWindow, *, approved: bool = False) -> None:
        """Let the verdict stand: move the champion, or leave it; what was not trained on is left for the next.

        `approved`: a person promotes what the gate held.
        """
        state, claimed, window = STATE_OF[judged.verdict.verdict], judged.checks.window, judged.window
        assert not approved or state == "held", "what is approved was held"
        state = "promoted" if approved else state
        registered = 1 + sum(update.version is not None for update in self._past)
        version = None if state == "rejected" else str(registered)
        remembered = remember(self.surface.policy, judged.checks, judged.evidence)
        promoted_by = (PERSON if approved else GATE) if state == "promoted" else None
        assert state in ("promoted", "held", "rejected")
        self._past = [*self._past, PastUpdate(remembered, state, version, promoted_by, claimed.as_of)]
        self._unseen = 0
        if state == "held":
            self._left = window
            return
        part, rest = window.within(window.start, claimed.split), window.within(claimed.split, window.end)
        self._left = rest if len(rest) else None
        self._trained_to = claimed.split
        if state == "rejected":
            self._rejected = [*self._rejected, part]
            return
        assert judged.fitted is not None
        assert version is not None
        self.line.append(
            TrainedVersion(version, trained_to(claimed), judged.fitted.trained.model, judged.fitted.towers)
        )
        self._learned = part
        self._longest = max(self._longest, window.end - window.start)
        oldest = window.start - max(LOOKED_BACK, PERIODS_BACK * self._longest, self.surface.rehearse)
        self.seen = [*(seen for seen in self.seen if seen.end > oldest), part]
        self._rejected = [rejected for rejected in self._rejected if rejected.end > oldest]

    def _with_left(self, window: LogWindow) -> LogWindow:
        return window if self._left is None else joined([self._left, window])

    def _claimed(self, window: LogWindow) -> Window:
        """As the ledger claims it, and Feast and the log give its frame."""
        surface, shown = self.surface, window.frame.table["shown_at"]
        first, end = shown.min(), shown.max()
        assert isinstance(first, datetime)
        assert isinstance(end, datetime)
        start = self._trained_to or first - MICROSECOND
        split = self._split(shown, end)
        return Window(
            update_id=len(self._past) + 1,
            start=start,
            split=split,
            end=end,
            as_of=window.end + surface.attribution,
            frame=(frame := parted(window.frame, split.timestamp())),
            terms=surface.terms,
            lateness_s=self._lateness(window, start, end),
            propensity=propensities_of(
                frame.table["impression_id"], window.shown.select("impression_id", "propensity")
            ),
            skew=Skew(),
        )

    def _split(self, shown: pl.Series, end: datetime) -> datetime:
        """Where the training part ends: with judging by the tail as the ledger cuts a window."""
        if self.surface.judging == "progressive":
            return end
        place = max(int(np.ceil((1 - self.surface.judge_share) * len(shown))) - 1, 0)
        split = shown.sort()[place]
        assert isinstance(split, datetime)
        return max(split, end - self.surface.judge_at_most)

    def _lateness(self, window: LogWindow, start: datetime, end: datetime) -> NDArray[np.float64]:
        """Of the window's feedback, some of it on impressions before it: each is known when it happened."""
        clicks = [part.shown["clicked_at"].is_between(start, end, closed="right") for part in (*self._before(), window)]
        return np.zeros(sum(int(known.sum()) for known in clicks))

    def _before(self) -> list[LogWindow]:
        """All that the line was trained on or passed over, in order."""
        return sorted([*self.seen, *self._rejected], key=lambda part: part.end)

    def _met_champion(self, met: Met) -> Champion | None:
        if met.champion is not None:
            assert self.champion is not None, "a fault is planted into a surface at work"
            return Champion(self.champion.version, met.champion)
        return None if self.champion is None else self.champion.as_champion

    def _fit(self, window: LogWindow, claimed: Window, champion: Champion | None, met: Met) -> Fitted:
        """A challenger of the window; a fault may have it start from elsewhere, or train on something else."""
        surface, start = self.surface, champion
        if met.start is not None and champion is not None:
            surface, start = replace(surface, design=met.start.design), Champion(champion.version, met.start)
        if met.training is not None:
            other = replace(window, frame=replace(window.frame, examples=met.training))
            claimed = self._claimed(self._with_left(other))
        towers = None if self.champion is None else self.champion.towers
        return fit(surface, claimed, Start(start, towers, lambda: self._rehearsal(claimed.start)))

    def _rehearsal(self, end: datetime) -> Frame:
        """What a model of another shape is trained on before the window."""
        return joined([part.within(end - self.surface.rehearse, end) for part in self.seen]).frame

    def history(self, claimed: Window) -> History:
        """What an update needs to know of the past."""
        champion = self.champion
        current = CurrentUpdate(
            claimed.update_id,
            None if champion is None else InService(champion.version),
            claimed.start,
            claimed.end,
            claimed.judged_from,
        )
        recalled = recall(self._past, current)
        if champion is None:
            return History(recalled)
        return History(
            recalled,
            self._references(recalled.baseline, claimed.end),
            self._earlier(claimed),
            self._trained_on(claimed),
            self._season(claimed),
        )

    def _trained_on(self, claimed: Window) -> Frame | None:
        """The latest that the champion was trained on."""
        shown, part = claimed.frame.table["shown_at"], self._learned
        assert part is not None, "there is a champion"
        return _frame_of([part], trained_slices((part.start, part.end), shown)) if len(shown) else None

    def _season(self, claimed: Window) -> Frame | None:
        """The same hours of earlier days, of what was not rejected."""
        shown = claimed.frame.table["shown_at"]
        days = [_frame_of(self.seen, spans) for spans in season(shown)] if len(shown) else []
        return joined_frames([day for day in days if day is not None])

    def _references(self, baseline: str | None, end: datetime) -> tuple[Reference, ...]:
        found, seen = [], {self.line[-1].version}
        named = [
            (name, next((before for before in reversed(self.line) if before.trained_to <= end - age), None))
            for name, age in (("a day ago", DAY), ("a week ago", 7 * DAY))
        ]
        named.append((PROVEN_BASELINE, next((v for v in self.line if v.version == baseline), None)))
        for name, version in named:
            if version is not None and version.version not in seen:
                seen.add(version.version)
                found.append(Reference(name, version.version, version.model))
        return tuple(found)

    def _earlier(self, claimed: Window) -> Frame | None:
        """The last hours before the day in which the window begins."""
        midnight = claimed.start.replace(hour=0, minute=0, second=0, microsecond=0)
        start = midnight - EARLIER
        near = [part for part in self._before() if part.start < midnight and part.end > start]
        parts = [part for part in (part.within(start, midnight) for part in near) if len(part)]
        return joined(parts).frame if parts else None


def _frame_of(parts: Sequence[LogWindow], spans: Sequence[Span]) -> Frame | None:
    """The impressions of the spans, of some windows; None where there are none."""
    found = [part.within(*span) for span in spans for part in parts if _overlap(part, span)]
    found = [part for part in found if len(part)]
    return joined(found).frame if found else None


def _overlap(part: LogWindow, span: Span) -> bool:
    return part.start < span[1] and part.end > span[0]
