"""Headlines, shown by each way to choose: how often the best is shown, and what is lost beside always showing it.

    python -m benchmarks headlines

A seeded world (:mod:`features.ingest.simulated_headlines`) whose truth is known. After a first stretch of headlines
drawn evenly each way goes on by itself, over the same requests with the same luck: what a reader would click of one
headline depends on no other. Features are read from the engine that serving runs, a minute behind; models are those
that an update trains, every two hours; what is shown is what serving would show. Judged are articles that came after
the first stretch: nothing was known of their headlines.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.table import Row, Table, machine
from features.counters.event_values import Candidates
from features.counters.item_values import Attributes
from features.ingest.log_files import Files
from features.ingest.simulated_headlines import SimulatedHeadlines, simulate_headlines
from flows.drill.logs import read_surface_log
from flows.drill.windows import Folding
from flows.surfaces.headlines import SURFACE
from models.examples import Examples, concat
from models.exploration.explorer import Explorer, of_request
from models.exploration.thompson import Thompson
from models.frames import to_score
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.serving.follow.version_cache import LoadedVersion, PromotedVersion
from models.serving.follow.version_loading import LoadedChampion
from models.serving.rank.arrange import arrange
from models.serving.rank.draws import VersionDraws
from models.serving.scoring.scorer import scorer_of

START = datetime(2026, 1, 5, tzinfo=UTC)

TICK = timedelta(minutes=1)
"""How far counters are behind."""

EVERY = 120
"""Ticks between updates."""

EVENLY, GREEDY, POSTERIOR, COUNTED = "evenly", "the best by its score", "by the last layer", "by its own count"

WAYS: Mapping[str, Explorer | None] = {
    EVENLY: None,
    GREEDY: None,
    POSTERIOR: Thompson(),
    COUNTED: Thompson(counted="item"),
}


@dataclass(frozen=True)
class HeadlineConfig:
    """What to run."""

    days: float = 3.0
    first: float = 1.0
    """Days of them that are drawn evenly."""
    requests_per_day: int = 20_000
    articles_per_day: int = 10
    users: int = 3_000
    seed: int = 0

    @staticmethod
    def quick() -> HeadlineConfig:
        return HeadlineConfig(days=1.0, first=0.5, requests_per_day=6_000, articles_per_day=8)


@dataclass(frozen=True, eq=False)
class World:
    """The requests in order, and what is true of each."""

    shown: pl.DataFrame
    """As drawn evenly."""
    variants: Mapping[str, list[str]]
    """By article, its headlines."""
    article: list[str]
    """[requests]"""
    pull: NDArray[np.float64]
    gain: Mapping[str, float]
    luck: NDArray[np.float64]
    """[requests], 0 to 1: below the chance of a click it is clicked."""
    wait: NDArray[np.int64]
    """[requests], microseconds until a click."""
    attributes: Mapping[str, str]
    new: NDArray[np.bool_]
    """[requests]; whether the article came after the first stretch."""
    first: int
    """Requests of that."""

    def chance(self, request: int, item: str) -> float:
        return float(1 / (1 + np.exp(-self.pull[request] - self.gain[item])))

    def best(self, request: int) -> str:
        return max(self.variants[self.article[request]], key=self.gain.__getitem__)

    def rows(self, begin: int, items: list[str]) -> pl.DataFrame:
        """The log's rows of requests from ``begin`` on, had these been shown."""
        end = begin + len(items)
        clicked = [self.luck[at] < self.chance(at, item) for at, item in enumerate(items, begin)]
        at = pl.col("shown_at") + pl.Series(self.wait[begin:end]).cast(pl.Duration("us"))
        return self.shown[begin:end].with_columns(
            item_id=pl.Series(items),
            attributes=pl.Series([self.attributes[item] for item in items]),
            clicked=pl.Series(clicked),
            clicked_at=pl.when(pl.Series(clicked)).then(at),
            value=pl.when(pl.Series(clicked)).then(1.0),
        )


def world_of(config: HeadlineConfig) -> World:
    """The same config gives the same."""
    made = simulate_headlines(
        seed=config.seed,
        start=START,
        days=config.days,
        users=config.users,
        articles_per_day=config.articles_per_day,
        requests_per_day=config.requests_per_day,
    )
    shown = _shown(made)
    random = np.random.default_rng([config.seed, 1])
    items = dict(made.items.group_by("article").agg("item_id").iter_rows())
    of = dict(made.items.select("item_id", "article").iter_rows())
    begins = START + timedelta(days=config.first)
    late = set(made.items.filter(pl.col("born_at") > begins)["article"].to_list())
    article = [of[item] for item in shown["item_id"].to_list()]
    names = ("article", "headline", "section")
    return World(
        shown,
        items,
        article,
        made.truth["pull"].to_numpy(),
        dict(made.wordings.select("item_id", "gain").iter_rows()),
        random.random(len(shown)),
        (1e6 * (1 + random.exponential(6.0, len(shown)))).astype(np.int64),
        {row["item_id"]: json.dumps({name: row[name] for name in names}) for row in made.items.iter_rows(named=True)},
        np.array([name in late for name in article]),
        int(shown["shown_at"].search_sorted(begins)),
    )


def _shown(made: SimulatedHeadlines) -> pl.DataFrame:
    with tempfile.TemporaryDirectory(prefix="millrace-headlines-") as folder:
        made.log.write_parquet(Path(folder) / "log.parquet")
        made.items.write_parquet(Path(folder) / "items.parquet")
        files = Files(Path(folder) / "log.parquet", items=Path(folder) / "items.parquet")
        return read_surface_log(SURFACE, files, now=START + timedelta(days=60)).shown


@dataclass(frozen=True, eq=False)
class Shown:
    """What one way showed after the first stretch, of articles that were new."""

    best: NDArray[np.bool_]
    """[N]; whether it was the best of its article."""
    chance: NDArray[np.float64]
    """[N]; of a click."""
    highest: NDArray[np.float64]
    """[N]; of a click on the best."""
    age: NDArray[np.int64]
    """[N]; of how manieth request of its article it was."""
    cpu_s: float

    @property
    def regret(self) -> float:
        """Clicks lost, as a share of those of the best."""
        return float(1 - self.chance.sum() / self.highest.sum())

    def share(self, since: int = 0) -> float:
        return float(self.best[self.age >= since].mean())


class Newsroom:
    """A surface at work: its fold, its model, its exploration."""

    def __init__(self, world: World, model: Model, folding: Folding, clock: Clock) -> None:
        self._world, self._model, self._folding, self._clock = world, model, folding, clock
        self._known = {item: Attributes(json.loads(text)) for item, text in world.attributes.items()}
        self._version = 0

    def choose(self, request: int, way: str, draws: VersionDraws, champion: LoadedChampion) -> str:
        """The headline that serving would show."""
        world = self._world
        items = world.variants[world.article[request]]
        user, name, context, moment = world.shown.row(request, named=True)["user_id"], f"r{request}", {}, 0.0
        row = world.shown.row(request, named=True)
        context, moment = json.loads(row["context"]), row["shown_at"].timestamp()
        chance = of_request("headlines", user, name)
        if way == EVENLY:
            return items[int(chance.integers(len(items)))]
        attributes = [self._known[item] for item in items]
        values = self._folding.engine.read(Candidates(user, items, context, (), attributes), moment)
        nothing = np.zeros((len(items), 0), np.float32)
        scored = draws.score(champion, to_score(values, nothing, SURFACE.features.schema, moment))
        return items[int(arrange(scored, 1, WAYS[way], chance).places[0])]

    def champion(self) -> LoadedChampion:
        """The model as serving has it."""
        self._version += 1
        promoted = PromotedVersion(self._version, str(self._version), "", 0.0)
        return LoadedChampion(promoted, LoadedVersion(self._model, f"v{self._version}"), scorer_of(self._model))

    def run(self, way: str) -> Shown:
        """All requests after the first stretch."""
        world, began = self._world, self._clock()
        draws, champion = VersionDraws(WAYS[way], SURFACE.features), self.champion()
        ticks = ((world.shown["shown_at"].dt.epoch("us").to_numpy() - _us(START)) // (_us(START + TICK) - _us(START))).astype(
            np.int64
        )
        frames, last, shown = [], int(ticks[world.first]), list[str]()
        bounds = np.flatnonzero(np.diff(ticks[world.first :], prepend=-1)) + world.first
        for begin, end in zip(bounds.tolist(), [*bounds[1:].tolist(), len(ticks)], strict=True):
            items = [self.choose(request, way, draws, champion) for request in range(begin, end)]
            shown += items
            tick = int(ticks[begin])
            frames.append(self._folding.fold(world.rows(begin, items), START + (tick + 1) * TICK - US).examples)
            if tick // EVERY != last // EVERY:
                self._model, _ = fine_tune(self._model, joined(frames), seed=tick, device="cpu", clock=self._clock)
                frames, last, champion = [], tick, self.champion()
        return self._judged(shown, self._clock() - began)

    def _judged(self, shown: list[str], cpu_s: float) -> Shown:
        world, seen = self._world, dict[str, int]()
        best, chance, highest, age = list[bool](), list[float](), list[float](), list[int]()
        for request, item in enumerate(shown, world.first):
            article = world.article[request]
            seen[article] = seen.get(article, -1) + 1
            if world.new[request]:
                first = world.best(request)
                best.append(item == first)
                chance.append(world.chance(request, item))
                highest.append(world.chance(request, first))
                age.append(seen[article])
        return Shown(np.array(best), np.array(chance), np.array(highest), np.array(age), cpu_s)


US = timedelta(microseconds=1)


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // US


def joined(parts: list[Examples]) -> Examples:
    """One after another; each row is a request."""
    every = concat(parts)
    return replace(every, request=np.arange(len(every)))


def bench(config: HeadlineConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run every way."""
    world = world_of(config)
    folding = Folding(SURFACE.features)
    begins = START + timedelta(days=config.first)
    first = folding.fold(world.shown[: world.first], begins - US)
    model = Model.new(SURFACE.layout, SURFACE.design, seed=0).explored(True)
    model, _ = fine_tune(model, first.examples, seed=0, device="cpu", clock=clock)
    progress(f"{len(world.shown):,} requests, {world.new.sum():,} of them of {len({a for a, n in zip(world.article, world.new) if n})} new articles")
    found = dict[str, Shown]()
    for way in WAYS:
        found[way] = Newsroom(world, model, copy.deepcopy(folding), clock).run(way)
        one = found[way]
        progress(f"{way}: best {one.share():.3f}, from the 500th {one.share(500):.3f}, from 1000th {one.share(1000):.3f}, regret {one.regret:.4f}, rate {one.chance.mean():.4f} of {one.highest.mean():.4f}, {one.cpu_s:.0f} s")
    rows = []
    for way, one in found.items():
        rows.append(Row(f"shows that go to the best, {way}", one.share()))
    return Table("headlines", machine(), rows)


if __name__ == "__main__":
    import sys, time
    c = HeadlineConfig.quick() if "quick" in sys.argv else HeadlineConfig(seed=int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    bench(c, clock=time.process_time, progress=lambda t: print(t, flush=True))
