"""The updates of one surface over a log's windows in memory: what ``flows/update.py`` does, without what it does it in.

    process = Process(surface, clock)
    process.begin(first_day)
    for window in windows(...):
        judged = process.judge(window)
        process.follow(judged)

Checks, learner, evidence and gate are those of an update, and so is what becomes of a window that is not promoted:
held, it is learned together with the next; rejected, it is passed over. There is no database, registry or report.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flows.drill.faults import Met
from flows.drill.windows import Window, between
from flows.steps.history import DAY, FROZEN, HISTORY, PROFILES
from flows.surface import Surface
from models import metrics
from models.examples import Examples, apart, concat
from models.frames import Frame
from models.learning.learner import fine_tune
from models.learning.model import Model
from monitoring.checks import features as feature_checks
from monitoring.checks import labels as label_checks
from monitoring.checks import window as checks
from monitoring.checks.features import Profile
from monitoring.checks.window import Past, past_of
from monitoring.evaluation import compare
from monitoring.evaluation import evaluate as evidence
from monitoring.evaluation.evaluate import Anchor, Before, Candidate
from monitoring.evaluation.process_record import Record
from monitoring.gate import decide as gate
from monitoring.gate.decide import Verdict


@dataclass(frozen=True, eq=False)
class Served:
    """A model that was, or is, in service."""

    version: str
    learned_to: float
    """Seconds since 1970."""

    model: Model


@dataclass(frozen=True, eq=False)
class Judged:
    """What an update of a window came to."""

    window: Window
    first: int
    """The row at which the judged part begins that was not learned from; with progressive judging, the window's end."""

    verdict: Verdict
    figures: dict[str, Any]
    profile: Profile
    challenger: Model | None
    gains: NDArray[np.float64]
    """[requests judged], of the challenger, as shares of the champion's log loss; empty where nothing was learned."""

    seconds: float
    """All of it, the learning included."""


class Process:
    """A surface's champion and all that its next update compares with."""

    def __init__(self, surface: Surface, clock: Callable[[], float]) -> None:
        self.surface = surface
        self.clock = clock
        self.line: list[Served] = []
        """Champions in order, the present one last; older than eight days they are forgotten."""
        self.record = Record()
        self.standard: Served | None = None
        self.history: list[Past] = []
        self.profiles: list[Profile] = []
        self.seen: list[Window] = []
        """Windows of the last two days, for what must not be forgotten."""
        self._left: Window | None = None
        self._updates = 0
        self._versions = 0

    @property
    def champion(self) -> Model:
        """The model in service. Only after ``begin``."""
        return self.line[-1].model

    def fork(self) -> "Process":
        """The same process, to go on by itself."""
        other = copy(self)
        for name in ("line", "history", "profiles", "seen"):
            setattr(other, name, list(getattr(self, name)))
        return other

    def served_at(self, moment: datetime) -> Model:
        """The champion of a while ago: the last that had learned up to ``moment``, or the first."""
        known = [served for served in self.line if served.learned_to <= moment.timestamp() + 5e-7]
        return (known or self.line[:1])[-1].model

    def waits(self, window: Window) -> bool:
        """Is there too little for an update? Then it is kept for the next."""
        left = 0 if self._left is None else len(self._left)
        if left + len(window) >= self.surface.fewest:
            return False
        self._left = window if self._left is None else joined([self._left, window])
        return True

    def begin(self, first: Sequence[Window]) -> None:
        """Learn the first model from the log's first windows, taken as one."""
        window = joined(first)
        surface = self.surface
        model, _ = fine_tune(
            Model.new(surface.layout, surface.design, surface.seed),
            window.frame.examples,
            seed=surface.seed,
            clock=self.clock,
        )
        past = Past(window.start, window.end, len(window), metrics.mean(window.frame.examples.label.astype(np.float64)))
        examples = window.frame.examples
        names = surface.layout.dense
        profiles = Profile.by_hour(examples.dense, names, time=examples.time, label=examples.label)
        self._promote(window, len(window), model, profiles, past)
        self.standard = self.line[-1]

    def judge(self, window: Window, met: Met | None = None) -> Judged:
        """One update of the window and of what is left from before it; a fault's ``met`` stands for the window.

        Changes nothing: ``follow`` does.
        """
        began = self.clock()
        surface = self.surface
        if met is not None:
            window = met.window
        if self._left is not None:
            window = joined([self._left, window])
        lesson = window.frame.examples
        if met is not None and met.lesson is not None:
            lesson = met.lesson if self._left is None else concat(apart([self._left.frame.examples, met.lesson]))
        champion = self.champion if met is None or met.champion is None else met.champion
        scores = champion.score(window.frame.examples)
        figures, profile, sound = self._checked(window, scores)
        first = len(window) if surface.judging == "progressive" else judged_from(surface, window)
        challenger, gains = None, np.zeros(0)
        if sound:
            start = champion if met is None or met.start is None else met.start
            challenger, learned = fine_tune(
                start, lesson[:first], seed=surface.seed + self._updates + 1, clock=self.clock
            )
            candidate = Candidate(
                window=window.frame,
                first=0 if surface.judging == "progressive" else first,
                judging=surface.judging,
                question="not_worse",
                champion=champion,
                champion_scores=scores,
                challenger=challenger,
                learned=learned,
            )
            rows, predicted = candidate.judged()
            gains = shares(window.frame.examples[rows], scores[rows], predicted)
            figures |= evidence.gather(
                candidate,
                self.before(window),
                policy=surface.policy,
                contexts=surface.features.contexts,
                fairness=surface.fairness,
                seed=self._updates,
                clock=self.clock,
            )
        verdict = gate.decide(surface.policy, figures)
        return Judged(window, first, verdict, figures, profile, challenger, gains, self.clock() - began)

    def _checked(self, window: Window, scores: np.ndarray) -> tuple[dict[str, Any], Profile, bool]:
        """The data checks, as the steps ``check`` and ``test`` of an update make them."""
        surface, frame, names = self.surface, window.frame, self.surface.layout.dense
        dense, label = frame.examples.dense, frame.examples.label
        history = tuple(reversed(self.history))
        expected = checks.Expected(
            schema_version=surface.features.schema.version, start=window.start, end=window.end, history=history
        )
        new = evidence.newcomers(frame.examples, self.champion)
        found = list(checks.check_window(frame.table, dense, names, expected, surface.limits, new=new))
        profile = Profile.of(dense, names, label=label, seed=self._updates)
        found += feature_checks.check_features(
            dense,
            names,
            self.profiles,
            label,
            surface.limits,
            ids=frame.table["impression_id"],
            profile=profile,
            requests=len(np.unique(frame.examples.request)),
        )
        contexts = evidence.contexts_of(frame.table, surface.features.contexts)
        found += label_checks.check_labels(frame.table, label, scores, history, surface.limits, contexts=contexts)
        figures = {
            "impressions": len(frame),
            "label_rate": metrics.mean(label.astype(np.float64)),
            "without_row": frame.without_row,
            "prequential": compare.measure(label, frame.examples.request, scores),
            "checks": checks.as_figures(found),
        }
        return figures, profile, not any(check.breach == "reject" for check in checks.failures(found))

    def before(self, window: Window) -> Before:
        """What a candidate of the window is held against."""
        end = window.end.timestamp()
        anchors, seen = [], {self.line[-1].version}
        for name, age in (("a day ago", DAY), ("a week ago", 7 * DAY)):
            old = next((s for s in reversed(self.line) if s.learned_to <= end - age.total_seconds()), None)
            if old is not None and old.version not in seen:
                seen.add(old.version)
                anchors.append(Anchor(name, old.version, old.model))
        assert self.standard is not None
        if self.standard.version not in seen:
            anchors.append(Anchor("standard", self.standard.version, self.standard.model))
        return Before(
            record=self.record,
            anchors=anchors,
            champion=self.line[-1].version,
            standard=self.standard.version,
            frozen=self._frozen(window),
        )

    def _frozen(self, window: Window) -> Frame | None:
        """The last hours before the day in which the window begins."""
        midnight = window.start.replace(hour=0, minute=0, second=0, microsecond=0)
        parts = [
            cut(seen, between(seen.frame.examples.time, midnight - FROZEN, midnight))
            for seen in self.seen
            if seen.start < midnight and seen.end > midnight - FROZEN
        ]
        parts = [part for part in parts if len(part)]
        return joined(parts).frame if parts else None

    def follow(self, judged: Judged) -> None:
        """Let the verdict stand: move the champion, or leave it; what was not learned is left for the next update."""
        self._updates += 1
        word, window = judged.verdict.verdict, judged.window
        if word == "hold":
            self._left = window
            return
        self._left = cut(window, slice(judged.first, len(window))) if judged.first < len(window) else None
        process = judged.figures.get("process")
        if process is not None:
            self.record = Record.from_dict(process["after"])
        if word == "promote":
            assert judged.challenger is not None
            past = past_of(window.start, window.end, judged.figures)
            self._promote(window, judged.first, judged.challenger, [judged.profile], past)
            if judged.figures.get("standard_moves"):
                self.standard = self.line[-1]

    def _promote(self, window: Window, first: int, model: Model, profiles: Sequence[Profile], past: Past) -> None:
        """Take the model, which learned the window's rows before ``first``, into service."""
        end = window.end.timestamp()
        learned_to = float(window.frame.examples.time[:first].max())
        self._versions += 1
        self.line = [served for served in self.line if served.learned_to > end - 8 * DAY.total_seconds()]
        self.line.append(Served(str(self._versions), learned_to, model))
        self.history = [*(earlier for earlier in self.history if earlier.end > window.end - HISTORY), past]
        self.profiles = [*self.profiles, *profiles][-PROFILES:]
        self.seen = [*(seen for seen in self.seen if seen.end > window.end - 2 * DAY), window]


def shares(examples: Examples, champion: NDArray[np.float64], challenger: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gain of each request in log loss, as a share of the champion's."""
    by_request = metrics.gains(champion, challenger, examples.label, examples.request)
    return by_request / metrics.log_loss(champion, examples.label)


def judged_from(surface: Surface, window: Window) -> int:
    """With judging by the tail: the row at which it begins, as the ledger splits a window."""
    length = min((window.end - window.start) * surface.judge_share, surface.judge_at_most)
    rows = between(window.frame.examples.time, window.start, window.end - length)
    return int(rows.stop)


def joined(windows: Sequence[Window]) -> Window:
    """Windows that follow each other, as one."""
    if len(windows) == 1:
        return windows[0]
    frame = Frame(
        pl.concat([window.frame.table for window in windows]),
        concat(apart([window.frame.examples for window in windows])),
        sum(window.frame.without_row for window in windows),
    )
    return Window(windows[0].start, windows[-1].end, frame, pl.concat([window.shown for window in windows]))


def cut(window: Window, rows: slice) -> Window:
    """The rows from some place on of a window's frame, or up to some place, as a window of its own."""
    frame, time = window.frame, window.frame.examples.time
    shown_at = frame.table["shown_at"]
    start = max(window.start, shown_at[rows.start - 1]) if rows.start else window.start
    end = window.end if rows.stop >= len(time) else shown_at[rows.stop - 1] if rows.stop else start
    shown = window.shown.filter((pl.col("shown_at") > start) & (pl.col("shown_at") <= end))
    return Window(start, end, frame[rows], shown)
