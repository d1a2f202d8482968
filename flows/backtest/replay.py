"""A log replayed with itself as the clock: fold, score with the model in service, update, and on to the next step.

Beside the champion the replay scores the same impressions with the first model, which is the warm-up's, and which never
learned again: once with live features, once with its features frozen too. So a team sees what fresh features and what
fresh models are worth. Where the warm-up is too thin to give a model, the base rate serves until an update gives one.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counters.engine import Engine
from features.counters.folder import Folder
from features.log.reading import read_impressions
from flows.update import Outcome
from flows.world import World
from models.examples import Examples
from models.learning.model import Model
from models.versions import promotions

ARMS = ("champion", "features_only", "frozen")
"""The model in service; the first model with live features; the first model with features frozen with it."""

MICROSECOND = timedelta(microseconds=1)

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
"""Labels as they will be known in the end: what a score is measured against."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Impressions shown in ``(start, end]``, scored by each arm before anything learned from them."""

    start: datetime
    end: datetime
    examples: Examples
    scores: dict[str, NDArray[np.float64]]
    """By arm, [N]."""

    by_base_rate: bool = False
    """No model was in service: every arm predicts the share of clicks known at ``start``."""


@dataclass(eq=False)
class Replayed:
    """What has been replayed so far."""

    scored: list[Scored] = field(default_factory=list)
    updates: list[Outcome] = field(default_factory=list)
    fold_seconds: float = 0.0

    no_model: str | None = None
    """Why the warm-up gave no model; None: it gave one."""


@dataclass(frozen=True, eq=False)
class First:
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
) -> Iterator[Replayed]:
    """Replay the log that is in the world's database from ``first``; yields after the warm-up and after each step.

    A step ends with a tick of the features, so that all that was shown in it has been folded when it is scored.
    ``update(as_of)`` runs one update.
    """
    done = Replayed()
    tick = world.surface.features.tick

    def fold(through: datetime) -> None:
        began = clock()
        folder.fold(through + timedelta(seconds=tick / 2))
        done.fold_seconds += clock() - began

    warm = tick_end(warm, tick)
    fold(warm)
    _update(done, update, warm)
    champion = promotions.current(world.connection, world.surface.name)
    if champion is None:
        done.no_model = _why(world, done, first, warm)
    base_rate = BaseRate(world, first - MICROSECOND)
    known: First | None = None
    yield done
    start = warm
    while start < until:
        champion = promotions.current(world.connection, world.surface.name)
        if champion is not None and known is None:
            assert folder.engine is not None
            known = First(world.model(champion), copy.deepcopy(folder.engine), start)
        end = tick_end(min(start + every, until), tick)
        fold(end)
        if champion is None or known is None:
            scored = _by_base_rate(world, base_rate.at(start), start, end)
        else:
            scored = _score(world, world.model(champion), known, start, end)
        if len(scored.examples):
            done.scored.append(scored)
        _update(done, update, end)
        yield done
        start = end


def tick_end(moment: datetime, tick: float) -> datetime:
    """The last microsecond of the tick that ``moment`` is in."""
    return datetime.fromtimestamp((moment.timestamp() // tick + 1) * tick, UTC) - MICROSECOND


def _update(done: Replayed, update: Callable[[datetime], Outcome | None], as_of: datetime) -> None:
    outcome = update(as_of)
    if outcome is not None:
        done.updates.append(outcome)


class BaseRate:
    """The share of impressions clicked, of those whose labels are mature: what is predicted while there is no model."""

    def __init__(self, world: World, first: datetime) -> None:
        self.world, self.counted_to = world, first
        self.clicks, self.shown = 0.5, 1.0  # even odds before anything is known (Krichevsky & Trofimov 1981)

    def at(self, moment: datetime) -> float:
        """As known at ``moment``, which never goes back."""
        mature = moment - self.world.surface.attribution
        if mature > self.counted_to:
            label = self.world.frame(self.counted_to, mature, known_by=moment).examples.label
            label = label[np.isfinite(label)]
            self.clicks, self.shown = self.clicks + float(label.sum()), self.shown + len(label)
            self.counted_to = mature
        return self.clicks / self.shown


def _by_base_rate(world: World, rate: float, start: datetime, end: datetime) -> Scored:
    examples = world.frame(start, end, known_by=FOREVER).examples
    scores = {arm: np.full(len(examples), rate) for arm in ARMS}
    return Scored(start, end, examples, scores, by_base_rate=True)


def _score(world: World, champion: Model, known: First, start: datetime, end: datetime) -> Scored:
    frame = world.frame(start, end, known_by=FOREVER)
    examples = frame.examples
    shown = read_impressions(world.connection, world.surface.name, start, end)
    stale = frozen_examples(known.engine, shown, frame.table, known.at, examples)
    scores = {
        "champion": champion.score(examples),
        "features_only": known.model.score(examples),
        "frozen": known.model.score(stale),
    }
    return Scored(start, end, examples, scores)


def frozen_examples(frozen: Engine, shown: pl.DataFrame, table: pl.DataFrame, at: datetime, live: Examples) -> Examples:
    """The same impressions with the features of ``at``, in the order of ``table``; a team's own views stay live."""
    rows = frozen.read_as_of(shown, at.timestamp())
    place = pl.DataFrame({"impression_id": rows.impression_id}).with_row_index("place")
    order = table.select("impression_id").join(place, on="impression_id", how="left", maintain_order="left")["place"]
    at_rows = order.to_numpy()
    return Examples(
        dense=np.concatenate([rows.dense[at_rows].astype(np.float32), live.dense[:, rows.dense.shape[1] :]], axis=1),
        ids=rows.ids[at_rows],
        history=rows.history[at_rows],
        label=live.label,
        request=live.request,
        time=live.time,
    )


def _why(world: World, done: Replayed, first: datetime, warm: datetime) -> str:
    if done.updates:
        last = done.updates[-1]
        return f"the warm-up's model was not promoted ({last.verdict.verdict}): {' '.join(last.verdict.reasons)}"
    return (
        f"the warm-up from {first:%Y-%m-%d %H:%M} to {warm:%Y-%m-%d %H:%M} UTC holds fewer than"
        f" {world.surface.fewest:,} mature impressions; use a longer --warmup"
    )
