"""A seeded log of movie ratings that were never given: for the demo and for tests, where there is no real data.

Movies are of one to three genres, some better than others, some much better known; new ones come out all the time and
are rated most in their first weeks. Users join all the time, have tastes by genre, rate some movies an evening, those
that they expect to like more often, and none twice. What is in fashion turns within weeks, genre by genre.

Nothing here is measured anywhere; it is only meant to be believable.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

GENRES = ("Action", "Comedy", "Crime", "Documentary", "Drama", "Family", "Horror", "Musical", "Romance", "Thriller")

EVENING_RATINGS = 8.0
"""Ratings that a user gives at a time, on average."""

FASHION_DAYS = (30.0, 80.0)
"""Days in which a genre comes into fashion, goes out and comes back."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SimulatedMovies:
    """Ratings and movies, with the columns of the example surface ``movies``."""

    ratings: pl.DataFrame
    """``userId, movieId, rating, timestamp`` in order of time: half stars to 5, and seconds since 1970."""

    movies: pl.DataFrame
    """``movieId, genres``: the genres with a bar between them."""


def simulate_movies(
    *, seed: int, start: datetime, days: float, users: int, movies: int, ratings_per_day: int
) -> SimulatedMovies:
    """Ratings of ``days`` from ``start``, about so many a day; the same arguments give the same frames.

    Raises ValueError for a start without a zone or a number not above 0.
    """
    if min(users, movies, ratings_per_day) < 1 or days <= 0 or start.tzinfo is None:
        raise ValueError(
            f"simulate_movies needs a start with a zone and positive numbers, not start={start}, days={days},"
            f" users={users}, movies={movies}, ratings_per_day={ratings_per_day}"
        )
    random = np.random.default_rng(seed)
    of_genre = random.random((movies, len(GENRES))).argsort(axis=1) < random.integers(1, 4, (movies, 1))
    quality, fame = random.normal(0, 0.45, movies), random.normal(0, 1.0, movies)
    released = np.where(random.random(movies) < 0.6, -1000.0, random.uniform(-20, days, movies))
    taste, mildness = random.normal(0, 0.5, (users, len(GENRES))), random.normal(0, 0.3, users)
    phase, period = random.uniform(0, 2 * np.pi, len(GENRES)), random.uniform(*FASHION_DAYS, len(GENRES))

    evening, user = _evenings(random, days, users, ratings_per_day)
    mean = of_genre / of_genre.sum(axis=1, keepdims=True)
    rated: dict[int, set[int]] = {}
    parts: list[tuple[Ints, Ints, Floats, Floats]] = []
    for day, who in zip(evening, user.tolist(), strict=True):
        fashion = 0.5 * np.sin(2 * np.pi * day / period + phase)
        liking = quality + 1.6 * (mean @ (taste[who] + fashion))
        age = day - released
        pull = fame + 0.7 * liking + 1.5 * np.exp(-np.maximum(age, 0) / 15) + random.gumbel(size=movies)
        seen = rated.setdefault(who, set())
        pull[(age < 0) | np.isin(np.arange(movies), list(seen))] = -np.inf
        count = min(int(random.geometric(1 / EVENING_RATINGS)), int(np.isfinite(pull).sum()))
        chosen = np.argsort(-pull, kind="stable")[:count]
        seen.update(chosen.tolist())
        stars = 3.6 + mildness[who] + liking[chosen] + random.normal(0, 0.6, count)
        at = day * 86_400 + np.cumsum(random.gamma(2.0, 12.0, count) + 2)
        parts.append((np.full(count, who), chosen, np.clip(np.round(stars * 2) / 2, 0.5, 5.0), at))
    users_of, movies_of, ratings, seconds = (np.concatenate(column) for column in zip(*parts, strict=True))
    log = pl.DataFrame(
        {
            "userId": users_of + 1,
            "movieId": movies_of + 1,
            "rating": ratings,
            "timestamp": int(start.timestamp()) + np.floor(seconds).astype(np.int64),
        }
    )
    genres = ["|".join(name for name, has in zip(GENRES, row, strict=True) if has) for row in of_genre]
    until = int(start.timestamp() + days * 86_400)
    return SimulatedMovies(
        log.filter(pl.col("timestamp") < until).sort("timestamp", "userId", "movieId"),
        pl.DataFrame({"movieId": np.arange(movies) + 1, "genres": genres}),
    )


def _evenings(random: np.random.Generator, days: float, users: int, per_day: int) -> tuple[Floats, Ints]:
    """When users sit down to rate, in days from the start and in order, and who: each from the day they joined, some
    far more often than others."""
    count = max(1, round(days * per_day / EVENING_RATINGS))
    joined = np.where(random.random(users) < 0.4, 0.0, random.uniform(0, days, users))
    activity = random.permutation(1 / (np.arange(users) + 10) ** 0.6)
    user = random.choice(users, count, p=activity / activity.sum())
    day = joined[user] + random.random(count) * (days - joined[user])
    order = np.argsort(day, kind="stable")
    return day[order], user[order]
