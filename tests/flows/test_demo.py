"""The demo begins from nothing, and throws away nothing that it did not make."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.ingest.checking import LOG_COLUMNS
from features.ingest.log_files import Files
from features.ingest.sources import ImportRefused
from flows.backtest.run import BacktestConfig
from flows.cli.demo import MARK, NotOurs, clear_home, fitted, run, span
from flows.cli.demo_worlds import WORLDS
from flows.surface_files import EXAMPLES, read_file
from flows.surfaces.feed import SURFACE as FEED
from infra.settings import Settings
from infra.stack import environment
from infra.stack.home import prepare_home

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = Settings(home=tmp_path / "home")
    for name, value in environment.library_environment(found).items():
        monkeypatch.setenv(name, value)  # and as it was afterwards
    return found


def test_a_fresh_clone_is_nobodys_installation(settings: Settings) -> None:
    clear_home(settings)
    assert [path.name for path in settings.home.iterdir()] == [MARK]


def test_what_a_command_makes_on_its_way_is_no_installation(settings: Settings) -> None:
    environment.apply(settings)  # as the demo itself does first
    prepare_home(settings)
    assert any(settings.home.iterdir())
    clear_home(settings)
    assert (settings.home / MARK).exists()


def test_an_installation_is_left_as_it_is(settings: Settings) -> None:
    (settings.home / "postgres").mkdir(parents=True)
    version = settings.home / "postgres" / "PG_VERSION"
    version.write_text("18")
    with pytest.raises(NotOurs, match=f"{settings.home} holds an installation of yours"):
        clear_home(settings)
    assert version.read_text() == "18"


def test_the_next_demo_begins_from_nothing(settings: Settings) -> None:
    clear_home(settings)
    (settings.home / "log.parquet").write_text("of the last demo")
    clear_home(settings)
    assert [path.name for path in settings.home.iterdir()] == [MARK]


@pytest.mark.parametrize(("hours", "warmup"), [(30.0, 15.0), (72.0, 24.0)])
def test_half_of_a_short_log_is_left_to_be_scored(tmp_path: Path, hours: float, warmup: float) -> None:
    shown = [NOON, NOON + timedelta(hours=hours)]
    path = tmp_path / "log.parquet"
    pl.DataFrame({name: ["1", "2"] for name in LOG_COLUMNS} | {"shown_at": shown, "clicked": ["0", "1"]}).write_parquet(
        path
    )
    assert fitted(FEED, BacktestConfig(Files(path))).warmup == timedelta(hours=warmup)


def test_a_log_without_times_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({name: ["1", "2"] for name in LOG_COLUMNS}).write_parquet(path)
    with pytest.raises(ValueError, match="no impression has a shown_at that is a time with a zone"):
        fitted(FEED, BacktestConfig(Files(path)))
    pl.DataFrame({"shown": [NOON]}).write_parquet(path)
    with pytest.raises(ImportRefused, match="lacks the column 'user_id'"):
        fitted(FEED, BacktestConfig(Files(path)))


@pytest.mark.parametrize("name", WORLDS)
def test_each_example_has_a_log_that_its_surface_reads_and_that_leaves_something_to_score(
    tmp_path: Path, name: str
) -> None:
    config = WORLDS[name](tmp_path, NOON)
    first, last = span(read_file(EXAMPLES / f"{name}.py").surface, config)
    assert last < NOON
    assert first + config.warmup + 5 * config.every < last


def test_a_surface_without_a_world_wants_a_log_before_anything_is_cleared(settings: Settings) -> None:
    (settings.home).mkdir()
    mine = settings.home / "mine"
    mine.touch()
    with pytest.raises(
        ValueError, match="--surface single: there are simulated logs of feed, headlines, movies, search, shop alone"
    ):
        run(settings, "single", None, now=NOON, report=print, progress=lambda stage: None)
    assert mine.exists()
