"""The seeded logs on which the demo shows the examples that come with Millrace: small, made at once, and ending now."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from features.ingest.log_files import Files
from flows.backtest.run import BacktestConfig

SEED = 7

World = Callable[[Path, datetime], BacktestConfig]
"""Writes a log that ends at most a day before a time, and its other files, into a folder that is there."""


def feed(folder: Path, now: datetime) -> BacktestConfig:
    """A day and a half of a small news site, updated by the hour."""
    from features.ingest.simulate import simulate

    days = 1.5
    log, items, feedback = simulate(
        seed=SEED,
        start=now - timedelta(days=days + 1),
        days=days,
        users=3_000,
        items_per_day=400,
        requests_per_day=14_000,
    )
    files = _written(folder, log, items, feedback)
    return BacktestConfig(files, warmup=timedelta(days=1), every=timedelta(hours=1))


def shop(folder: Path, now: datetime) -> BacktestConfig:
    """Two days of a small shop, updated every two hours: clicks are rare, and purchases come late."""
    from features.ingest.simulated_shop import simulate_shop

    days = 2.0
    made = simulate_shop(
        seed=SEED, start=now - timedelta(days=days + 1), days=days, users=2_500, items=1_500, requests_per_day=6_000
    )
    log = made.log.rename({"entry": "channel"})
    files = _written(folder, log, made.items, made.feedback)
    return BacktestConfig(files, warmup=timedelta(days=1), every=timedelta(hours=2))


def movies(folder: Path, now: datetime) -> BacktestConfig:
    """Three months of ratings, updated every other day, since tastes last."""
    from features.ingest.simulated_movies import simulate_movies

    days = 90.0
    made = simulate_movies(
        seed=SEED, start=now - timedelta(days=days + 1), days=days, users=2_000, movies=800, ratings_per_day=1_000
    )
    files = _written(folder, made.ratings, made.movies)
    return BacktestConfig(files, warmup=timedelta(days=70), every=timedelta(days=2))


def search(folder: Path, now: datetime) -> BacktestConfig:
    """A day and a half of a small shop's search, updated every two hours; after 18 hours the meanings turn."""
    from features.ingest.simulated_search import simulate_search

    days = 1.5
    made = simulate_search(
        seed=SEED,
        start=now - timedelta(days=days + 1),
        days=days,
        users=2_000,
        items=2_000,
        queries=60,
        requests_per_day=6_500,
    )
    return BacktestConfig(_written(folder, made.log, made.items), warmup=timedelta(hours=12), every=timedelta(hours=2))


def headlines(folder: Path, now: datetime) -> BacktestConfig:
    """Two days of a small news site's headlines, updated every two hours: articles enough to tell which words gain."""
    from features.ingest.simulated_headlines import simulate_headlines

    days = 2.0
    made = simulate_headlines(
        seed=SEED,
        start=now - timedelta(days=days + 1),
        days=days,
        users=3_000,
        articles_per_day=40,
        requests_per_day=20_000,
    )
    return BacktestConfig(_written(folder, made.log, made.items), warmup=timedelta(days=1), every=timedelta(hours=2))


WORLDS: Mapping[str, World] = {"feed": feed, "headlines": headlines, "movies": movies, "search": search, "shop": shop}
"""By the name of the surface."""


def world_of(surface: str) -> World:
    """Raises ValueError for a surface that has none."""
    if surface not in WORLDS:
        raise ValueError(
            f"--surface {surface}: there are simulated logs of {', '.join(WORLDS)} alone; give a log of yours: --log"
        )
    return WORLDS[surface]


def _written(folder: Path, log: pl.DataFrame, items: pl.DataFrame, feedback: pl.DataFrame | None = None) -> Files:
    log.write_parquet(folder / "log.parquet")
    items.write_parquet(folder / "items.parquet")
    if feedback is not None:
        feedback.write_parquet(folder / "feedback.parquet")
    return Files(
        folder / "log.parquet",
        items=folder / "items.parquet",
        feedback=None if feedback is None else folder / "feedback.parquet",
    )
