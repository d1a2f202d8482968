"""Headlines, shown by each way to choose: how often the best is shown, and what is lost beside always showing it; and
what stopping losers stops.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.headline_stops import stop_rows
from benchmarks.table import Row, Table, machine
from features.counters.event_values import Candidates
from features.counters.item_values import Attributes
from features.identity.key import key_of
from features.ingest.log_files import Files
from features.ingest.simulated_headlines import SimulatedHeadlines, simulate_headlines
from flows.drill.logs import read_surface_log
from flows.drill.windows import Folding
from flows.surfaces.headlines import SURFACE
from models.examples import Examples, concat
from models.exploration.epsilon_greedy import EpsilonGreedy
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
from models.text.pretrained import base_of
from models.text.texts import Texts, VectorTable

START = datetime(2026, 1, 5, tzinfo=UTC)

TICK = timedelta(minutes=1)
"""How far counters are behind."""

EVERY = 120
"""Ticks between updates."""

US = timedelta(microseconds=1)

EVENLY, GREEDY, EPSILON, THOMPSON = "evenly", "the best by its score", "epsilon-greedy", "Thompson"

WAYS: Mapping[str, Explorer | None] = {
    EVENLY: None,
    GREEDY: None,
    EPSILON: EpsilonGreedy(),
    THOMPSON: Thompson(),
}


@dataclass(frozen=True)
class HeadlineConfig:
    """What to run."""

    seeds: Sequence[int] = (0, 1, 2)
    days: float = 2.0
    first: float = 0.6
    """Days of them that are drawn evenly."""
    requests_per_day: int = 20_000
    articles_per_day: int = 10
    users: int = 3_000
    lives: int = 200
    """Articles of which it is simulated what is stopped."""

    @staticmethod
    def quick() -> HeadlineConfig:
        return HeadlineConfig((0,), days=0.6, first=0.3, requests_per_day=4_000, articles_per_day=8, lives=20)


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
    """[requests]; log-odds of a click with a plain headline."""
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
    texts: Texts
    """The headlines, with their vectors."""

    def chance(self, request: int, item: str) -> float:
        return float(1 / (1 + np.exp(-self.pull[request] - self.gain[item])))

    def best(self, request: int) -> str:
        return max(self.variants[self.article[request]], key=self.gain.__getitem__)

    def rows(self, begin: int, items: Sequence[str]) -> pl.DataFrame:
        """The log's rows of requests from ``begin`` on, had these been shown."""
        end = begin + len(items)
        clicked = pl.Series([self.luck[at] < self.chance(at, item) for at, item in enumerate(items, begin)])
        at = pl.col("shown_at") + pl.Series(self.wait[begin:end]).cast(pl.Duration("us"))
        return self.shown[begin:end].with_columns(
            item_id=pl.Series(items),
            attributes=pl.Series([self.attributes[item] for item in items]),
            clicked=clicked,
            clicked_at=pl.when(clicked).then(at),
            value=pl.when(clicked).then(1.0),
        )


def world_of(config: HeadlineConfig, seed: int) -> World:
    """The same config and seed give the same."""
    made = simulate_headlines(
        seed=seed,
        start=START,
        days=config.days,
        users=config.users,
        articles_per_day=config.articles_per_day,
        requests_per_day=config.requests_per_day,
    )
    shown, random = _shown(made), np.random.default_rng([seed, 1])
    of = dict(made.items.select("item_id", "article").iter_rows())
    begins = START + timedelta(days=config.first)
    late = set(made.items.filter(pl.col("born_at") > begins)["article"].to_list())
    article = [of[item] for item in shown["item_id"].to_list()]
    names = ("article", "headline", "section")
    return World(
        shown,
        dict(made.items.group_by("article", maintain_order=True).agg("item_id").iter_rows()),
        article,
        made.truth["pull"].to_numpy(),
        dict(made.wordings.select("item_id", "gain").iter_rows()),
        random.random(len(shown)),
        (1e6 * (1 + random.exponential(6.0, len(shown)))).astype(np.int64),
        {row["item_id"]: json.dumps({name: row[name] for name in names}) for row in made.items.iter_rows(named=True)},
        np.array([name in late for name in article]),
        int(shown["shown_at"].search_sorted(begins)),
        texts_of(made.items["headline"].unique(maintain_order=True).to_list()),
    )


def texts_of(headlines: Sequence[str]) -> Texts:
    """As the surface reads them. Raises LacksTextExtra."""
    design = SURFACE.design.text
    assert design is not None
    base = base_of(design.encoder, design.layers, wanted_by="the bench of headlines")
    by_key = {key_of(design.item, text): text for text in headlines}
    return Texts(base, by_key, VectorTable.of(np.array([*by_key], np.int64), base.encode([*by_key.values()])))


def _shown(made: SimulatedHeadlines) -> pl.DataFrame:
    with tempfile.TemporaryDirectory(prefix="millrace-headlines-") as folder:
        made.log.write_parquet(Path(folder) / "log.parquet")
        made.items.write_parquet(Path(folder) / "items.parquet")
        files = Files(Path(folder) / "log.parquet", items=Path(folder) / "items.parquet")
        return read_surface_log(SURFACE, files, now=START + timedelta(days=60)).shown


@dataclass(frozen=True, eq=False)
class Shown:
    """What one way showed after the first stretch, of articles that were new: columns by request, in order."""

    requests: pl.DataFrame
    """``article, best`` (whether the best was shown), ``chance`` (of a click), ``highest`` (on the best), ``age`` (how
    manieth request of its article)."""

    def share(self, since: int = 0) -> float:
        """Of the requests from the so manieth of their article on, those that showed the best."""
        return float(np.mean(self.requests.filter(pl.col("age") >= since)["best"].to_numpy()))

    @property
    def lost(self) -> NDArray[np.float64]:
        """[articles]; clicks lost, a request, beside the best."""
        lost = pl.col("highest") - pl.col("chance")
        return self.requests.group_by("article").agg(lost.sum(), pl.len()).sort("article")["highest"].to_numpy()

    @property
    def regret(self) -> float:
        """Clicks lost, as a share of those of the best."""
        chance, highest = (self.requests[name].to_numpy().sum() for name in ("chance", "highest"))
        return float(1 - chance / highest)


class Newsroom:
    """A surface at work: its fold, its model, its exploration."""

    def __init__(self, world: World, model: Model, folding: Folding, clock: Clock) -> None:
        self._world, self._model, self._folding, self._clock = world, model, folding, clock
        self._known = {item: Attributes(json.loads(text)) for item, text in world.attributes.items()}
        self._version = 0

    def run(self, way: str) -> Shown:
        """All requests after the first stretch."""
        world = self._world
        draws, champion = VersionDraws(WAYS[way]), self._champion()
        ticks = (world.shown["shown_at"] - START).dt.total_seconds().to_numpy() // round(TICK.total_seconds())
        bounds = np.flatnonzero(np.diff(ticks[world.first :], prepend=-1)) + world.first
        frames, last, shown = list[Examples](), int(ticks[world.first]), list[str]()
        for begin, end in zip(bounds.tolist(), [*bounds[1:].tolist(), len(ticks)], strict=True):
            items = [self._choose(request, way, draws, champion) for request in range(begin, end)]
            shown += items
            tick = int(ticks[begin])
            frames.append(self._folding.fold(world.rows(begin, items), START + (tick + 1) * TICK - US).examples)
            if tick // EVERY != last // EVERY:
                window = joined(frames, world.texts)
                self._model, _ = fine_tune(self._model, window, seed=tick, device="cpu", clock=self._clock)
                frames, last, champion = [], tick, self._champion()
        return self._judged(shown)

    def _choose(self, request: int, way: str, draws: VersionDraws, champion: LoadedChampion) -> str:
        """The headline that serving would show."""
        items, row = self._world.variants[self._world.article[request]], self._world.shown.row(request, named=True)
        chance = of_request("headlines", row["user_id"], row["request_id"])
        if way == EVENLY:
            return items[int(chance.integers(len(items)))]
        attributes, moment = [self._known[item] for item in items], row["shown_at"].timestamp()
        candidates = Candidates(row["user_id"], items, json.loads(row["context"]), (), attributes)
        values = self._folding.engine.read(candidates, moment)
        nothing = np.zeros((len(items), 0), np.float32)
        scored = draws.score(champion, to_score(values, nothing, SURFACE.features.schema, moment, self._world.texts))
        return items[int(arrange(scored, 1, WAYS[way], chance).places[0])]

    def _champion(self) -> LoadedChampion:
        """The model as serving has it."""
        self._version += 1
        promoted = PromotedVersion(self._version, str(self._version), "", 0.0)
        return LoadedChampion(promoted, LoadedVersion(self._model, f"v{self._version}"), scorer_of(self._model))

    def _judged(self, shown: Sequence[str]) -> Shown:
        world, seen, rows = self._world, dict[str, int](), list[tuple[str, bool, float, float, int]]()
        for request, item in enumerate(shown, world.first):
            article = world.article[request]
            seen[article] = seen.get(article, -1) + 1
            if world.new[request]:
                best = world.best(request)
                chances = world.chance(request, item), world.chance(request, best)
                rows.append((article, item == best, *chances, seen[article]))
        return Shown(pl.DataFrame(rows, schema=["article", "best", "chance", "highest", "age"], orient="row"))


def joined(parts: Sequence[Examples], texts: Texts) -> Examples:
    """One after another, with their texts; each row is a request."""
    every = concat([*parts])
    return replace(every, request=np.arange(len(every)), texts=texts)


def run_seed(config: HeadlineConfig, seed: int, *, clock: Clock, progress: Progress) -> dict[str, Shown]:
    """Every way over one world."""
    world = world_of(config, seed)
    folding = Folding(SURFACE.features)
    first = folding.fold(world.shown[: world.first], START + timedelta(days=config.first) - US)
    model = Model.new(SURFACE.layout, SURFACE.design, seed=0).explored(by_posterior=True)
    model, _ = fine_tune(model, joined([first.examples], world.texts), seed=0, device="cpu", clock=clock)
    found = dict[str, Shown]()
    for way in WAYS:
        found[way] = one = Newsroom(world, model, copy.deepcopy(folding), clock).run(way)
        progress(f"seed {seed}, {way}: the best in {one.share():.3f}, {one.regret:.4f} of the clicks lost")
    return found


def bench(config: HeadlineConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run every way on every seed, and what is stopped."""
    by_seed = [run_seed(config, seed, clock=clock, progress=progress) for seed in config.seeds]
    rows = list[Row]()
    for way in WAYS:
        one = [found[way] for found in by_seed]
        every = Shown(pl.concat([shown.requests for shown in one]))
        rows += [
            Row(f"shows of the best, {way}", every.share()),
            Row(f"the same from an article's 1,000th on, {way}", every.share(1_000)),
            Row(f"clicks lost beside the best, {way}", every.regret),
        ]
        if way not in (EVENLY, GREEDY):
            beside = np.concatenate([found[GREEDY].lost - found[way].lost for found in by_seed])
            total, error = float(beside.sum()), float(beside.std(ddof=1) * np.sqrt(len(beside)))
            base = sum(float(found[way].requests["highest"].sum()) for found in by_seed)
            rows.append(Row(f"the same less than by score alone, {way}", f"{total / base:+.4f} ± {error / base:.4f}"))
    rows += stop_rows(config.lives, progress=progress)
    return Table("headlines", machine(), rows)
