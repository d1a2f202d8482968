"""``millrace init``: a log that nobody has described becomes a surface's file that is sound, and nothing is lost."""

import random
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.ingest.inferred.inference import infer
from features.ingest.sample import Sample
from flows.cli.init_commands import surface_name
from flows.surface_files import read_file
from flows.surface_text import surface_text
from tests.commands import millrace

SEED = 3
ROWS = 1500


def ratings() -> pl.DataFrame:
    rng = np.random.default_rng(SEED)
    return pl.DataFrame(
        {
            "userId": rng.integers(0, 90, ROWS),
            "movieId": rng.integers(0, 60, ROWS),
            "rating": rng.integers(1, 6, ROWS),
            "timestamp": np.sort(rng.integers(0, 90 * 86400, ROWS)) + int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()),
        }
    )


def movies() -> pl.DataFrame:
    genres = ("Drama|War", "Comedy", "War")
    return pl.DataFrame({"movieId": range(60), "genres": [genres[number % 3] for number in range(60)]})


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"MILLRACE_SURFACES": str(tmp_path / "surfaces"), "MILLRACE_HOME": str(tmp_path / "home"), "COLUMNS": "160"}


def test_a_log_and_its_items_become_a_file_that_is_sound(tmp_path: Path, environment: dict[str, str]) -> None:
    log, items = tmp_path / "my ratings.csv", tmp_path / "movies.csv"
    ratings().write_csv(log)
    movies().write_csv(items)

    done = millrace("init", "--log", str(log), "--items", str(items), environment=environment)

    assert done.returncode == 0, done.stderr
    path = tmp_path / "surfaces" / "my_ratings.py"
    assert f"Wrote {path}" in done.stdout
    for column in ("userId", "movieId", "rating", "timestamp", "genres (items)"):
        assert column in done.stdout
    assert "no impression ids" in done.stdout
    command = shlex.split(done.stdout.strip().splitlines()[-1])
    assert command[:6] == ["millrace", "backtest", "--surface", "my_ratings", "--log", str(log)]
    assert millrace("surface", "check", environment=environment).returncode == 0
    surface = read_file(path).surface
    assert surface.log.user_id == "userId"
    assert [column.column for column in surface.features.columns] == ["genres"]


def test_a_file_that_is_there_is_kept(tmp_path: Path, environment: dict[str, str]) -> None:
    log, path = tmp_path / "ratings.parquet", tmp_path / "surfaces" / "ratings.py"
    ratings().write_parquet(log)
    path.parent.mkdir()
    path.write_text("# mine\n")

    refused = millrace("init", "--log", str(log), environment=environment)

    assert refused.returncode == 2
    assert "--name" in refused.stderr
    assert "--force" in refused.stderr
    assert path.read_text() == "# mine\n"
    assert millrace("init", "--log", str(log), "--name", "stars", environment=environment).returncode == 0
    assert millrace("init", "--log", str(log), "--force", environment=environment).returncode == 0
    assert "mine" not in path.read_text()
    twice = millrace("init", "--log", str(log), "--name", "Stars 2", environment=environment)
    assert "Stars 2" in twice.stderr


def test_a_log_that_cannot_be_one_says_what_to_do(tmp_path: Path, environment: dict[str, str]) -> None:
    log = tmp_path / "pairs.tsv"
    ratings().drop("timestamp").write_csv(log, separator="\t")

    done = millrace("init", "--log", str(log), environment=environment)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(log) in done.stderr
    assert "shown_at" in done.stderr
    assert not (tmp_path / "surfaces").exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ratings.csv.gz", "ratings"),
        ("2026-01 Clicks!.parquet", "clicks"),
        ("Ünï__x.jsonl", "n_x"),
        ("___.csv", "surface"),
        ("a" * 50 + ".tsv", "a" * 32),
    ],
)
def test_a_surfaces_name_is_made_of_the_files(file: str, name: str) -> None:
    assert surface_name(file) == name


ODD = [
    *('a "b"', "it's", "back\\slash", "line\nbreak", "dots.and.dots", "^x.*$"),
    *("{brace}", "日本", "#hash", "tab\t", "'''", '"""'),
]
TAKEN = [
    *("item", "user", "stage", "last_seen", "all", "item_context"),
    *("item_kind", "kind", "user_item", "COLUMNS", "timedelta"),
]


@pytest.mark.parametrize("seed", range(4))
def test_columns_of_any_name_make_a_file_that_is_sound_and_formatted(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    draw = np.random.default_rng(seed)
    names = rng.sample(ODD + TAKEN, 10)
    extra = {name: draw.integers(0, rng.choice([2, 3, 9, 500]), ROWS) for name in names}
    frame = ratings().rename({"userId": "user_id", "movieId": "item_id", "timestamp": "shown_at"})
    frame = frame.with_columns(pl.Series(name, values) for name, values in extra.items())

    found = infer(Sample(frame, len(frame)), None, "odd")
    path = tmp_path / "odd.py"
    path.write_text(surface_text("odd", found), encoding="utf-8")

    surface = read_file(path).surface
    assert surface.features.columns == found.columns
    assert surface.log == found.log
    assert surface.features.labels == found.labels
    declared = {column.column for column in surface.features.columns}
    assert declared | {one.column for one in found.taken if one.taken_for == "left out"} >= set(names)
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed here: how the file is formatted is not checked")
    told = [ruff, "format", "--isolated", "--line-length", "120", "--diff", str(path)]
    formatted = subprocess.run(told, capture_output=True, text=True, check=False)
    assert formatted.returncode == 0, formatted.stdout
