"""One rule for unlike logs: what the counters of ``standard`` and the learner make of each, beside peers.

    python -m benchmarks breadth --folder logs

The logs are a news feed, ratings of films, clicks on ads with rare installs, a page of banners, and a seeded shop. A
surface is made of each by its columns alone, the pace of its counters by its warm-up. All learners are tested before
they are trained: ours and Vowpal Wabbit's FTRL-proximal in the same windows, Vowpal Wabbit's coin betting after every
event, and LightGBM on our counters, fitted anew on all so far whenever that has grown by a tenth.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import vw
from benchmarks.bench import Clock, Progress
from benchmarks.cold import trees
from benchmarks.prequential import StreamResult, Variant, prequential, reported
from benchmarks.stream import EVERY_EVENT, HOUR, Stream, folded, schedule
from benchmarks.table import Row, Table, machine
from features.declare.columns import Column, Id, Tags, Text
from features.declare.features import Features
from features.declare.half_lives import HalfLives, half_lives
from features.declare.labels import Label
from features.declare.standard import standard
from features.ingest.log_files import Files
from flows.drill.logs import Log, log_of, read_log
from flows.surface import Surface
from flows.surfaces.single import SURFACE as SINGLE
from models import metrics

DAY = timedelta(days=1)

GROWTH = 1.1
"""LightGBM is fitted anew when there is so much to train on, times what there was."""

PRICE_BANDS = 12


@dataclass(frozen=True)
class UnlikeLog:
    """A log, and what is said of it: nothing beyond its columns and its label."""

    name: str
    files: tuple[str, ...]
    """What must be in the folder."""

    read: Callable[[Path], Log]
    columns: tuple[Column, ...]
    label: Label
    warmup: timedelta | None = DAY
    """None: a third of the impressions."""

    every: timedelta = HOUR
    fewest: int = 1
    step: timedelta = HOUR
    """Of the fold."""


@dataclass(frozen=True)
class BreadthConfig:
    """What to run."""

    folder: Path | None = None
    """Where the files lie; a log whose files are not there is left out."""

    lists_per_day: int = 3_000
    """Of the shop, for four days."""

    seed: int = 0


def feed(folder: Path) -> Log:
    log, items = folder / "globo_feed.parquet", folder / "globo_items.parquet"
    return read_log("feed", Files(log, items), now=datetime.now(UTC), until=datetime(2017, 10, 5, tzinfo=UTC))


def films(folder: Path) -> Log:
    return read_log(
        "films",
        Files(folder / "movielens_feed.parquet", folder / "movielens_items.parquet"),
        now=datetime.now(UTC),
    )


def ads(folder: Path) -> Log:
    return read_log(
        "ads",
        Files(folder / "ad_conversions.parquet"),
        now=datetime.now(UTC),
        mapping=SINGLE.log,
        label="install",
    )


def banners(folder: Path) -> Log:
    """What was shown at random; users are distinguished by their four features alone."""
    rows = pl.read_parquet(folder / "open_bandit.parquet").filter(pl.col("behavior_policy") == "random")
    traits = [f"user_feature_{number}" for number in range(4)]
    rows = rows.sort("timestamp", maintain_order=True).select(
        pl.int_range(pl.len()).alias("impression_id"),
        pl.int_range(pl.len()).alias("request_id"),
        pl.concat_str(traits, separator="_").alias("user_id"),
        pl.concat_str("campaign", "item_id", separator="_").alias("item_id"),
        "position",
        pl.col("timestamp").alias("shown_at"),
        (pl.col("click") == 1).alias("clicked"),
        "campaign",
        pl.col("position").cast(pl.String).alias("place"),
        *traits,
    )
    return log_of("banners", rows, None)


def shop(config: BreadthConfig, _: Path) -> Log:
    from features.ingest.simulated_shop import simulate_shop

    lists = config.lists_per_day
    made = simulate_shop(
        seed=config.seed,
        start=datetime(2026, 1, 5, tzinfo=UTC),
        days=4.0,
        users=lists,
        items=max(lists * 2 // 3, 50),
        requests_per_day=lists,
    )
    price = made.items["price"].to_numpy()
    bands = np.searchsorted(np.quantile(price, np.linspace(0, 1, PRICE_BANDS + 1)[1:-1]), price)
    return log_of("shop", made.log, made.items.with_columns(pl.Series(bands).cast(pl.String).alias("price_band")))


def logs(config: BreadthConfig) -> Iterator[UnlikeLog]:
    """Those that can be read: the shop, and what the folder holds."""
    contexts = (Id("device"), Id("os"), Id("region"), Id("referrer"))
    click = Label("click", within=timedelta(minutes=30))
    words = (Tags("categories", of="item"), Text("title", of="item"))
    traits = tuple(Id(f"user_feature_{number}") for number in range(4))
    products = (
        Id("category", of="item"),
        Id("brand", of="item"),
        Id("price_band", of="item"),
        Id("device"),
        Id("entry"),
    )
    known = (
        UnlikeLog("shop", (), partial(shop, config), products, click),
        UnlikeLog("ads", ("ad_conversions.parquet",), ads, SINGLE.features.columns, SINGLE.features.label),
        UnlikeLog(
            "films", ("movielens_feed.parquet", "movielens_items.parquet"), films, words, click, None, 90 * DAY, 1, DAY
        ),
        UnlikeLog(
            "banners",
            ("open_bandit.parquet",),
            banners,
            (Id("campaign"), Id("place"), *traits),
            click,
            2 * DAY,
        ),
        UnlikeLog(
            "feed",
            ("globo_feed.parquet", "globo_items.parquet"),
            feed,
            (Id("section", of="item"), *contexts),
            click,
            fewest=500,
        ),
    )
    for log in known:
        if not log.files or (config.folder is not None and all((config.folder / file).exists() for file in log.files)):
            yield log


def bench(config: BreadthConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it; ``progress`` gets each learner's outcome as it ends."""
    rows = list[Row]()
    for unlike in logs(config):
        log = unlike.read(config.folder or Path())
        shown = log.shown["shown_at"]
        warmup = shown[len(shown) // 3] - shown[0] if unlike.warmup is None else unlike.warmup
        pace = pace_of(log.until(shown[0] + warmup))
        surface = surface_of(unlike, pace)
        stream = folded(log, surface, warmup=warmup, step=unlike.step)
        numbers = len(stream.layout.dense)
        progress(f"{unlike.name}: {len(stream.test):,} impressions scored, {numbers} numbers, {pace}")
        rows += rows_of(unlike, stream, list(learners(unlike, surface, stream, config.seed, clock, progress)))
    return Table("breadth", machine(), rows)


def pace_of(log: Log) -> HalfLives:
    shown = log.shown
    seconds = shown["shown_at"].dt.epoch("us").to_numpy() / 1e6
    return half_lives(shown["item_id"], shown["user_id"], seconds, shown["clicked"])


def surface_of(unlike: UnlikeLog, pace: HalfLives) -> Surface:
    """The surface of such columns and such a pace."""
    families = standard(unlike.columns, short=pace.short, long=pace.long, user=pace.user, rate=pace.rate)
    features = Features(unlike.columns, (unlike.label,), families, base_rate=pace.rate)
    return Surface(name=unlike.name, features=features, fewest=unlike.fewest)


def learners(
    unlike: UnlikeLog, surface: Surface, stream: Stream, seed: int, clock: Clock, progress: Progress
) -> Iterator[StreamResult]:
    """Ours, then the peers."""
    variant = Variant("Millrace", surface.design, unlike.every, seed=seed)
    yield reported(prequential(variant, stream, fewest=surface.fewest, clock=clock), progress)
    text = vw.VwText.of(stream, surface.features)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        for peer, every, how in (
            (vw.IN_WINDOWS, unlike.every, "in windows"),
            (vw.CROSSED, EVERY_EVENT, "after every event"),
        ):
            fewest = 1 if every == EVERY_EVENT else surface.fewest
            name = f"Vowpal Wabbit {how}"
            found = vw.prequential(peer, text, stream, every=every, fewest=fewest, folder=Path(folder), name=name)
            yield reported(found, progress)
    yield reported(boosting(unlike, surface, stream, seed), progress)


def boosting(unlike: UnlikeLog, surface: Surface, stream: Stream, seed: int) -> StreamResult:
    """LightGBM on our counters, fitted on all so far each time that has grown by a tenth."""
    began = time.process_time()
    warm, steps = schedule(stream, unlike.every, fewest=surface.fewest)
    fits = [(stream.warm, warm)]  # the first row scored with it, and how many it was fitted on
    for step in steps:
        if step.train.stop >= fits[-1][1] * GROWTH and step.test.stop > fits[-1][0]:
            fits.append((step.test.stop, step.train.stop))
    ends = [*(start for start, _ in fits[1:]), len(stream.examples)]
    parts = [
        trees(stream.examples[:trained], stream.examples[start:end], seed)
        for (start, trained), end in zip(fits, ends, strict=True)
        if end > start
    ]
    return StreamResult("LightGBM", stream, np.concatenate(parts), time.process_time() - began, len(fits))


def rows_of(unlike: UnlikeLog, stream: Stream, found: list[StreamResult]) -> Iterator[Row]:
    """Ours beside each peer, and beside the share clicked of all that was scored."""
    label, (ours, *peers) = stream.test.label, found
    auc, log_loss = f"AUC, {unlike.name}", f"log loss, {unlike.name}"
    for peer in peers:
        yield Row(auc, ours.auc, peer=peer.name, theirs=peer.auc, goal="not lower", met=ours.auc >= peer.auc)
    loss = metrics.log_loss(ours.scores, label)
    for peer in peers:
        yield Row(log_loss, loss, peer=peer.name, theirs=metrics.log_loss(peer.scores, label))
    base = metrics.log_loss(np.full(len(label), float(np.mean(label))), label)
    yield Row(log_loss, loss, peer="share clicked", theirs=base, goal="lower", met=loss < base)
