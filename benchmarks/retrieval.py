"""The bench of retrieval: is the next click among the items that two towers retrieve, and among those of simple peers?

The log is followed once, tick by tick. Every click is asked for before anything has seen it: by what was known at the
last tick before its request, all items clicked within a day being candidates but those the user clicked lately. Then
it is seen, at its own time. Popularity and co-clicks move with every tick, ours too; the towers' vectors only with
their updates. Negatives of the log are never looked at: which items it shows says what will be clicked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.retrieval_arms import Arm, CoClicks, Popular, TwoTowers
from benchmarks.table import Row, Table, machine
from features.declare.families import Features
from flows.drill.windows import Folding, Log, read_log, simulated, windows
from infra.errors import MillraceError
from models.examples import EMPTY, Examples, Layout, concat
from models.retrieval.towers import TowerDesign, Towers

KS = (10, 50, 100)


@dataclass(frozen=True)
class Plan:
    """What the bench measures, and on which log."""

    log: Path | None = None
    """A click log, as ``millrace import`` takes it; a seeded one without it."""

    items: Path | None = None
    until: datetime | None = None
    """What that log showed from then on is left out."""

    warmup: timedelta = timedelta(days=1)
    """What is learned before anything is asked."""

    tick: timedelta = timedelta(minutes=1)
    """How often popularity, co-clicks and the index follow the clicks."""

    every: tuple[timedelta, ...] = (timedelta(minutes=10), timedelta(hours=1))
    """How often the towers are updated, a run of them for each."""

    newcomer: timedelta = timedelta(minutes=30)
    """How long after a user's first click of the log they are called new."""

    half_lives: tuple[float, ...] = (300.0, 900.0, 3600.0)
    """Seconds; of popularity, each a peer."""

    pairs: tuple[tuple[float, float], ...] = ((3600.0, 5.0), (3600.0, 1.0), (14400.0, 5.0))
    """Half-life, seconds, and strength toward popularity, in clicks, of co-clicks, each a peer."""

    design: TowerDesign | None = None
    """Of the towers; None for the one that the surface's own columns give."""

    surface: str = "feed"
    days: float = 2.0
    """Of the seeded log."""

    requests_per_day: int = 48_000
    """Of the seeded log."""

    seed: int = 0


Say = Callable[[str], None]


def bench(plan: Plan, *, clock: Callable[[], float], say: Say) -> Table:
    """Run all of it. ``say`` is told what is done, a line at a time. Raises ImportRefused for a log it cannot read."""
    from flows.surfaces import find

    surface = find(plan.surface)
    if plan.log is None:
        log = simulated(seed=plan.seed, days=plan.days, requests_per_day=plan.requests_per_day)
    else:
        log = read_log(plan.log.stem, plan.log, plan.items, until=plan.until)
    asked, clicked_at = clicks_of(log, surface.features, surface.attribution)
    layout = layout_of(surface.features)
    begins = float(np.floor(asked.time[0])) + plan.warmup.total_seconds()
    if asked.time[-1] <= begins:
        raise LogTooShort(f"{log.name} ends within {plan.warmup} of its start: give a longer log, or a shorter warm-up")
    design = plan.design or design_of(surface.features)
    arms = Arms.of(plan, layout, design, begins)
    say(f"{log.name}: {len(asked)} clicks, {len(arms.all)} ways to retrieve")
    places = follow(asked, clicked_at, arms.all, layout, plan, begins, say)
    who = groups(asked, layout, plan, begins)
    return Table(
        "retrieval", machine(), [*recalls(places, who, arms, held=plan.log is not None), *costs(arms, asked, clock)]
    )


class LogTooShort(MillraceError):
    """Nothing is left to ask after the warm-up."""


def layout_of(features: Features) -> Layout:
    """Ids and last items of the surface, without its numbers."""
    return Layout(features.schema.version, (), features.schema.ids, features.schema.history)


def design_of(features: Features) -> TowerDesign:
    """Towers of the surface's own columns: all ids but the user's are context, and the attributes the item's."""
    own = ("user", "item", *features.attributes)
    return TowerDesign(features.attributes, tuple(name for name in features.schema.ids if name not in own))


def clicks_of(log: Log, features: Features, attribution: timedelta) -> tuple[Examples, NDArray[np.float64]]:
    """The log's clicks as they were asked for (in order of showing, with the user's state just before), and when each
    came [N], seconds. The fold runs without its counters: only ids and last items are wanted."""
    folding = Folding(replace(features, families=()), attribution)
    parts, times = list[Examples](), list[NDArray[np.float64]]()
    for window in windows(log, folding, timedelta(hours=6)):
        chosen = np.flatnonzero(window.frame.examples.label > 0)
        own = window.shown.select("impression_id", pl.col("clicked_at").dt.epoch("us") / 1e6)
        joined = window.frame.table.select("impression_id").join(
            own.unique("impression_id"), on="impression_id", how="left", maintain_order="left"
        )
        examples = window.frame.examples[chosen]
        parts.append(replace(examples, dense=examples.dense[:, :0]))
        times.append(joined["clicked_at"].to_numpy()[chosen])
    return concat(parts), np.concatenate(times)


@dataclass(frozen=True)
class Arms:
    """All that retrieves."""

    towers: Sequence[TwoTowers]
    popular: Sequence[Popular]
    pairs: Sequence[CoClicks]

    @property
    def all(self) -> list[Arm]:
        """In the order in which they see a click: co-clicks after popularity."""
        return [*self.towers, *self.popular, *self.pairs]

    @property
    def peers(self) -> list[Arm]:
        return [*self.popular, *self.pairs]

    @staticmethod
    def of(plan: Plan, layout: Layout, design: TowerDesign, begins: float) -> "Arms":
        item = layout.ids.index(layout.history_of)
        new = Towers.new(layout, design, plan.seed)
        popular = [Popular(life, design.alive_s, item) for life in plan.half_lives]
        middle = popular[len(popular) // 2]
        return Arms(
            [TwoTowers(new, every, begins, plan.seed) for every in plan.every],
            popular,
            [CoClicks(life, strength, middle) for life, strength in plan.pairs],
        )


def follow(
    asked: Examples,
    clicked_at: NDArray[np.float64],
    arms: Sequence[Arm],
    layout: Layout,
    plan: Plan,
    begins: float,
    say: Say,
) -> dict[str, NDArray[np.int64]]:
    """The place [N] of each click among what each arm retrieved for it, from 0; ``MISSED`` where it is not there, or
    was not asked for."""
    order = np.argsort(clicked_at, kind="stable")
    came = replace(asked, time=clicked_at)[order]
    item = asked.ids[:, layout.ids.index(layout.history_of)]
    places = {arm.name: np.full(len(asked), MISSED) for arm in arms}
    tick, hour = plan.tick.total_seconds(), 0
    start = float(np.floor(asked.time[0] / tick) * tick)
    ends = np.arange(start + tick, max(asked.time[-1], clicked_at[-1]) + 2 * tick, tick)
    shown_to, came_to = asked.time.searchsorted(ends), came.time.searchsorted(ends)
    before = seen = 0
    for end, shown, known in zip(ends.tolist(), shown_to.tolist(), came_to.tolist(), strict=True):
        first = max(before, int(asked.time.searchsorted(begins)))
        if shown > first:
            rows = slice(first, shown)
            for arm in arms:
                hit = arm.retrieve(asked[rows], end - tick, max(KS)) == item[rows, None]
                places[arm.name][rows] = np.where(hit.any(1), hit.argmax(1), MISSED)
        if known > seen:
            for arm in arms:
                arm.see(came[seen:known], end)
        before, seen = shown, known
        if (end - begins) // 3600 > hour and end > begins:
            hour = int((end - begins) // 3600)
            say(f"{hour} h, {shown} clicks; recall@10 so far: {so_far(places, asked.time, begins, shown)}")
    return places


MISSED = 1 << 30


def so_far(places: dict[str, NDArray[np.int64]], time: NDArray[np.float64], begins: float, shown: int) -> str:
    """Recall@10 of each arm, in words."""
    some = slice(int(time.searchsorted(begins)), shown)
    return "; ".join(f"{name} {(place[some] < 10).mean():.3f}" for name, place in places.items())


def groups(asked: Examples, layout: Layout, plan: Plan, begins: float) -> dict[str, NDArray[np.bool_]]:
    """Whose next click is asked for: everyone's, and that of new users with a click or more to go by."""
    user = asked.ids[:, layout.ids.index("user")]
    _, first, whose = np.unique(user, return_index=True, return_inverse=True)
    asks = asked.time >= begins
    young = asked.time - asked.time[first[whose]] <= plan.newcomer.total_seconds()
    new = asks & young & (asked.history[:, 0] != EMPTY)
    return {"all users": asks, "new users": new} if new.any() else {"all users": asks}


def recalls(
    places: dict[str, NDArray[np.int64]], who: dict[str, NDArray[np.bool_]], arms: Arms, *, held: bool
) -> list[Row]:
    """Ours beside the best of the peers' settings (chosen by the same figure, in the peers' favour), then each peer.

    ``held``: whether the goal counts; the clicks of a seeded log follow no item's trend that towers could learn.
    """
    rows = []
    for group, asks in who.items():
        for k in KS:
            recall = {name: float((place[asks] < k).mean()) for name, place in places.items()}
            peer = max((arm.name for arm in arms.peers), key=lambda name: recall[name])
            goal = "above the best peer" if held else None
            for arm in arms.towers:
                met = recall[arm.name] > recall[peer] if held else None
                what = f"recall@{k}, {group}, {arm.name}"
                rows.append(Row(what, recall[arm.name], "", peer, recall[peer], goal, met))
    asks = who["all users"]
    for other in arms.peers:
        rows += [Row(f"recall@{k}, all users, {other.name}", float((places[other.name][asks] < k).mean())) for k in KS]
    return rows


def costs(arms: Arms, asked: Examples, clock: Callable[[], float]) -> list[Row]:
    """What a request takes, by the last state of the towers that are updated most often, and what learning took."""
    arm = arms.towers[0]
    last = asked[max(0, len(asked) - ASKED_ALONE) :]
    now = arm.lately.time
    index = arm.towers.index(arm.lately, now)
    taken = []
    for row in range(len(last)):
        began = clock()
        one = last[row : row + 1]
        index.retrieve(arm.towers.users(one, arm.lately), max(KS), one.history)
        taken.append(clock() - began)
    began = clock()
    index.follow(arm.lately, now + 1)
    followed = clock() - began
    rows = [
        Row("items alive", len(index)),
        Row(f"one retrieve of {max(KS)}", 1e3 * float(np.median(taken)), "ms"),
        Row("the index follows a tick", 1e3 * followed, "ms"),
    ]
    return rows + [
        Row(f"learning, {arm.name}", arm.learning_s / arm.clicks * 1e5, "CPU s per 100,000 clicks")
        for arm in arms.towers
        if arm.clicks
    ]


ASKED_ALONE = 300
"""Requests timed one by one."""
