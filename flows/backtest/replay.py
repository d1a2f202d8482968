"""A log replayed with itself as the clock: fold, score with the model in service, update, and on to the next step.

Beside the champion the replay scores the same impressions with the first model, the one that the warm-up gave and that
is never trained again: once with live features, once with its features frozen too. So a team sees what fresh features
and what fresh models are worth. Where the warm-up is too thin to give a model, the base rate serves until an update
gives one.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counters.engine import Engine
from features.counters.folder import Folder
from features.log.reading import read_impressions
from flows.backtest.summary import ARMS, CHAMPION_ARM, FEATURES_ONLY_ARM, FROZEN_ARM, Approval, Arm
from flows.update import Outcome
from flows.world import World
from models.examples import Examples
from models.frames import Frame, dense_of
from models.layouts import FORMS
from models.learning.model import Model
from models.versions import promotions

MICROSECOND = timedelta(microseconds=1)

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
"""Labels as they will be known in the end: what a score is measured against."""

Scores = Mapping[Arm, NDArray[np.float64]]
"""[N] of each arm."""


@dataclass(frozen=True, eq=False)
class ScoredWindow:
    """Impressions shown in ``(start, end]``, scored by each arm before any model trained on them."""

    start: datetime
    end: datetime
    examples: Examples
    scores: Scores

    by_base_rate: bool = False
    """No model was in service: every arm predicts the share of clicks known at ``start``."""


@dataclass(eq=False)
class ReplayState:
    """What has been replayed so far."""

    windows: list[ScoredWindow] = field(default_factory=list)
    updates: list[Outcome] = field(default_factory=list)

    approvals: dict[int, Approval] = field(default_factory=dict)
    """What came of approving held challengers, by update."""

    fold_seconds: float = 0.0

    no_model: str | None = None
    """Why the warm-up gave no model; None: it gave one."""


@dataclass(frozen=True, eq=False)
class FirstModel:
    """The first model in service, and the features as they were then."""

    model: Model
    engine: Engine
    at: datetime


def replay(
    world: World,
    folder: Folder,
    *,
    first: datetime,
    warm: datetime,
    until: datetime,
    every: timedelta,
    update: Callable[[datetime], Outcome | None],
    clock: Callable[[], float],
    approve: Callable[[int, datetime], Approval] | None = None,
) -> Iterator[ReplayState]:
    """Replay the log that is in the world's database from ``first``; yields after the warm-up and after each step.

    A step ends with a tick of the features, so that all that was shown in it has been folded when it is scored.
    ``update(as_of)`` runs one update; ``approve(update_id, as_of)`` decides at once on the challenger that it held.
    """
    state, surface = ReplayState(), world.surface
    tick = surface.features.tick

    def fold(through: datetime) -> None:
        began = clock()
        folder.fold(through + timedelta(seconds=tick / 2))
        state.fold_seconds += clock() - began

    def run_update(as_of: datetime) -> None:
        outcome = update(as_of)
        if outcome is None:
            return
        state.updates.append(outcome)
        if approve is not None and outcome.published.state == "held":
            update_id = outcome.claimed.update_id
            state.approvals[update_id] = approve(update_id, as_of)

    warm = tick_end(warm, tick)
    fold(warm)
    run_update(warm)
    if promotions.current(world.connection, surface.name) is None:
        state.no_model = _why_no_model(state.updates, first, warm, surface.fewest)
    base_rate = BaseRate(world.frame, surface.attribution, first - MICROSECOND)
    first_model: FirstModel | None = None
    yield state
    start = warm
    while start < until:
        champion = promotions.current(world.connection, surface.name)
        if champion is not None and first_model is None:
            assert folder.engine is not None
            first_model = FirstModel(world.model(champion), copy.deepcopy(folder.engine), start)
        end = tick_end(min(start + every, until), tick)
        fold(end)
        frame = world.frame(start, end, known_by=FOREVER)
        if champion is None or first_model is None:
            scores: Scores = dict.fromkeys(ARMS, np.full(len(frame.examples), base_rate.at(start)))
        else:
            shown = read_impressions(world.connection, surface.name, start, end)
            scores = score(world.model(champion), first_model, frame, shown)
        if len(frame.examples):
            state.windows.append(ScoredWindow(start, end, frame.examples, scores, by_base_rate=champion is None))
        run_update(end)
        yield state
        start = end


def tick_end(moment: datetime, tick: float) -> datetime:
    """The last microsecond of the tick that ``moment`` is in."""
    return datetime.fromtimestamp((moment.timestamp() // tick + 1) * tick, UTC) - MICROSECOND


class ReadFrame(Protocol):
    """Impressions shown in ``(start, end]``, with labels as known then: :meth:`flows.world.World.frame`."""

    def __call__(self, start: datetime, end: datetime, *, known_by: datetime) -> Frame: ...


class BaseRate:
    """The share of impressions clicked, of those whose labels are mature: what is predicted while there is no model."""

    def __init__(self, read_frame: ReadFrame, attribution: timedelta, start: datetime) -> None:
        self.read_frame, self.attribution, self.counted_to = read_frame, attribution, start
        self.clicks, self.impressions = 0.5, 1.0  # even odds before anything is known (Krichevsky & Trofimov 1981)

    def at(self, moment: datetime) -> float:
        """As known at ``moment``, which never goes back."""
        mature = moment - self.attribution
        if mature > self.counted_to:
            label = self.read_frame(self.counted_to, mature, known_by=moment).examples.label
            label = label[np.isfinite(label)]
            self.clicks, self.impressions = self.clicks + float(label.sum()), self.impressions + len(label)
            self.counted_to = mature
        return self.clicks / self.impressions


def score(champion: Model, first: FirstModel, frame: Frame, shown: pl.DataFrame) -> Scores:
    """The frame's impressions by every arm. ``shown``: the same, as the log has them."""
    frozen = frozen_examples(first.engine, shown, frame.table, first.at, frame.examples)
    return {
        CHAMPION_ARM: champion.score(frame.examples),
        FEATURES_ONLY_ARM: first.model.score(frame.examples),
        FROZEN_ARM: first.model.score(frozen),
    }


def frozen_examples(frozen: Engine, shown: pl.DataFrame, table: pl.DataFrame, at: datetime, live: Examples) -> Examples:
    """The same impressions with the features of ``at``, in the order of ``table``; a team's own views stay live."""
    rows = frozen.read_as_of(shown, at.timestamp())
    place = pl.DataFrame({"impression_id": rows.impression_id}).with_row_index("place")
    order = table.select("impression_id").join(place, on="impression_id", how="left", maintain_order="left")["place"]
    values = rows.values[order.to_numpy()]
    views = values.dense.shape[1] + len(FORMS) * values.numbers.shape[1]
    return replace(
        live,
        dense=dense_of(values, live.dense[:, views:]),
        ids=values.ids[:, : live.ids.shape[1]],
        history=values.history,
    )


def _why_no_model(updates: list[Outcome], first: datetime, warm: datetime, fewest: int) -> str:
    if updates:
        verdict = updates[-1].verdict
        return f"the warm-up's model was not promoted ({verdict.verdict}): {' '.join(verdict.reasons)}"
    return (
        f"the warm-up from {first:%Y-%m-%d %H:%M} to {warm:%Y-%m-%d %H:%M} UTC holds fewer than"
        f" {fewest:,} mature impressions; use a longer --warmup"
    )
