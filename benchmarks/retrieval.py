"""The bench of retrieval: is the next click among the items that two towers retrieve, and among those of simple peers?

    python -m benchmarks retrieval --log clicks.parquet --items items.parquet --until 2017-10-05

The log is followed once, tick by tick. Every click is a query before anything has observed it: by what was known at the
last tick before its request, all items clicked within a day being candidates but the user's recent clicks. Then it is
observed, at its own time. Popularity and co-clicks move with every tick, ours too; the towers' vectors only with their
updates. Negatives of the log are never looked at: which items it shows says what will be clicked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.logs import TWO_BUSY_DAYS, LogConfig
from benchmarks.retrievers import CoClicks, ItemRetriever, Popular, TwoTowers
from benchmarks.table import Row, Table, machine
from features.declare.features import Features
from flows.drill.logs import Log, LogTooShort
from flows.drill.windows import Folding, windows
from flows.surface import Surface
from models.examples import EMPTY, Examples, Layout, concat
from models.retrieval.tower_design import TowerDesign
from models.retrieval.towers import Towers
from monitoring.evaluation.retrieval import KS, MISSED

TIMED_REQUESTS = 300
"""Requests timed one by one."""


@dataclass(frozen=True)
class RetrievalConfig:
    """What the bench measures, and on which log."""

    surface: Surface
    log: LogConfig = TWO_BUSY_DAYS

    warmup: timedelta = timedelta(days=1)
    """What the first towers train on, before any query."""

    tick: timedelta = timedelta(minutes=1)
    """How often popularity, co-clicks and the index follow the clicks."""

    every: tuple[timedelta, ...] = (timedelta(minutes=10), timedelta(hours=1))
    """How often the towers are updated; each is measured."""

    new_for: timedelta = timedelta(minutes=30)
    """How long after a user's first click of the log they count as new."""

    half_lives: tuple[float, ...] = (300.0, 900.0, 3600.0)
    """Seconds; of popularity, each a peer."""

    pairs: tuple[tuple[float, float], ...] = ((3600.0, 5.0), (3600.0, 1.0), (14400.0, 5.0))
    """Half-life, seconds, and clicks that popularity as the prior counts for, of co-clicks, each a peer."""

    design: TowerDesign | None = None
    """Of the towers; None for the one that the surface's own columns give."""

    seed: int = 0


def bench(config: RetrievalConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. Raises ImportRefused for a log it cannot read, and LogTooShort."""
    log, features = config.log.read(), ids_alone(config.surface.features)
    queries, clicked_at = clicks_of(log, features)
    layout = layout_of(features)
    begins = float(np.floor(queries.time[0])) + config.warmup.total_seconds()
    if queries.time[-1] <= begins:
        raise LogTooShort(
            f"{log.name} ends within {config.warmup} of its start: give a longer log, or a shorter warm-up"
        )
    retrievers = Retrievers.of(config, layout, config.design or design_of(features), begins)
    progress(f"{log.name}: {len(queries)} clicks, {len(retrievers.all)} ways to retrieve")
    places = follow(queries, clicked_at, retrievers.all, layout, config.tick, begins, progress)
    groups = groups_of(queries, layout, config.new_for, begins)
    return Table(
        "retrieval",
        machine(),
        [
            *recalls(places, groups, retrievers, with_goal=config.log.path is not None),
            *costs(retrievers, queries, clock),
        ],
    )


def ids_alone(features: Features) -> Features:
    """The same without most counters: only ids and last items are wanted, so those families stay that name one of the
    user's state."""
    named = [family for family in features.counted if any(name in features.of_state for name in family.key)]
    return replace(features, families=tuple(replace(family, prior=None, share_of=None) for family in named))


def layout_of(features: Features) -> Layout:
    """Ids and last items of the surface, without its numbers."""
    return Layout(features.schema.version, (), features.schema.ids, features.schema.history)


def design_of(features: Features) -> TowerDesign:
    """Towers of the surface's own columns: all ids but the user's are context, and the attributes the item's."""
    of_items = tuple(column.name for column in features.of_items)
    own = ("user", "item", *of_items)
    return TowerDesign(of_items, tuple(name for name in features.schema.ids if name not in own))


def clicks_of(log: Log, features: Features) -> tuple[Examples, NDArray[np.float64]]:
    """The log's clicks as queries (in order of showing, with the user's state just before), and when each came [N],
    seconds."""
    folding = Folding(features)
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
class Retrievers:
    """All that retrieves."""

    towers: Sequence[TwoTowers]
    popular: Sequence[Popular]
    pairs: Sequence[CoClicks]

    @property
    def all(self) -> list[ItemRetriever]:
        """In the order in which they observe a click: co-clicks after popularity."""
        return [*self.towers, *self.popular, *self.pairs]

    @property
    def peers(self) -> list[ItemRetriever]:
        return [*self.popular, *self.pairs]

    @staticmethod
    def of(config: RetrievalConfig, layout: Layout, design: TowerDesign, begins: float) -> "Retrievers":
        item = layout.ids.index(layout.history_of)
        towers = Towers.new(layout, design, config.seed)
        popular = [Popular(life, design.alive_s, item) for life in config.half_lives]
        middle = popular[len(popular) // 2]
        return Retrievers(
            [TwoTowers(towers, every, begins, config.seed) for every in config.every],
            popular,
            [CoClicks(life, pseudo_clicks, middle) for life, pseudo_clicks in config.pairs],
        )


Places = Mapping[str, NDArray[np.int64]]
"""By retriever, the place [N] of each click among what was retrieved for it, from 0; ``MISSED`` too where it was no
query."""


def follow(
    queries: Examples,
    clicked_at: NDArray[np.float64],
    retrievers: Sequence[ItemRetriever],
    layout: Layout,
    every: timedelta,
    begins: float,
    progress: Progress,
) -> Places:
    """Retrieve for every click after ``begins``, then let it be observed; tick by tick."""
    order = np.argsort(clicked_at, kind="stable")
    clicks = replace(queries, time=clicked_at)[order]
    item = queries.ids[:, layout.ids.index(layout.history_of)]
    places = {retriever.name: np.full(len(queries), MISSED) for retriever in retrievers}
    tick, hour = every.total_seconds(), 0
    start = float(np.floor(queries.time[0] / tick) * tick)
    ends = np.arange(start + tick, max(queries.time[-1], clicked_at[-1]) + 2 * tick, tick)
    shown_to, clicked_to = queries.time.searchsorted(ends), clicks.time.searchsorted(ends)
    answered = observed = 0
    for end, shown, known in zip(ends.tolist(), shown_to.tolist(), clicked_to.tolist(), strict=True):
        first = max(answered, int(queries.time.searchsorted(begins)))
        if shown > first:
            rows = slice(first, shown)
            for retriever in retrievers:
                hit = retriever.retrieve(queries[rows], end - tick, max(KS)) == item[rows, None]
                places[retriever.name][rows] = np.where(hit.any(1), hit.argmax(1), MISSED)
        if known > observed:
            for retriever in retrievers:
                retriever.observe(clicks[observed:known], end)
        answered, observed = shown, known
        if (end - begins) // 3600 > hour and end > begins:
            hour = int((end - begins) // 3600)
            progress(f"{hour} h, {shown} clicks; recall@10 so far: {so_far(places, queries.time, begins, shown)}")
    return places


def so_far(places: Places, time: NDArray[np.float64], begins: float, shown: int) -> str:
    """Recall@10 of each retriever, in words."""
    rows = slice(int(time.searchsorted(begins)), shown)
    return "; ".join(f"{name} {(place[rows] < 10).mean():.3f}" for name, place in places.items())


Groups = Mapping[str, NDArray[np.bool_]]
"""By name, which queries [N] are theirs."""


def groups_of(queries: Examples, layout: Layout, new_for: timedelta, begins: float) -> Groups:
    """Everyone's queries, and those of cold-start users with a click or more to go by."""
    user = queries.ids[:, layout.ids.index("user")]
    _, first, whose = np.unique(user, return_index=True, return_inverse=True)
    counted = queries.time >= begins
    young = queries.time - queries.time[first[whose]] <= new_for.total_seconds()
    new = counted & young & (queries.history[:, 0] != EMPTY)
    return {"all users": counted, "new users": new} if new.any() else {"all users": counted}


def recalls(places: Places, groups: Groups, retrievers: Retrievers, *, with_goal: bool) -> list[Row]:
    """Ours beside the best of the peers' settings (chosen by the same figure, in the peers' favour), then each peer.

    ``with_goal``: whether the goal counts; the clicks of a seeded log follow no item's trend that towers could learn.
    """
    rows = []
    for group, theirs in groups.items():
        for k in KS:
            recall = {name: float((place[theirs] < k).mean()) for name, place in places.items()}
            peer = max((peer.name for peer in retrievers.peers), key=lambda name: recall[name])
            goal = "above the best peer" if with_goal else None
            for towers in retrievers.towers:
                met = recall[towers.name] > recall[peer] if with_goal else None
                what = f"recall@{k}, {group}, {towers.name}"
                rows.append(Row(what, recall[towers.name], "", peer, recall[peer], goal, met))
    everyone = groups["all users"]
    for other in retrievers.peers:
        place = places[other.name][everyone]
        rows += [Row(f"recall@{k}, all users, {other.name}", float((place < k).mean())) for k in KS]
    return rows


def costs(retrievers: Retrievers, queries: Examples, clock: Clock) -> list[Row]:
    """What a request takes, by the last state of the towers that are updated most often, and what training took."""
    towers = retrievers.towers[0]
    last = queries[max(0, len(queries) - TIMED_REQUESTS) :]
    now = towers.recent.time
    index = towers.towers.index(towers.recent, now)
    seconds = []
    for row in range(len(last)):
        began = clock()
        one = last[row : row + 1]
        index.retrieve(towers.towers.users(one, towers.recent), max(KS), one.history)
        seconds.append(clock() - began)
    began = clock()
    index.follow(towers.recent, now + 1)
    followed = clock() - began
    rows = [
        Row("items alive", len(index)),
        Row(f"one retrieve of {max(KS)}", 1e3 * float(np.median(seconds)), "ms"),
        Row("the index follows a tick", 1e3 * followed, "ms"),
    ]
    return rows + [
        Row(f"training, {one.name}", one.training_s / one.clicks * 1e5, "CPU s per 100,000 clicks")
        for one in retrievers.towers
        if one.clicks
    ]
