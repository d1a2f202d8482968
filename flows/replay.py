"""A log replayed with itself as the clock: fold, score with the model in service, update, and on to the next step.

Beside the champion the replay scores the same impressions with the warm-up model that never learned again: once with
live features, once with its features frozen too. So a team sees what fresh features and what fresh models are worth.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.catch_up import Folder
from features.engine import Engine
from features.log import read_impressions
from flows.update import Outcome
from flows.world import World
from models import promotions
from models.examples import Examples
from models.model import Model

ARMS = ("champion", "features_only", "frozen")
"""The model in service; the warm-up model with live features; the warm-up model with features frozen with it."""

MICROSECOND = timedelta(microseconds=1)

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
"""Labels as they will be known in the end: what a score is measured against."""


class NoFirstModel(RuntimeError):
    """The warm-up did not give a model that the gate lets into service."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Impressions shown in ``(start, end]``, scored by each arm before anything learned from them."""

    start: datetime
    end: datetime
    examples: Examples
    scores: dict[str, NDArray[np.float64]]
    """By arm, [N]."""


@dataclass(eq=False)
class Replayed:
    """What has been replayed so far."""

    scored: list[Scored] = field(default_factory=list)
    updates: list[Outcome] = field(default_factory=list)
    fold_seconds: float = 0.0


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
    ``update(as_of)`` runs one update. Raises NoFirstModel when there is no champion after the warm-up.
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
        raise NoFirstModel(_why(world, done, first, warm))
    warm_model = world.model(champion)
    assert folder.engine is not None
    frozen = copy.deepcopy(folder.engine)
    yield done
    start = warm
    while start < until:
        end = tick_end(min(start + every, until), tick)
        fold(end)
        champion = promotions.current(world.connection, world.surface.name)
        assert champion is not None
        scored = _score(world, world.model(champion), warm_model, frozen, warm, start, end)
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


def _score(
    world: World,
    champion: Model,
    warm_model: Model,
    frozen: Engine,
    frozen_at: datetime,
    start: datetime,
    end: datetime,
) -> Scored:
    frame = world.frame(start, end, known_by=FOREVER)
    examples = frame.examples
    shown = read_impressions(world.connection, world.surface.name, start, end)
    stale = frozen_examples(frozen, shown, frame.table, frozen_at, examples)
    scores = {
        "champion": champion.score(examples),
        "features_only": warm_model.score(examples),
        "frozen": warm_model.score(stale),
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
