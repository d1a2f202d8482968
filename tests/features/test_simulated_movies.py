"""The simulated movies: ratings as the example surface reads them, with tastes and fashions in them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.simulated_movies import GENRES, SimulatedMovies, simulate_movies
from flows.surfaces.movies import SURFACE

START = datetime(2026, 3, 1, tzinfo=UTC)


def movies_of(seed: int) -> SimulatedMovies:
    return simulate_movies(seed=seed, start=START, days=60, users=500, movies=400, ratings_per_day=400)


@pytest.fixture(scope="module")
def made() -> SimulatedMovies:
    return movies_of(7)


def test_the_same_seed_makes_the_same_ratings(made: SimulatedMovies) -> None:
    again, other = movies_of(7), movies_of(8)
    assert made.ratings.equals(again.ratings)
    assert made.movies.equals(again.movies)
    assert not made.ratings.equals(other.ratings)


def test_ratings_import_as_the_surface_reads_them(made: SimulatedMovies, database: str, tmp_path: Path) -> None:
    ratings, movies = tmp_path / "ratings.csv", tmp_path / "movies.csv"
    made.ratings.write_csv(ratings)
    made.movies.write_csv(movies)
    now = datetime(2026, 6, 1, tzinfo=UTC)
    files = Files(ratings, items=movies)
    done = import_log(database, "movies", files, times=FileTimes(now), label="rating", mapping=SURFACE.log)
    assert (done.imported, done.dead_letters) == (made.ratings.height, 0)


def test_ratings_are_believable(made: SimulatedMovies) -> None:
    ratings = made.ratings
    assert ratings["timestamp"].is_sorted()
    assert ratings["timestamp"][0] >= START.timestamp()
    assert ratings["timestamp"][-1] < START.timestamp() + 60 * 86_400
    assert ratings.height == pytest.approx(60 * 400, rel=0.1)
    assert ratings.select("userId", "movieId").is_duplicated().sum() == 0, "nobody rates a movie twice"
    assert set(ratings["rating"]) <= set(np.arange(0.5, 5.5, 0.5))
    assert 0.4 < (ratings["rating"] >= 4).sum() / ratings.height < 0.65
    assert set(made.movies["genres"].str.split("|").explode()) == set(GENRES)


def test_a_users_past_ratings_of_a_genre_foretell_the_next(made: SimulatedMovies) -> None:
    """Of those that a user liked more than most of what they rated, they like the next more than others do."""
    rows = made.ratings.join(made.movies.with_columns(pl.col("genres").str.split("|")), on="movieId").explode("genres")
    over = rows.with_columns((pl.col("rating") - pl.col("rating").mean().over("movieId")).alias("over"))
    half = pl.col("timestamp") < pl.col("timestamp").median().over("userId")
    means = [
        over.filter(part).group_by("userId", "genres").agg(pl.col("over").mean(), pl.len()).filter(pl.col("len") >= 5)
        for part in (half, ~half)
    ]
    both = means[0].join(means[1], on=["userId", "genres"])
    assert both.height > 200
    assert np.corrcoef(both["over"].to_numpy(), both["over_right"].to_numpy())[0, 1] > 0.3


def test_what_is_in_fashion_turns(made: SimulatedMovies) -> None:
    rows = made.ratings.join(made.movies, on="movieId").with_columns(
        ((pl.col("timestamp") - int(START.timestamp())) // (15 * 86_400)).alias("part")
    )
    moved = []
    for genre in GENRES:
        of = (
            rows.filter(pl.col("genres").str.contains(genre)).group_by("part").agg(pl.col("rating").mean()).sort("part")
        )
        moved.append(np.ptp(of["rating"].to_numpy()))
    assert np.mean(moved) > 0.15


@pytest.mark.parametrize("wrong", [{"days": 0}, {"users": 0}, {"start": datetime(2026, 3, 1)}])  # noqa: DTZ001
def test_what_cannot_be_simulated_is_refused(wrong: dict[str, object]) -> None:
    sizes: dict[str, object] = {"seed": 1, "start": START, "days": 1, "users": 9, "movies": 9, "ratings_per_day": 9}
    with pytest.raises(ValueError, match="simulate_movies needs a start with a zone and positive numbers"):
        simulate_movies(**{**sizes, **wrong})  # type: ignore[arg-type]
