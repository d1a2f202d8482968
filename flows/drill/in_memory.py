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
from datetime import UTC, datetime

import numpy as np
import polars as pl

from flows.drill.faults import Met
from flows.drill.windows import MICROSECOND, LogWindow, between
from flows.steps.history import DRIFT_SPAN, EARLIER
from flows.steps.publish import STATE_OF
from flows.steps.train import Start, fit
from flows.surface import Surface
from models.examples import apart, concat
from models.frames import Frame, parted
from models.learning.model import Model
from monitoring.evaluation.evaluate import Trained, evaluate
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.history import DAY, Asking, History, InService, PastUpdate, Reference, State, recall
from monitoring.evaluation.skew import Skew
from monitoring.evaluation.window import Champion, Checks, Window, check
from monitoring.gate.decide import Verdict, decide
from monitoring.gate.hypotheses import PROVEN_BASELINE
from monitoring.gate.memory import remember
from monitoring.names import GATE

DEFAULT_MET = Met(words=())


@dataclass(frozen=True, eq=False)
class Version:
    """A model that was, or is, in service."""

    version: str
    trained_to: datetime
    """The newest impression of its training part."""

    model: Model
    last_part: Frame
    """The latest part of what it was trained on."""

    @property
    def as_champion(self) -> Champion:
        return Champion(self.version, self.model)


@dataclass(frozen=True, eq=False)
class Judged:
    """What an update of a window came to."""

    window: LogWindow
    checks: Checks
    trained: Trained | None
    evidence: Evidence
    verdict: Verdict


class InMemory:
    """A surface's champions and all that its next update needs to know of the past."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        self.line: list[Version] = []
        """Champions in order, the present one last."""
        self.seen: list[LogWindow] = []
        """Windows of the days that updates look back on."""
        self._past: list[PastUpdate] = []
        self._first_part: Frame | None = None
        self._left: LogWindow | None = None
        self._trained_to: datetime | None = None

    @property
    def champion(self) -> Version | None:
        """In service; None before the first."""
        return self.line[-1] if self.line else None

    def fork(self) -> "InMemory":
        """The same updates so far, to go on by themselves."""
        other = copy(self)
        other.line, other.seen, other._past = list(self.line), list(self.seen), list(self._past)
        return other

    def served_at(self, moment: datetime) -> Version:
        """The champion of a while ago: the last that was trained up to ``moment``, or the first."""
        known = [version for version in self.line if version.trained_to <= moment]
        return (known or self.line[:1])[-1]

    def waits(self, window: LogWindow) -> bool:
        """Is there too little for an update? Then it is kept for the next."""
        left = 0 if self._left is None else len(self._left)
        if left + len(window) >= self.surface.fewest:
            return False
        self.keep(window)
        return True

    def keep(self, window: LogWindow) -> None:
        """Leave a window to the next update."""
        self._left = window if self._left is None else joined([self._left, window])

    def judge(self, window: LogWindow, met: Met = DEFAULT_MET) -> Judged:
        """One update of the window and of what is left from before it; a fault's ``met`` stands for the window.

        Changes nothing: ``follow`` does.
        """
        window = met.window or window
        if self._left is not None:
            window = joined([self._left, window])
        claimed = self._claimed(window)
        champion = self._met_champion(met)
        history = self._history(claimed)
        checks = check(claimed, champion, history)
        trained = self._train(claimed, champion, met) if checks.sound else None
        evidence = evaluate(checks, champion, trained, history)
        return Judged(window, checks, trained, evidence, decide(self.surface.policy, evidence))

    def follow(self, judged: Judged) -> None:
        """Let the verdict stand: move the champion, or leave it; what was not trained on is left for the next."""
        state: State = STATE_OF[judged.verdict.verdict]  # type: ignore[assignment]  # a verdict leads to these three
        claimed, window = judged.checks.window, judged.window
        version = str(len(self.line) + 1)
        remembered = remember(self.surface.policy, judged.checks, judged.evidence)
        promoted_by = GATE if state == "promoted" else None
        self._past = [
            *self._past,
            PastUpdate(remembered, state, None if state == "rejected" else version, promoted_by, claimed.as_of),
        ]
        if state == "held":
            self._left = window
            return
        self._left = cut(window, slice(claimed.trained_to, len(window))) if claimed.trained_to < len(window) else None
        self._trained_to = claimed.split
        if state == "promoted":
            assert judged.trained is not None
            part = claimed.training_part
            newest = datetime.fromtimestamp(float(part.examples.time.max()), UTC)
            last_part = part[between(part.examples.time, claimed.split - DRIFT_SPAN, claimed.split)]
            self.line.append(Version(version, newest, judged.trained.model, last_part))
            self._first_part = self._first_part or last_part
            oldest = window.end - max(2 * DAY, self.surface.rehearse)
            self.seen = [*(seen for seen in self.seen if seen.end > oldest), window]

    def _claimed(self, window: LogWindow) -> Window:
        """As the ledger claims it, and Feast and the log give its frame."""
        surface, shown = self.surface, window.frame.table["shown_at"]
        first, end = shown.min(), shown.max()
        assert isinstance(first, datetime)
        assert isinstance(end, datetime)
        start = self._trained_to or first - MICROSECOND
        split = self._split(shown, end)
        clicked = window.shown["clicked_at"].drop_nulls()
        return Window(
            update_id=len(self._past) + 1,
            start=start,
            split=split,
            end=end,
            as_of=window.end + surface.attribution,
            frame=parted(window.frame, split.timestamp()),
            terms=surface.terms,
            lateness_s=np.zeros(int(clicked.is_between(start, end, closed="right").sum())),
            propensity=np.full(len(window), np.nan),
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

    def _met_champion(self, met: Met) -> Champion | None:
        if met.champion is not None:
            assert self.champion is not None, "a fault is planted into a surface at work"
            return Champion(self.champion.version, met.champion)
        return None if self.champion is None else self.champion.as_champion

    def _train(self, claimed: Window, champion: Champion | None, met: Met) -> Trained:
        """A challenger of the window; a fault may have it start from elsewhere, or train on something else."""
        surface, start = self.surface, champion
        if met.start is not None and champion is not None:
            surface, start = replace(surface, design=met.start.design), Champion(champion.version, met.start)
        if met.training is not None:
            rows = met.training if self._left is None else concat(apart([self._left.frame.examples, met.training]))
            claimed = replace(claimed, frame=replace(claimed.frame, examples=rows))
        return fit(surface, claimed, Start(start, None, self._earlier_days)).trained

    def _earlier_days(self) -> Frame:
        """What was seen before the window, for a model of another shape."""
        return joined(self.seen).frame

    def _history(self, claimed: Window) -> History:
        """What an update needs to know of the past."""
        champion = self.champion
        asking = Asking(
            claimed.update_id,
            None if champion is None else InService(champion.version),
            claimed.start,
            claimed.end,
            claimed.judged_from,
        )
        recalled = recall(self._past, asking)
        if champion is None:
            return History(recalled)
        return History(
            recalled,
            self._references(recalled.baseline, claimed.end),
            self._earlier(claimed),
            champion.last_part if len(champion.last_part) else None,
            self._first_part,
        )

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
        parts = [
            cut(seen, between(seen.frame.examples.time, midnight - EARLIER, midnight))
            for seen in self.seen
            if seen.start < midnight and seen.end > midnight - EARLIER
        ]
        parts = [part for part in parts if len(part)]
        return joined(parts).frame if parts else None


def joined(windows: Sequence[LogWindow]) -> LogWindow:
    """Windows that follow each other, as one."""
    if len(windows) == 1:
        return windows[0]
    frame = Frame(
        pl.concat([window.frame.table for window in windows]),
        concat(apart([window.frame.examples for window in windows])),
        sum(window.frame.without_row for window in windows),
    )
    return LogWindow(windows[0].start, windows[-1].end, frame, pl.concat([window.shown for window in windows]))


def cut(window: LogWindow, rows: slice) -> LogWindow:
    """The rows from some place on of a window's frame, or up to some place, as a window of its own."""
    frame, time = window.frame, window.frame.examples.time
    shown_at = frame.table["shown_at"]
    start = max(window.start, shown_at[rows.start - 1]) if rows.start else window.start
    end = window.end if rows.stop >= len(time) else shown_at[rows.stop - 1] if rows.stop else start
    shown = window.shown.filter((pl.col("shown_at") > start) & (pl.col("shown_at") <= end))
    return LogWindow(start, end, frame[rows], shown)
